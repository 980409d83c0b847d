//go:build !linux

package socks

import "net"

// unsent reports whether the peer of a connection has yet to acknowledge some of what was
// written to it. Nothing portable tells, so a reset is held back for as long as it may be.
func unsent(conn net.Conn) bool {
	_, resets := conn.(lingerer)
	return resets
}
