package protocol

import (
	"culvert/internal/rawsock"

	"golang.org/x/sys/unix"
)

// LimitUnsent bounds the bytes in the connection's socket that TCP has not sent yet: beyond it,
// writes wait. Data in the socket can't be overtaken. It is a hint: a connection that isn't TCP, or
// whose kernel does not know the option (TCP_NOTSENT_LOWAT, tcp(7)), is left as it is.
func (c *Conn) LimitUnsent(bytes int) {
	tcp := rawsock.TCPOf(c.wire.conn)
	if tcp == nil {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = rawsock.SetInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, bytes)
	})
}
