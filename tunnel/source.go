package tunnel

import "net/netip"

// source is where a client comes from, a prefix of clientPrefix. It is the zero value when that is
// unknown: clients on this machine, and behind a proxy, can't be told apart.
type source = netip.Prefix

// sourceOf returns the source of a client at addr.
func sourceOf(addr netip.Addr) source {
	addr = addr.Unmap()
	if !addr.IsValid() || addr.IsLoopback() || addr.IsUnspecified() {
		return source{}
	}
	return clientPrefix(addr)
}

// clientPrefix returns the addresses that are as easy to have as one of them: IPv6 networks are
// given out by /64 at least (RFC 6177).
func clientPrefix(addr netip.Addr) netip.Prefix {
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	prefix, _ := addr.WithZone("").Prefix(bits) // never fails for these
	return prefix
}
