// Package congestion chooses the congestion control of TCP connections, where the system lets a
// program choose: on Linux (tcp(7), TCP_CONGESTION).
package congestion

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"

	"culvert/internal/rawsock"
)

const (
	// Auto is the choice of BBR where the system has it and permits it, which goes on sending where
	// packets are lost for other reasons than congestion. Elsewhere it is System. Between processes
	// of this machine nothing is lost, and BBR's timers would cost a tenth of the processor time: a
	// connection keeps what the system has, and where that is BBR, it has Reno.
	Auto = "auto"

	// System is the choice to leave connections as the system has made them.
	System = "system"

	preferred = "bbr"  // by Auto
	unpaced   = "reno" // by Auto on this machine; part of every Linux

	// maxName is the number of bytes of a name that Linux takes; it ignores more.
	maxName = 15
)

var (
	// ErrUnknown is the error for an algorithm that the system does not have.
	ErrUnknown = errors.New("this system has no such congestion control")

	// ErrNotPermitted is the error for an algorithm that the system lets only root choose.
	ErrNotPermitted = errors.New("the system doesn't permit this congestion control")

	// ErrUnsupported is the error where a program can't choose.
	ErrUnsupported = errors.New("on this system a program can't choose the congestion control")
)

// Check returns an error if a choice is neither Auto nor System nor an algorithm that the system
// has. An algorithm that it has and doesn't permit is no error.
func Check(choice string) error {
	if choice == Auto || choice == System {
		return nil
	}
	if choice == "" || len(choice) > maxName || strings.ContainsRune(choice, 0) {
		return ErrUnknown
	}
	err := probe(choice)
	if errors.Is(err, ErrNotPermitted) {
		return nil
	}
	return err
}

// Apply makes a choice for a connection, which is one of TCP or has one as its NetConn; others are
// left alone. The connection works as before when it fails. With Auto, an algorithm that the system
// does not have is no error.
func Apply(conn net.Conn, choice string) error {
	tcp := rawsock.TCPOf(conn)
	if tcp == nil || choice == System {
		return nil
	}
	if choice != Auto {
		return wrap(set(tcp, choice), choice)
	}
	if staysHere(tcp) {
		unpace(tcp)
		return nil
	}
	err := set(tcp, preferred)
	if errors.Is(err, ErrUnknown) || errors.Is(err, ErrUnsupported) {
		return nil
	}
	return wrap(err, preferred)
}

// UnpaceListener does for the connections that a listener will accept what Auto does within this
// machine, if it is a TCP listener that only this machine reaches.
func UnpaceListener(ln net.Listener) {
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		return
	}
	if near, ok := tcp.Addr().(*net.TCPAddr); ok && near.IP.IsLoopback() {
		unpace(tcp)
	}
}

// UnpaceDial is a net.Dialer's Control that does the same for a connection to this machine.
func UnpaceDial(network, address string, socket syscall.RawConn) {
	to, err := netip.ParseAddrPort(address)
	if err == nil && strings.HasPrefix(network, "tcp") && to.Addr().Unmap().IsLoopback() {
		unpaceSocket(socket)
	}
}

// unpace gives a connection Reno, or those that a listener will accept, where the system gives it
// BBR.
func unpace(c syscall.Conn) {
	if socket, err := c.SyscallConn(); err == nil {
		unpaceSocket(socket)
	}
}

// staysHere reports whether both ends of a connection are on this machine.
func staysHere(conn net.Conn) bool {
	near, nearOK := conn.LocalAddr().(*net.TCPAddr)
	far, farOK := conn.RemoteAddr().(*net.TCPAddr)
	return nearOK && farOK && (far.IP.IsLoopback() || far.IP.Equal(near.IP))
}

func wrap(err error, name string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", name, err)
}

// Of returns the name of the algorithm in force on a connection, "" if it is not known.
func Of(conn net.Conn) string {
	tcp := rawsock.TCPOf(conn)
	if tcp == nil {
		return ""
	}
	return get(tcp)
}
