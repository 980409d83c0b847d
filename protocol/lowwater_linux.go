package protocol

import (
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"culvert/internal/rawsock"

	"golang.org/x/sys/unix"
)

// lowWater sets how many bytes must be in a socket before it wakes a read that waits (SO_RCVLOWAT,
// socket(7)); the end of the stream wakes it in any case.
type lowWater struct {
	raw   syscall.RawConn
	bytes atomic.Int64 // the mark that is set; 0 for the system's, which is 1
	set   func(fd uintptr)

	most    int       // bytes that a mark may be
	checked time.Time // when that was looked up
	check   func(fd uintptr)
}

// newLowWater returns nil where conn is not a socket of TCP, since below TLS, other bytes arrive
// than are read; and where nothing but a read would tell that some of a record has arrived.
func newLowWater(conn net.Conn) *lowWater {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	told := false
	_ = raw.Control(func(fd uintptr) {
		info, err := rawsock.TCPInfo(fd)
		told = err == nil && tellsArrival(info)
	})
	if !told {
		return nil
	}
	l := &lowWater{raw: raw}
	l.set = func(fd uintptr) {
		_ = rawsock.SetInt(fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, int(l.bytes.Load()))
	}
	l.check = func(fd uintptr) {
		buffer, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF)
		if err != nil {
			buffer = 0
		}
		l.most = buffer / lowWaterShare
	}
	return l
}

// mark sets the mark, or a lower one where the socket's buffer is small; 0 for the system's. Only
// the goroutine that reads may call it.
func (l *lowWater) mark(bytes int) {
	if bytes > 0 {
		if now := time.Now(); now.Sub(l.checked) >= lowWaterCheck {
			l.checked = now
			_ = l.raw.Control(l.check)
		}
		if bytes = min(bytes, l.most); bytes < minReadBuffer {
			bytes = 0
		}
	}
	if int64(bytes) != l.bytes.Load() {
		l.bytes.Store(int64(bytes))
		_ = l.raw.Control(l.set)
	}
}

// tellsArrival reports whether the system fills in when data, and acknowledgements, arrived last.
// gVisor may leave that 0, with all else that Linux estimates from the first segment on.
func tellsArrival(info *unix.TCPInfo) bool { return info.Rcv_mss > 0 }

// marked reports whether bytes may be in the socket without waking a read.
func (l *lowWater) marked() bool { return l != nil && l.bytes.Load() > 0 }

// lastArrival returns when TCP last received data, the zero time for a connection that isn't TCP,
// or where the system doesn't tell.
func (c *Conn) lastArrival() time.Time {
	info := c.tcpInfo()
	if info == nil || !tellsArrival(info) {
		return time.Time{}
	}
	return time.Now().Add(-time.Duration(info.Last_data_recv) * time.Millisecond)
}
