package tunnel

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"culvert/certs"
)

// ReverseRules say which addresses a remote may listen on for its clients. Nil ones, and empty ones, grant nothing. They
// never change, so that goroutines may share them.
type ReverseRules struct{ grants []rule }

// ParseReverseRules reads rules in the grammar of ParseRules, of which each grants what it is about. Their hosts are
// addresses to bind, localhost or *: binding a name would leave to the DNS what is granted. An error about a rule is a
// *RuleError.
func ParseReverseRules(texts []string) (*ReverseRules, error) {
	grants, err := parseRules(texts)
	if err != nil {
		return nil, err
	}
	for _, g := range grants {
		if g.name != "" && g.name != "localhost" {
			return nil, &RuleError{g.name, "what -R may bind is an address, localhost or *, with ports if you like, or unix:/path"}
		}
	}
	return &ReverseRules{grants}, nil
}

// reverseForKeys returns the rules of the keys whose lines say what they may bind.
func reverseForKeys(keys *certs.AuthorizedKeys) (map[certs.PublicKey]*ReverseRules, error) {
	rules := make(map[certs.PublicKey]*ReverseRules)
	for entry := range keys.All() {
		if entry.Reverse == nil {
			continue
		}
		granted, err := ParseReverseRules([]string{strings.Join(entry.Reverse, ",")})
		if err != nil {
			return nil, &KeyLineError{entry.Line, "reverse", err}
		}
		rules[entry.Key] = granted
	}
	return rules, nil
}

// grant says that an address may be bound. A rule about a port grants it for TCP and UDP alike, as the rules for targets do. Port 0, which is any, needs a rule for all ports. All addresses of the machine,
// of both IP versions, need * or [::] itself.
func (r *ReverseRules) grant(bind bindAddress) bool {
	return r != nil && slices.ContainsFunc(r.grants, func(g rule) bool {
		if bind.socket != "" || g.socket != "" {
			return g.socket == bind.socket
		}
		addr := bind.addr.Addr().WithZone("") // which no prefix contains
		switch {
		case !g.hasPort(bind.addr.Port()):
			return false
		case g.name != "":
			return addr == netip.AddrFrom4([4]byte{127, 0, 0, 1}) || addr == netip.IPv6Loopback()
		case addr == netip.IPv6Unspecified():
			return g.any || g.prefix == netip.PrefixFrom(addr, addr.BitLen())
		}
		return g.hasAddr(addr)
	})
}

// tcpPrefix and udpPrefix begin an address to bind that is host:port, as socketPrefix does one that is a path.
const (
	tcpPrefix = "tcp:"
	udpPrefix = "udp:"
)

// bindAddress is what a client wants the remote to listen on.
type bindAddress struct {
	addr   netip.AddrPort // :: for all addresses of both IP versions, as package net has it
	udp    bool           // addr is one of UDP, not TCP
	socket string         // an absolute path; then addr is empty
}

// parseBind reads the target of a mux.StreamListen. The host may be an address, localhost, or * or nothing for all.
func parseBind(text string) (bindAddress, error) {
	if socket, ok := strings.CutPrefix(text, socketPrefix); ok {
		if !isSocketPath(socket) {
			return bindAddress{}, errBadTarget
		}
		return bindAddress{socket: socket}, nil
	}
	hostPort, udp := strings.CutPrefix(text, udpPrefix)
	if !udp {
		var tcp bool
		if hostPort, tcp = strings.CutPrefix(text, tcpPrefix); !tcp {
			return bindAddress{}, errBadTarget
		}
	}
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return bindAddress{}, errBadTarget
	}
	switch strings.ToLower(host) {
	case "", "*":
		host = "::"
	case "localhost":
		host = "127.0.0.1"
	}
	addr, err := netip.ParseAddrPort(net.JoinHostPort(host, port))
	if err != nil {
		return bindAddress{}, errBadTarget
	}
	return bindAddress{addr: netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), udp: udp}, nil
}

// listen binds an address that is not one of UDP.
func (b bindAddress) listen() (net.Listener, error) {
	if b.socket != "" {
		return ListenUnix(b.socket)
	}
	return net.Listen("tcp"+b.version(), b.addr.String())
}

// version completes the name of a network, so that an IPv4 address is bound for IPv4 alone. Package net has 0.0.0.0 stand for
// all addresses of both versions, which is more than was asked for, and maybe more than is granted.
func (b bindAddress) version() string {
	if b.addr.Addr().Is4() {
		return "4"
	}
	return ""
}

// conflicts says that both can't be bound at once, as far as their ports or paths tell.
func (b bindAddress) conflicts(other bindAddress) bool {
	return b.socket == other.socket && b.udp == other.udp && b.addr.Port() == other.addr.Port()
}
