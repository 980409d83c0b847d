package tcpinfo

import (
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func read(conn *net.TCPConn) *Info {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil
	}
	var info *unix.TCPInfo
	var receive, send int
	controlErr := raw.Control(func(descriptor uintptr) {
		fd := int(descriptor)
		if info, err = unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO); err != nil {
			return
		}
		receive, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
		send, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF)
	})
	if controlErr != nil || err != nil || info.Min_rtt == 0 { // before Linux 4.6, and in gVisor
		return nil
	}
	const micro = time.Microsecond
	return &Info{
		RoundTrip:        time.Duration(info.Rtt) * micro,
		MinRoundTrip:     time.Duration(info.Min_rtt) * micro,
		Segments:         info.Data_segs_out,
		Resent:           info.Total_retrans,
		Unnecessary:      info.Dsack_dups,
		Busy:             time.Duration(info.Busy_time) * micro,
		WindowLimited:    time.Duration(info.Rwnd_limited) * micro,
		BufferLimited:    time.Duration(info.Sndbuf_limited) * micro,
		PeerWindow:       info.Snd_wnd,
		ReceiveBuffer:    receive,
		SendBuffer:       send,
		MaxReceiveBuffer: maxOf("tcp_rmem"),
		MaxSendBuffer:    maxOf("tcp_wmem"),
	}
}

// maxOf returns the maximum of a setting of three numbers, 0 if it can't be read.
func maxOf(setting string) int64 {
	text, err := os.ReadFile("/proc/sys/net/ipv4/" + setting)
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) != 3 {
		return 0
	}
	n, _ := strconv.ParseInt(fields[2], 10, 64)
	return n
}
