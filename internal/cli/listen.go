package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"culvert/internal/congestion"
	"culvert/tunnel/policy"
)

// listenAll binds every address or none. Sockets that are bound here get the access.
func listenAll(addresses []string, access policy.SocketAccess) ([]net.Listener, error) {
	var listeners []net.Listener
	for _, text := range addresses {
		address, err := listenAddress("listen", text, everyone, "8080")
		var ln net.Listener
		if err == nil {
			ln, err = listenFor(address, access)
		}
		if err != nil {
			closeAll(listeners)
			hint := "give another address with --listen"
			switch {
			case errors.Is(err, errPassedSocket):
				hint = "give SocketMode= and SocketGroup= in the socket unit instead"
			case errors.Is(err, policy.ErrSocketGroup):
				hint = "the user that culvert runs as has to be a member of --socket-group"
			}
			return nil, cannotListen(address, hint, err)
		}
		listeners = append(listeners, ln)
	}
	return listeners, nil
}

// errPassedSocket is part of the error when the access to a socket that was passed can't be
// changed.
var errPassedSocket = errors.New("the socket that was passed keeps its mode and group")

func closeAll(listeners []net.Listener) {
	for _, ln := range listeners {
		ln.Close()
	}
}

// listen binds an address, or takes over the socket that a service manager has bound to it. Only
// the user may connect to a unix socket that it binds.
func listen(address string) (net.Listener, error) {
	ln, err := listenFor(address, policy.SocketAccess{})
	if err == nil {
		congestion.UnpaceListener(ln)
	}
	return ln, err
}

// listenFor is listen with an access to a unix socket, also to one that was passed, unless that is
// zero.
func listenFor(address string, access policy.SocketAccess) (net.Listener, error) {
	path, isUnix := strings.CutPrefix(address, "unix:")
	if ln := passedListener(address); ln != nil {
		if isUnix && access != (policy.SocketAccess{}) {
			if err := access.Apply(path); err != nil {
				ln.Close()
				return nil, fmt.Errorf("%w: %w", errPassedSocket, err)
			}
		}
		return ln, nil
	}
	if isUnix {
		return policy.ListenUnixFor(path, access)
	}
	var cfg net.ListenConfig
	if bind, err := netip.ParseAddrPort(address); err == nil && bind.Addr().IsLoopback() {
		cfg.KeepAliveConfig = policy.LoopbackKeepAlive()
	}
	return cfg.Listen(context.Background(), "tcp"+policy.AddressVersion(address), address)
}

// passedListener returns the listener for an address that the process was given, or nil.
func passedListener(address string) net.Listener {
	if sockets, _ := inherited(); sockets != nil { // refuseLeft reports the error
		return sockets.Listener(address)
	}
	return nil
}

// listenUDP is listen for datagrams.
func listenUDP(address string) (*net.UDPConn, error) {
	if sockets, _ := inherited(); sockets != nil {
		if conn, ok := sockets.PacketConn(address).(*net.UDPConn); ok {
			return conn, nil
		}
	}
	conn, err := net.ListenPacket("udp"+policy.AddressVersion(address), address)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}

func listenerAddress(ln net.Listener) string {
	if addr := ln.Addr(); addr.Network() == "unix" {
		return "unix:" + addr.String()
	}
	return ln.Addr().String()
}
