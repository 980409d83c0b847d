package policy

import (
	"net/netip"
	"slices"
)

// ReverseRules decide which addresses a remote may listen on for its clients. Nil and empty ones
// grant nothing. They are immutable, so goroutines may share them.
type ReverseRules struct{ grants []rule }

// ParseReverseRules parses rules in the grammar of ParseRules, each of which grants the addresses
// it covers. Their hosts are addresses to bind, localhost or *: with other names, the DNS would
// decide what is granted. An error names the rule.
func ParseReverseRules(texts []string) (*ReverseRules, error) {
	grants, err := parseRules(texts)
	if err != nil {
		return nil, err
	}
	for _, g := range grants {
		name := g.name
		if g.local {
			name = "private"
		}
		if name != "" && name != "localhost" {
			return nil, &RuleError{name, "what -R may bind is an address, localhost or *, " +
				"with ports if you like, or unix:/path"}
		}
	}
	return &ReverseRules{grants}, nil
}

// Grant reports whether an address may be bound. A rule about a port grants it for TCP and UDP
// alike, as the rules for targets do. Port 0, which is any, needs a rule for all ports. All
// addresses of the machine, of both IP versions, need * or [::] itself.
func (r *ReverseRules) Grant(bind Bind) bool {
	return r != nil && slices.ContainsFunc(r.grants, func(g rule) bool {
		if bind.Socket != "" || g.socket != "" {
			return g.socket == bind.Socket
		}
		addr := bind.Addr.Addr().WithZone("") // no prefix contains addresses with zones
		switch {
		case !g.hasPort(bind.Addr.Port()):
			return false
		case g.name != "":
			return addr == netip.AddrFrom4([4]byte{127, 0, 0, 1}) || addr == netip.IPv6Loopback()
		case addr == netip.IPv6Unspecified():
			return g.any || g.prefix == netip.PrefixFrom(addr, addr.BitLen())
		}
		return g.hasAddr(addr)
	})
}

// GrantBound reports whether what was bound may stay so, as it was asked for or as it turned out:
// a client that asked for any port may also keep the one it got.
func (r *ReverseRules) GrantBound(bound Bind, asked string) bool {
	bind, err := ParseBind(asked)
	return r.Grant(bound) || (err == nil && r.Grant(bind))
}
