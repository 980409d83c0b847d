package tunnel

import (
	"encoding/binary"
	"net/netip"

	"culvert/tunnel/policy"
)

// A stream of datagrams is for one target, which its open frame names, or for any. In the second
// case its target is empty, and each datagram begins with an address in the form of RFC 1928,
// section 5, followed by the payload. The address is the target's on the way to the remote, and the
// source's, which is never a name, on the way back:
//
//	type 1 · IPv4 address 4, length 1 and name 1–255, or IPv6 address 16 · port 2, big-endian
const (
	addressIPv4 = 1
	addressName = 3
	addressIPv6 = 4

	sourceSize = 1 + 16 + 2 // of the longest source address
)

// endpoint is the address of a datagram: a name or, when that is empty, an IP address.
type endpoint struct {
	name string
	addr netip.Addr // never IPv4-mapped
	port uint16
}

// newEndpoint returns the endpoint for a host, which is a name or an address.
func newEndpoint(host string, port uint16) (endpoint, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return endpoint{addr: addr.Unmap().WithZone(""), port: port}, nil
	}
	if host == "" || len(host) > 255 {
		return endpoint{}, policy.ErrBadTarget
	}
	return endpoint{name: host, port: port}, nil
}

// size returns the length of the encoded endpoint.
func (e endpoint) size() int {
	switch {
	case e.name != "":
		return 1 + 1 + len(e.name) + 2
	case e.addr.Is4():
		return 1 + 4 + 2
	}
	return 1 + 16 + 2
}

// append appends the encoded endpoint.
func (e endpoint) append(b []byte) []byte {
	switch {
	case e.name != "":
		b = append(append(b, addressName, byte(len(e.name))), e.name...)
	case e.addr.Is4():
		b = append(b, addressIPv4)
		b = append(b, e.addr.AsSlice()...)
	default:
		b = append(b, addressIPv6)
		b = append(b, e.addr.AsSlice()...)
	}
	return binary.BigEndian.AppendUint16(b, e.port)
}

// parseEndpoint splits a datagram into its address and its payload, which aliases it. Any bytes
// give an endpoint or an error.
func parseEndpoint(p []byte) (e endpoint, payload []byte, err error) {
	if len(p) < 2 {
		return endpoint{}, nil, policy.ErrBadTarget
	}
	start, size := 1, 0
	switch p[0] {
	case addressIPv4:
		size = 4
	case addressIPv6:
		size = 16
	case addressName:
		start, size = 2, int(p[1])
	}
	end := start + size
	if size == 0 || len(p) < end+2 {
		return endpoint{}, nil, policy.ErrBadTarget
	}
	if p[0] == addressName {
		e.name = string(p[start:end])
	} else {
		addr, _ := netip.AddrFromSlice(p[start:end])
		e.addr = addr.Unmap()
	}
	if e.port = binary.BigEndian.Uint16(p[end:]); e.port == 0 {
		return endpoint{}, nil, policy.ErrBadTarget
	}
	return e, p[end+2:], nil
}
