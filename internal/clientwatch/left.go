package clientwatch

import (
	"net"

	"culvert/internal/rawsock"
)

// HasLeft reports whether a client that nothing is read from has gone, as far as the system can
// tell: its connection was reset, or as a Unix socket closed. A read still yields what it has sent
// before. Connections that are no sockets may have HasLeft themselves.
func HasLeft(conn net.Conn) bool {
	conn = rawsock.Unwrap(conn)
	if c, ok := conn.(interface{ HasLeft() bool }); ok {
		return c.HasLeft()
	}
	raw := rawsock.SocketOf(conn)
	return raw != nil && rawsock.HasHungUp(raw)
}
