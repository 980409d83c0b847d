package policy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// ErrNotAllowed says that the rules forbid a target.
var ErrNotAllowed = errors.New("not allowed by the rules")

// Rules say which targets a remote may reach for its clients. Every stream of every kind goes
// through Resolve, Dial or DialUnix.
//
// A target is forbidden when a rule to deny is about its name or its address, and, as soon as there
// is a rule to allow, unless one of those is about either. A name is checked before it is looked
// up, then each of its addresses is, and only addresses that passed are returned and dialed: what
// the name resolves to a moment later changes nothing. Addresses that are special, see specials,
// are forbidden unless a rule to allow names them explicitly.
//
// Rules never change, so that goroutines may share them. Nil ones forbid what is special and
// nothing else.
type Rules struct {
	deny  []rule
	allow [][]rule // each list must allow the target; none is empty

	// lookup resolves names; nil means the system's resolver. Tests set it.
	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// ParseRules reads the rules to allow and to deny, each text holding one or several, separated by
// commas. An error about a rule is a *RuleError. docs/rules.md describes the grammar for users.
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

// narrow returns rules that forbid what r forbids, and what none of allow is about.
func (r *Rules) narrow(allow []rule) *Rules {
	if r == nil {
		r = &Rules{}
	}
	return &Rules{deny: r.deny, allow: append(slices.Clip(r.allow), allow), lookup: r.lookup}
}

// Resolve returns the addresses at which a target may be reached, the best first: the host's own
// when it is an address, or those of its name that the rules allow. The network is "tcp" or "udp",
// or one of these for IPv4 or IPv6 alone, such as "tcp4". When the rules forbid the target, the
// error is ErrNotAllowed; a name without addresses is a *net.DNSError.
func (r *Rules) Resolve(ctx context.Context, network, host string, port uint16) ([]netip.AddrPort, error) {
	family, ok := map[string]string{
		"tcp": "ip", "tcp4": "ip4", "tcp6": "ip6",
		"udp": "ip", "udp4": "ip4", "udp6": "ip6",
	}[network]
	if !ok || port == 0 {
		return nil, ErrBadTarget
	}
	if addr, err := netip.ParseAddr(strings.TrimSuffix(host, ".")); err == nil {
		if addr = addr.Unmap(); (family == "ip4" && !addr.Is4()) || (family == "ip6" && !addr.Is6()) {
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
		!slices.ContainsFunc(r.allow, func(list []rule) bool { return !slices.ContainsFunc(list, names) })
}

func (r *Rules) lookUp(ctx context.Context, family, host string) ([]netip.Addr, error) {
	if r != nil && r.lookup != nil {
		return r.lookup(ctx, family, host)
	}
	return net.DefaultResolver.LookupNetIP(ctx, family, host)
}

// filter keeps the addresses of a name that are allowed, each once.
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

// mayAllowName says that a name is not forbidden as such, and that some address of it could be
// allowed. A name that is forbidden is not looked up: the question alone would tell somebody
// something.
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
			return a.hasPort(port) && (a.prefix.IsValid() || a.hasName(name))
		}) {
			return false
		}
	}
	return true
}

// allowsAddr decides on an address, which is not IPv4-mapped. The name is the one that was looked
// up for it, which mayAllowName has passed, or empty.
func (r *Rules) allowsAddr(name string, addr netip.Addr, port uint16) bool {
	addr = addr.WithZone("") // which no prefix contains
	for _, a := range append(embedded(addr), addr) {
		if special := specialsOf(a); special != nil && !r.allowsSpecial(name, a, special, port) {
			return false
		}
		if r != nil && slices.ContainsFunc(r.deny, func(d rule) bool { return d.hasPort(port) && d.hasAddr(a) }) {
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

// allowsSpecial says that a rule to allow names a special address: that address or a range that is
// special as a whole, or, for cloud metadata, the name that it was found by.
func (r *Rules) allowsSpecial(name string, addr netip.Addr, of []special, port uint16) bool {
	if of[len(of)-1].metadata && isMetadataName(name) && r.allowsMetadataName(name, port) {
		return true
	}
	return r.anyAllow(port, func(a rule) bool {
		return a.prefix.Contains(addr) && !slices.ContainsFunc(of, func(s special) bool { return !liesIn(a.prefix, s.prefix) })
	})
}

// allowsMetadataName says that a rule to allow is that name, not a glob for it.
func (r *Rules) allowsMetadataName(name string, port uint16) bool {
	return r.anyAllow(port, func(a rule) bool { return a.name == name })
}

func (r *Rules) anyAllow(port uint16, is func(rule) bool) bool {
	return r != nil && slices.ContainsFunc(r.allow, func(list []rule) bool {
		return slices.ContainsFunc(list, func(a rule) bool { return a.hasPort(port) && is(a) })
	})
}
