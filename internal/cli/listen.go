package cli

import (
	"context"
	"net"
	"net/netip"
	"strings"

	"culvert/tunnel/policy"
)

// listenAll binds every address or none.
func listenAll(addresses []string) ([]net.Listener, error) {
	var listeners []net.Listener
	for _, text := range addresses {
		address, err := listenAddress("listen", text, everyone, "8080")
		var ln net.Listener
		if err == nil {
			ln, err = listen(address)
		}
		if err != nil {
			for _, ln := range listeners {
				ln.Close()
			}
			return nil, cannotListen(address, "give another address with --listen", err)
		}
		listeners = append(listeners, ln)
	}
	return listeners, nil
}

// listen binds an address, or takes over the socket that a service manager has bound to it.
func listen(address string) (net.Listener, error) {
	if sockets, _ := inherited(); sockets != nil { // refuseLeft reports the error
		if ln := sockets.Listener(address); ln != nil {
			return ln, nil
		}
	}
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return policy.ListenUnix(path)
	}
	var cfg net.ListenConfig
	if bind, err := netip.ParseAddrPort(address); err == nil && bind.Addr().IsLoopback() {
		cfg.KeepAlive = -1 // a peer on this machine does not vanish silently
	}
	return cfg.Listen(context.Background(), "tcp", address)
}

// listenUDP is listen for datagrams.
func listenUDP(address string) (*net.UDPConn, error) {
	if sockets, _ := inherited(); sockets != nil {
		if conn, ok := sockets.PacketConn(address).(*net.UDPConn); ok {
			return conn, nil
		}
	}
	conn, err := net.ListenPacket("udp", address)
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
