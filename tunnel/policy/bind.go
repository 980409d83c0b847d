package policy

import (
	"net"
	"net/netip"
	"strings"

	"culvert/internal/congestion"
)

// The prefixes of an address to bind: that of host:port for TCP, of host:port for UDP, and of an
// absolute path. A target that is a path has UnixPrefix too.
const (
	TCPPrefix  = "tcp:"
	UDPPrefix  = "udp:"
	UnixPrefix = "unix:"
)

// Bind is an address that a client asks the remote to listen on.
type Bind struct {
	Addr   netip.AddrPort // :: for all addresses of both IP versions, as in package net
	UDP    bool           // Addr is a UDP address, not a TCP one
	Socket string         // an absolute path; then Addr is the zero value
}

// ParseBind parses an address to bind, which begins with one of the prefixes. The host may be an
// address, localhost, or * or nothing for all addresses. An error is ErrBadTarget.
func ParseBind(text string) (Bind, error) {
	if socket, ok := strings.CutPrefix(text, UnixPrefix); ok {
		if !isSocketPath(socket) {
			return Bind{}, ErrBadTarget
		}
		return Bind{Socket: socket}, nil
	}
	hostPort, udp := strings.CutPrefix(text, UDPPrefix)
	if !udp {
		var tcp bool
		if hostPort, tcp = strings.CutPrefix(text, TCPPrefix); !tcp {
			return Bind{}, ErrBadTarget
		}
	}
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return Bind{}, ErrBadTarget
	}
	switch strings.ToLower(host) {
	case "", "*":
		host = "::"
	case "localhost":
		host = "127.0.0.1"
	}
	addr, err := netip.ParseAddrPort(net.JoinHostPort(host, port))
	if err != nil {
		return Bind{}, ErrBadTarget
	}
	return Bind{Addr: netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), UDP: udp}, nil
}

// Listen binds an address that is not a UDP one.
func (b Bind) Listen() (net.Listener, error) {
	if b.Socket != "" {
		return ListenUnix(b.Socket)
	}
	ln, err := net.Listen("tcp"+b.version(), b.Addr.String())
	if err == nil {
		congestion.UnpaceListener(ln)
	}
	return ln, err
}

// ListenUDP binds an address that is a UDP one.
func (b Bind) ListenUDP() (*net.UDPConn, error) {
	// Not net.ListenUDP, which doesn't take :: for 0.0.0.0 where there is no IPv6.
	conn, err := net.ListenPacket("udp"+b.version(), b.Addr.String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}

func (b Bind) version() string { return AddressVersion(b.Addr.String()) }

// AddressVersion completes the name of a network, tcp or udp, so that HOST:PORT with an IPv4
// address is bound for IPv4 alone. Package net takes 0.0.0.0 for all addresses of both versions,
// which is more than was asked for, and maybe more than is granted.
func AddressVersion(address string) string {
	if addr, err := netip.ParseAddrPort(address); err == nil && addr.Addr().Is4() {
		return "4"
	}
	return ""
}

// Conflicts reports whether b and other may not be bindable at once.
func (b Bind) Conflicts(other Bind) bool {
	own, others := b.Addr.Addr(), other.Addr.Addr()
	return b.Socket == other.Socket && b.UDP == other.UDP && b.Addr.Port() == other.Addr.Port() &&
		(own == others || own.IsUnspecified() || others.IsUnspecified())
}

// Overlaps reports whether a connection, or a datagram, could be for b as well as for other. Linux
// lets nobody bind such addresses at once. Other systems do, and lead it to the one that is more
// specific.
func (b Bind) Overlaps(other Bind) bool {
	own, others := b.Addr.Addr(), other.Addr.Addr()
	if b.Socket != "" || other.Socket != "" || b.UDP != other.UDP || b.Addr.Port() == 0 ||
		b.Addr.Port() != other.Addr.Port() {
		return false
	}
	switch {
	case own == others, own == netip.IPv6Unspecified(), others == netip.IPv6Unspecified():
		return true // :: is bound for both versions
	case own.Is4() != others.Is4():
		return false
	}
	return own.IsUnspecified() || others.IsUnspecified()
}
