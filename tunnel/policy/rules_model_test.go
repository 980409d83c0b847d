package policy

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// oracle decides on an address, of a name or by itself, as docs/rules.md describes, with none of
// the code under test.
func oracle(allow, deny []string, name string, addr netip.Addr, port uint16) bool {
	addr = addr.Unmap()
	hit := func(text string, explicit bool) bool {
		host, p, hasPort := strings.Cut(text, "|") // the texts here are HOST|PORT
		if hasPort && p != fmt.Sprint(port) {
			return false
		}
		prefix, err := netip.ParsePrefix(host)
		switch {
		case explicit:
			return err == nil && prefix.Contains(addr) &&
				prefix.Bits() >= map[bool]int{true: 16, false: 10}[addr.Is4()]
		case host == "*":
			return true
		case err == nil:
			return prefix.Contains(addr)
		case strings.HasPrefix(host, "*."):
			return strings.HasSuffix(name, host[1:])
		}
		return host == name
	}
	if slices.ContainsFunc(deny, func(d string) bool { return hit(d, false) }) {
		return false
	}
	if addr.IsLinkLocalUnicast() &&
		!slices.ContainsFunc(allow, func(a string) bool { return hit(a, true) }) {
		return false
	}
	return len(allow) == 0 ||
		slices.ContainsFunc(allow, func(a string) bool { return hit(a, false) })
}

// TestRulesAgainstOracle draws rules and targets at random, and compares each address of the
// answer.
func TestRulesAgainstOracle(t *testing.T) {
	hosts := []string{
		"*",
		"*.example.org",
		"www.example.org",
		"other.test",
		"10.0.0.0/8",
		"10.1.0.0/16",
		"10.1.2.3/32",
		"169.254.0.0/16",
		"0.0.0.0/0",
		"2001:db8::/32",
		"fe80::/10",
	}
	names := []string{"www.example.org", "a.b.example.org", "example.org", "other.test"}
	addrs := []string{
		"10.0.0.1",
		"10.1.9.9",
		"10.1.2.3",
		"169.254.7.7",
		"192.0.2.1",
		"127.0.0.1",
		"2001:db8::1",
		"fe80::1",
		"::1",
		"::ffff:10.1.2.3",
		"::ffff:169.254.7.7",
	}
	ports := []uint16{80, 443}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	draw := func(most int) (texts []string) {
		for range rnd.IntN(most + 1) {
			text := hosts[rnd.IntN(len(hosts))]
			if rnd.IntN(2) == 0 {
				text += fmt.Sprint("|", ports[rnd.IntN(len(ports))])
			}
			texts = append(texts, text)
		}
		return texts
	}
	spell := func(texts []string) (rules []string) {
		for _, text := range texts {
			host, port, _ := strings.Cut(text, "|")
			if strings.Contains(host, ":") {
				host = "[" + host + "]"
			}
			if port != "" {
				host += ":" + port
			}
			rules = append(rules, host)
		}
		return rules
	}
	for range 20_000 {
		allow, deny := draw(3), draw(2)
		r := mustRules(t, spell(allow), spell(deny))
		name, port := names[rnd.IntN(len(names))], ports[rnd.IntN(len(ports))]
		var found []netip.Addr
		for range 1 + rnd.IntN(3) {
			found = append(found, netip.MustParseAddr(addrs[rnd.IntN(len(addrs))]))
		}
		r.lookup = func(context.Context, string, string) ([]netip.Addr, error) { return found, nil }
		got, _ := r.Resolve(t.Context(), "tcp", strings.ToUpper(name)+".", port)
		literal, _ := r.Resolve(t.Context(), "tcp", found[0].String(), port)
		for _, addr := range found {
			at := netip.AddrPortFrom(addr.Unmap(), port)
			if want := oracle(allow, deny, name, addr, port); slices.Contains(got, at) != want {
				t.Fatalf(
					"allow %v deny %v: %s as %s:%d gives %v, want %v",
					allow,
					deny,
					name,
					addr,
					port,
					got,
					want,
				)
			}
		}
		if want := oracle(allow, deny, "", found[0], port); (literal != nil) != want {
			t.Fatalf(
				"allow %v deny %v: %s:%d gives %v, want %v",
				allow,
				deny,
				found[0],
				port,
				literal,
				want,
			)
		}
		for _, at := range got {
			if !slices.ContainsFunc(
				found,
				func(a netip.Addr) bool { return a.Unmap() == at.Addr() },
			) {
				t.Fatalf("%v is no address of the name", at)
			}
		}
	}
}

// No text makes the parser or a decision panic, no special address is allowed unless a rule names
// it, and another rule to deny, or a narrower list, never allows more.
func FuzzRules(f *testing.F) {
	for _, seed := range [][3]string{
		{"*.example.org:443", "10.0.0.0/8", "www.example.org"},
		{"10.0.0.0/8:22,80-90,[2001:db8::/32]:443", "*:25", "10.0.0.1"},
		{"*", "", "::ffff:169.254.169.254"},
		{"metadata.google.internal", "", "metadata.google.internal."},
		{"[fe80::/10]", "", "fe80::1%lo"},
		{"*a*b*c*", "a", "xaxbxc"},
	} {
		f.Add(seed[0], seed[1], seed[2], uint16(80))
	}
	f.Fuzz(func(t *testing.T, allow, deny, host string, port uint16) {
		find := func(r *Rules) []netip.AddrPort {
			r.lookup = testZone.lookup
			addrs, err := r.Resolve(t.Context(), "tcp", host, port)
			if (err == nil) != (len(addrs) > 0) {
				t.Fatalf("%v, %v", addrs, err)
			}
			return addrs
		}
		open, err := ParseRules([]string{allow}, nil)
		if err != nil {
			return
		}
		wide := find(open)
		for _, addr := range wide {
			if specialsOf(addr.Addr().WithZone("")) != nil && !strings.ContainsAny(allow, "/[.") {
				t.Fatalf("%q lets %s through", allow, addr)
			}
		}
		base := find(&Rules{})
		for _, addr := range wide {
			if specialsOf(addr.Addr().WithZone("")) == nil && !slices.Contains(base, addr) &&
				!isMetadataName(plainName(host)) {
				t.Fatalf("%s is let through by %q alone", addr, allow)
			}
		}
		closed, err := ParseRules([]string{allow}, []string{deny})
		if err != nil {
			return
		}
		for _, addr := range find(closed) {
			if !slices.Contains(wide, addr) {
				t.Fatalf("%s is let through by denying %q", addr, deny)
			}
		}
		if len(closed.deny) > 0 {
			for _, addr := range find(open.narrow(closed.deny)) {
				if specialsOf(addr.Addr().WithZone("")) == nil && !slices.Contains(wide, addr) &&
					!isMetadataName(plainName(host)) {
					t.Fatalf("%s is let through by allowing only %q", addr, deny)
				}
			}
		}
	})
}
