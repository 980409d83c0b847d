package protocol

import (
	"net"
	"sync/atomic"

	"culvert/internal/rawsock"
	"culvert/internal/tcpinfo"

	"golang.org/x/sys/unix"
)

// sendBuffer enlarges a socket's send buffer when TCP has waited for room in it. By itself, Linux
// makes it no larger than the third number of net.ipv4.tcp_wmem, which is 4 MiB as a rule and holds
// 2.8 MB in flight: 28 MB/s at a round trip of 100 ms. A program may have a larger one where
// net.core.wmem_max allows it (tcp(7), socket(7)), by default since Linux 6.18. No queue grows by
// that: the session bounds what it has in flight, and LimitUnsent what waits in the socket.
//
// Its zero value is ready. look may be called concurrently.
type sendBuffer struct {
	waited  atomic.Uint64 // for how long TCP had waited for room at the last look, in µs
	settled atomic.Bool   // the buffer was enlarged, or can't be
}

// look takes for how long TCP has waited for room so far, in µs.
func (b *sendBuffer) look(tcp *net.TCPConn, waited uint64) {
	if before := b.waited.Swap(waited); waited <= before || b.settled.Load() {
		return
	}
	info := tcpinfo.Of(tcp)
	if info == nil || info.MaxSendBuffer == 0 || int64(info.SendBuffer) < info.MaxSendBuffer {
		return // it still grows by itself
	}
	b.settled.Store(true)
	granted := grantedSendBuffer(sendBufferFactor * int(info.MaxSendBuffer))
	if granted <= info.SendBuffer {
		return
	}
	if raw, err := tcp.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = rawsock.SetInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, granted/2) // Linux doubles it
		})
	}
}

// grantedSendBuffer returns the size of the send buffer of a socket for which one of size bytes was
// asked: to ask for more than is granted may make a buffer smaller than it was.
func grantedSendBuffer(size int) int {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, size/2) != nil {
		return 0
	}
	granted, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF)
	if err != nil {
		return 0
	}
	return granted
}
