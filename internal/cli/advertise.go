package cli

import (
	"net"
	"net/url"

	"culvert/certs"
	"culvert/internal/shellquote"
	"culvert/tunnel"
)

// pasteLine returns the command that connects to a remote, as a line to paste into a shell; "" if
// there is no address that others reach. The key is part of the URL.
func (o *listenOptions) pasteLine(
	listeners []net.Listener, secure bool, key certs.PublicKey,
) string {
	var location string
	if o.advertise != "" {
		address, err := tunnel.ParseAddress(o.advertise)
		if err != nil {
			return "" // check has refused it
		}
		location = address.String()
	} else if host := reachableAddress(listeners); host != "" {
		u := url.URL{Scheme: "ws", Host: host, Path: o.path}
		if secure {
			u.Scheme = "wss"
		}
		location = u.String()
	} else {
		return ""
	}
	return "culvert local " + shellquote.Quote(location+"#"+key.String())
}

// reachableAddress returns the first address of the listeners that isn't of loopback, or "". An
// unspecified one stands for the machine's.
func reachableAddress(listeners []net.Listener) string {
	for _, ln := range listeners {
		addr, ok := ln.Addr().(*net.TCPAddr)
		if !ok || addr.IP.IsLoopback() {
			continue
		}
		reached := *addr
		if reached.IP.IsUnspecified() {
			if reached.IP = ownAddress(); reached.IP == nil {
				continue
			}
		}
		reached.Zone = ""
		return reached.String()
	}
	return ""
}

// ownAddress returns an address of this machine that others may reach, IPv4 if there is one, or
// nil.
func ownAddress() (own net.IP) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addresses {
		network, ok := a.(*net.IPNet)
		if !ok || !network.IP.IsGlobalUnicast() {
			continue
		}
		if network.IP.To4() != nil {
			return network.IP
		}
		if own == nil {
			own = network.IP
		}
	}
	return own
}
