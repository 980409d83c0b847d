package policy

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"

	"culvert/internal/netfault"
)

// smallBuffers is the key of a context's value.
type smallBuffers struct{}

// WithSmallBuffers returns a context in which the socket of a target that Connect or Dial connects
// to begins with room for 16 KiB that was not read, in place of some 128 KiB, and keeps no more
// than about as much that the target doesn't read, in place of 512 KiB. As the socket is read, the
// room grows as ever. It is for clients with so many streams that the kernel's memory
// matters. It does nothing except on Linux, and the first not before 5.16.
func WithSmallBuffers(ctx context.Context) context.Context {
	return context.WithValue(ctx, smallBuffers{}, true)
}

// Connect is the dialer's DialContext, but for two kinds of targets. A UDP target that refuses what
// is sent is tried at its next address, as in [Rules.Dial].
//
// The others reset the connection as soon as they have said something, as servers do that are full.
// Package net looks at a new connection only when the poller has woken it. When it was reset until
// then, the dial fails, and what the target has sent is lost. Connect returns the connection then,
// to read from, where the system allows that.
func Connect(ctx context.Context, dialer net.Dialer, network, address string) (net.Conn, error) {
	switch {
	case strings.HasPrefix(network, "udp"):
		return connectUDPName(ctx, dialer, network, address)
	case network == "unix":
		return dialUnix(ctx, dialer, address)
	case !strings.HasPrefix(network, "tcp"):
		return dialer.DialContext(ctx, network, address)
	}
	var spares spareSockets
	defer spares.close()
	dialer.ControlContext = spares.add
	conn, err := dialer.DialContext(ctx, network, address)
	if netfault.Is(err, syscall.ECONNRESET) {
		if found, ok := spares.unread().(*net.TCPConn); ok {
			return resetConn{found}, nil
		}
	}
	return conn, err
}

// ConnectHere is Connect for a target without rules, with a dialer of its own. A name is looked up
// in the places that ctx has for that: see WithLookups.
func ConnectHere(ctx context.Context, network, address string) (net.Conn, error) {
	if strings.HasPrefix(network, "tcp") {
		if addrs, err := lookUpTarget(ctx, network, address); err != nil {
			return nil, err
		} else if addrs != nil {
			return dialAny(ctx, network, addrs)
		}
	}
	return Connect(ctx, net.Dialer{}, network, address)
}

// resetConn is a connection that was reset before it was returned, which took the error of the
// reset from the socket.
type resetConn struct{ *net.TCPConn }

// Read returns the error of a reset in place of an end of file.
func (c resetConn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	if errors.Is(err, io.EOF) {
		err = &net.OpError{Op: "read", Net: "tcp", Source: c.LocalAddr(), Err: syscall.ECONNRESET}
	}
	return n, err
}

// NetConn returns the connection of package net.
func (c resetConn) NetConn() net.Conn { return c.TCPConn }
