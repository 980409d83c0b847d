package tunnel

import (
	"net"

	"culvert/internal/tcpinfo"
	"culvert/tunnel/mux"
)

// tcpInfoOf returns what the system knows of the connection of a carrier, nil for nothing.
func tcpInfoOf(carrier mux.Carrier) *tcpinfo.Info {
	conn, ok := carrier.(interface{ NetConn() net.Conn })
	if !ok {
		return nil
	}
	return tcpinfo.Of(conn.NetConn())
}
