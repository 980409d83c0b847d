package rawsock

import "net"

// Unwrap returns the connection under those that have NetConn, as types that wrap one do.
func Unwrap(conn net.Conn) net.Conn {
	for {
		c, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return conn
		}
		conn = c.NetConn()
	}
}

// TCPOf returns the TCP connection that conn is or wraps, nil for none.
func TCPOf(conn net.Conn) *net.TCPConn {
	tcp, _ := Unwrap(conn).(*net.TCPConn)
	return tcp
}
