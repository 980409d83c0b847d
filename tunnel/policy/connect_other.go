//go:build !linux

package policy

import (
	"context"
	"net"
	"syscall"
)

// spareSockets is for systems that drop what a connection has brought when it is reset, or may.
type spareSockets struct{}

func (spareSockets) add(context.Context, string, string, syscall.RawConn) error { return nil }
func (spareSockets) unread() net.Conn                                           { return nil }
func (spareSockets) close()                                                     {}

// BoundBuffers leaves the buffers to the system. Where another one than Linux has
// TCP_NOTSENT_LOWAT, that delays writers and bounds nothing.
func BoundBuffers(net.Conn, bool) {}
