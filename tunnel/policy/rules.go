package policy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// ErrNotAllowed is the error for a target that the rules forbid.
var ErrNotAllowed = errors.New("not allowed by the rules")

// Rules decide which targets a remote may reach for its clients. Every stream of every kind goes
// through Resolve, Dial or DialUnix.
//
// A target is forbidden if a rule to deny covers its name or its address. If there are rules to
// allow, it is also forbidden unless one of them covers either. A name is checked before it is
// looked up, and each of its addresses afterwards; only addresses that passed are returned and
// dialed, so a change in the DNS a moment later has no effect. Special addresses, see the variable
// specials, are forbidden unless a rule to allow covers them explicitly.
//
// Rules are immutable, so goroutines may share them. Nil Rules forbid special addresses and nothing
// else.
type Rules struct {
	deny  []rule
	allow [][]rule // each list must allow the target; none is empty

	// lookup resolves names; nil means the system's resolver. Only tests set it.
	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// ParseRules parses the rules to allow and those to deny. Each text holds one or several rules,
// separated by commas, in the grammar of docs/rules.md. An error names the rule.
func ParseRules(allow, deny []string) (*Rules, error) {
	denied, err := parseRules(deny)
	if err != nil {
		return nil, err
	}
	allowed, err := parseRules(allow)
	if err != nil {
		return nil, err
	}
	r := &Rules{deny: denied}
	if len(allowed) > 0 {
		r.allow = [][]rule{allowed}
	}
	return r, nil
}

// narrow returns rules that also forbid what none of allow covers.
func (r *Rules) narrow(allow []rule) *Rules {
	if r == nil {
		r = &Rules{}
	}
	return &Rules{deny: r.deny, allow: append(slices.Clip(r.allow), allow), lookup: r.lookup}
}

// Resolve returns the addresses at which a target may be reached, the best first: the host itself
// if it is an address, or those addresses of its name that the rules allow. The network is "tcp" or
// "udp", or one of these for a single IP version, such as "tcp4". The error is ErrNotAllowed when
// the rules forbid the target, and a *net.DNSError for a name without addresses.
func (r *Rules) Resolve(
	ctx context.Context, network, host string, port uint16,
) ([]netip.AddrPort, error) {
	family, ok := map[string]string{
		"tcp": "ip", "tcp4": "ip4", "tcp6": "ip6",
		"udp": "ip", "udp4": "ip4", "udp6": "ip6",
	}[network]
	if !ok || port == 0 {
		return nil, ErrBadTarget
	}
	if addr, err := netip.ParseAddr(strings.TrimSuffix(host, ".")); err == nil {
		if addr = addr.Unmap(); (family == "ip4" && !addr.Is4()) ||
			(family == "ip6" && !addr.Is6()) {
			return nil, ErrBadTarget
		}
		if !r.allowsAddr("", addr, port) {
			return nil, ErrNotAllowed
		}
		return []netip.AddrPort{netip.AddrPortFrom(addr, port)}, nil
	}
	name := plainName(host)
	if !isName(name) {
		return nil, notFound(host)
	}
	if !r.mayAllowName(name, port) {
		return nil, ErrNotAllowed
	}
	addrs, err := r.lookUp(ctx, family, host)
	if err != nil {
		return nil, err
	}
	return r.filter(name, addrs, port)
}

// allowsSocket reports whether a unix socket may be reached: unlike hosts, only when a rule to
// allow is that path.
func (r *Rules) allowsSocket(socket string) bool {
	names := func(a rule) bool { return a.socket == socket }
	return r != nil && len(r.allow) > 0 && !slices.ContainsFunc(r.deny, names) &&
		!slices.ContainsFunc(
			r.allow,
			func(list []rule) bool { return !slices.ContainsFunc(list, names) },
		)
}

// filter returns those addresses of a name that are allowed, without duplicates.
func (r *Rules) filter(name string, addrs []netip.Addr, port uint16) ([]netip.AddrPort, error) {
	if len(addrs) == 0 {
		return nil, notFound(name)
	}
	var allowed []netip.AddrPort
	for _, addr := range addrs {
		at := netip.AddrPortFrom(addr.Unmap(), port)
		if !slices.Contains(allowed, at) && r.allowsAddr(name, at.Addr(), port) {
			if allowed = append(allowed, at); len(allowed) == maxTargetAddresses {
				break
			}
		}
	}
	if allowed == nil {
		return nil, ErrNotAllowed
	}
	return allowed, nil
}

func notFound(host string) error {
	return &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

// mayAllowName reports whether a name is not itself forbidden and one of its addresses could be
// allowed. A forbidden name is not looked up: the query alone would disclose something.
func (r *Rules) mayAllowName(name string, port uint16) bool {
	if isMetadataName(name) && !r.allowsMetadataName(name, port) {
		return false
	}
	if r == nil {
		return true
	}
	for i := range r.deny {
		if r.deny[i].hasPort(port) && r.deny[i].hasName(name) {
			return false
		}
	}
	for _, list := range r.allow {
		if !slices.ContainsFunc(list, func(a rule) bool {
			return a.hasPort(port) && (a.prefix.IsValid() || a.local || a.hasName(name))
		}) {
			return false
		}
	}
	return true
}

// allowsAddr reports whether an address is allowed, which is not IPv4-mapped. The name is the one
// whose lookup gave the address, and which mayAllowName has passed, or empty.
func (r *Rules) allowsAddr(name string, addr netip.Addr, port uint16) bool {
	addr = addr.WithZone("") // no prefix contains addresses with zones
	for _, a := range append(embedded(addr), addr) {
		if special := specialsOf(a); special != nil && !r.allowsSpecial(name, a, special, port) {
			return false
		}
		if r != nil && slices.ContainsFunc(r.deny, func(d rule) bool {
			return d.hasPort(port) && d.hasAddr(a)
		}) {
			return false
		}
	}
	if r == nil {
		return true
	}
	for _, list := range r.allow {
		if !slices.ContainsFunc(list, func(a rule) bool {
			return a.hasPort(port) && (a.hasAddr(addr) || (name != "" && a.hasName(name)))
		}) {
			return false
		}
	}
	return true
}

// allowsSpecial reports whether a rule to allow covers a special address explicitly: by a prefix
// that is within each special range of the address or, for cloud metadata, by the name that was
// looked up.
func (r *Rules) allowsSpecial(name string, addr netip.Addr, of []special, port uint16) bool {
	if of[len(of)-1].metadata && isMetadataName(name) && r.allowsMetadataName(name, port) {
		return true
	}
	return r.anyAllow(port, func(a rule) bool {
		return a.prefix.Contains(addr) && !slices.ContainsFunc(of, func(s special) bool {
			return !liesIn(a.prefix, s.prefix)
		})
	})
}

// allowsMetadataName reports whether a rule to allow is exactly that name, not a glob.
func (r *Rules) allowsMetadataName(name string, port uint16) bool {
	return r.anyAllow(port, func(a rule) bool { return a.name == name })
}

// anyAllow reports whether a rule to allow for the port satisfies is.
func (r *Rules) anyAllow(port uint16, is func(rule) bool) bool {
	return r != nil && slices.ContainsFunc(r.allow, func(list []rule) bool {
		return slices.ContainsFunc(list, func(a rule) bool { return a.hasPort(port) && is(a) })
	})
}
