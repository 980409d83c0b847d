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
	for _, address := range addresses {
		ln, err := listen(address)
		if err != nil {
			for _, ln := range listeners {
				ln.Close()
			}
			return nil, cannotListen(address, "--listen", "give another address with --listen", err)
		}
		listeners = append(listeners, ln)
	}
	return listeners, nil
}

func listen(address string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return policy.ListenUnix(path)
	}
	var cfg net.ListenConfig
	if bind, err := netip.ParseAddrPort(address); err == nil && bind.Addr().IsLoopback() {
		cfg.KeepAlive = -1 // a peer on this machine does not vanish silently
	}
	return cfg.Listen(context.Background(), "tcp", address)
}

func listenerAddress(ln net.Listener) string {
	if addr := ln.Addr(); addr.Network() == "unix" {
		return "unix:" + addr.String()
	}
	return ln.Addr().String()
}
