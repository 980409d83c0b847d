package tunnel

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// zone is a resolver that knows these names and no others.
type zone map[string][]string

func (z zone) lookup(_ context.Context, network, host string) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for _, text := range z[plainName(host)] {
		addr := netip.MustParseAddr(text)
		if network == "ip" || (network == "ip4") == addr.Unmap().Is4() {
			addrs = append(addrs, addr)
		}
	}
	if addrs == nil {
		return nil, notFound(host)
	}
	return addrs, nil
}

var testZone = zone{
	"example.org":              {"192.0.2.1"},
	"www.example.org":          {"192.0.2.2", "2001:db8::2"},
	"a.b.example.org":          {"192.0.2.3"},
	"badexample.org":           {"192.0.2.4"},
	"loop.example.org":         {"127.0.0.1"},
	"mixed.example.org":        {"10.0.0.1", "192.0.2.5", "::ffff:10.0.0.2", "2001:db8::5", "192.0.2.5"},
	"rebound.example.org":      {"169.254.169.254", "fe80::1", "0.0.0.0"},
	"mapped.example.org":       {"::ffff:169.254.169.254"},
	"metadata.google.internal": {"169.254.169.254"},
	"metadata.goog":            {"192.0.2.6"},
}

func mustRules(t testing.TB, allow, deny []string) *Rules {
	t.Helper()
	r := mustParse(t, allow, deny)
	r.lookup = testZone.lookup
	return r
}

// resolve returns the addresses for a target as text, or "denied", "not found" or "bad".
func resolve(t testing.TB, r *Rules, network, host string, port uint16) string {
	t.Helper()
	addrs, err := r.Resolve(t.Context(), network, host, port)
	var dns *net.DNSError
	switch {
	case errors.Is(err, ErrNotAllowed):
		return "denied"
	case errors.As(err, &dns) && dns.IsNotFound:
		return "not found"
	case errors.Is(err, errBadTarget):
		return "bad"
	case err != nil:
		t.Fatal(err)
	}
	var texts []string
	for _, addr := range addrs {
		if addr.Port() != port {
			t.Errorf("%s: port %d", addr, port)
		}
		texts = append(texts, addr.Addr().String())
	}
	return strings.Join(texts, " ")
}

func TestRules(t *testing.T) {
	for _, test := range []struct {
		allow, deny string // lists separated by spaces
		host        string
		port        uint16
		want        string
	}{
		// Without rules.
		{"", "", "example.org", 80, "192.0.2.1"},
		{"", "", "EXAMPLE.org.", 80, "192.0.2.1"},
		{"", "", "www.example.org", 80, "192.0.2.2 2001:db8::2"},
		{"", "", "mixed.example.org", 80, "10.0.0.1 192.0.2.5 10.0.0.2 2001:db8::5"},
		{"", "", "127.0.0.1", 80, "127.0.0.1"},
		{"", "", "::1", 80, "::1"},
		{"", "", "loop.example.org", 80, "127.0.0.1"},
		{"", "", "10.0.0.1", 80, "10.0.0.1"},
		{"", "", "::ffff:10.0.0.1", 80, "10.0.0.1"},
		{"", "", "nobody.example.org", 80, "not found"},
		{"", "", "a b", 80, "not found"},
		{"", "", "a/b.example.org", 80, "not found"},
		{"", "", "b\u00fccher.example.org", 80, "not found"},
		{"", "", strings.Repeat("a.", 127) + "org", 80, "not found"},
		{"", "", "example.org", 0, "bad"},

		// Special addresses, in each of their spellings.
		{"", "", "169.254.169.254", 80, "denied"},
		{"", "", "169.254.169.254.", 80, "denied"},
		{"", "", "::ffff:169.254.169.254", 80, "denied"},
		{"", "", "::ffff:a9fe:a9fe", 80, "denied"},
		{"", "", "64:ff9b::169.254.169.254", 80, "denied"},
		{"", "", "2002:a9fe:a9fe::1", 80, "denied"},
		{"", "", "169.254.1.2", 80, "denied"},
		{"", "", "fe80::1", 80, "denied"},
		{"", "", "fe80::1%lo", 80, "denied"},
		{"", "", "FE80::1%lo", 80, "denied"},
		{"", "", "fd00:ec2::254", 80, "denied"},
		{"", "", "FD00:0EC2:0:0::0254", 80, "denied"},
		{"", "", "fd00:ec2::254%lo", 80, "denied"},
		{"", "", "fd00:ec2::255", 80, "fd00:ec2::255"},
		{"", "", "100.100.100.200", 80, "denied"},
		{"", "", "100.100.100.201", 80, "100.100.100.201"},
		{"", "", "0.0.0.0", 80, "denied"},
		{"", "", "::", 80, "denied"},
		{"", "", "::ffff:0.0.0.0", 80, "denied"},
		{"", "", "224.0.0.1", 80, "denied"},
		{"", "", "239.255.255.255", 80, "denied"},
		{"", "", "255.255.255.255", 80, "denied"},
		{"", "", "ff02::1", 80, "denied"},
		{"", "", "rebound.example.org", 80, "denied"},
		{"", "", "mapped.example.org", 80, "denied"},
		{"", "", "metadata.google.internal", 80, "denied"},
		{"", "", "Metadata.Google.Internal.", 80, "denied"},
		{"", "", "metadata.goog", 80, "denied"},
		{"*", "", "169.254.169.254", 80, "denied"},
		{"*", "", "metadata.google.internal", 80, "denied"},
		{"*.internal", "", "metadata.google.internal", 80, "denied"},
		{"0.0.0.0/0", "", "169.254.169.254", 80, "denied"},
		{"[::/0]", "", "fe80::1", 80, "denied"},
		{"rebound.example.org", "", "rebound.example.org", 80, "denied"},
		{"169.254.0.0/16", "", "169.254.169.254", 80, "denied"},
		{"169.254.0.0/16", "", "169.254.1.2", 80, "169.254.1.2"},
		{"169.254.169.254", "", "169.254.169.254", 80, "169.254.169.254"},
		{"169.254.169.254", "", "::ffff:169.254.169.254", 80, "169.254.169.254"},
		{"169.254.169.254:80", "", "169.254.169.254", 81, "denied"},
		{"169.254.169.254", "", "metadata.google.internal", 80, "denied"},
		{"169.254.169.254", "", "rebound.example.org", 80, "169.254.169.254"},
		{"metadata.google.internal", "", "metadata.google.internal", 80, "169.254.169.254"},
		{"metadata.google.internal:80", "", "metadata.google.internal", 81, "denied"},
		{"metadata.google.internal", "", "169.254.169.254", 80, "denied"},
		{"metadata.google.internal", "169.254.169.254", "metadata.google.internal", 80, "denied"},
		{"169.254.169.254", "169.254.0.0/16", "169.254.169.254", 80, "denied"},
		{"[fe80::/10]", "", "fe80::1%lo", 80, "fe80::1%lo"},
		{"224.0.0.0/4", "", "224.0.0.251", 5353, "224.0.0.251"},

		// Names and globs.
		{"*.example.org", "", "www.example.org", 80, "192.0.2.2 2001:db8::2"},
		{"*.Example.ORG.", "", "WWW.example.org.", 80, "192.0.2.2 2001:db8::2"},
		{"*.example.org", "", "a.b.example.org", 80, "192.0.2.3"},
		{"*.example.org", "", "example.org", 80, "denied"},
		{"*.example.org", "", "badexample.org", 80, "denied"},
		{"*example.org", "", "badexample.org", 80, "192.0.2.4"},
		{"a*.example.org", "", "a.b.example.org", 80, "192.0.2.3"},
		{"example.org", "", "www.example.org", 80, "denied"},
		{"example.org", "", "192.0.2.1", 80, "denied"},
		{"example.org", "", "nobody.example.org", 80, "denied"},
		{"*.example.org", "www.example.org", "www.example.org", 80, "denied"},
		{"", "*.example.org", "WWW.EXAMPLE.ORG.", 80, "denied"},
		{"", "*.example.org", "example.org", 80, "192.0.2.1"},

		// Addresses: of a name, the allowed ones are left.
		{"", "10.0.0.0/8", "mixed.example.org", 80, "192.0.2.5 2001:db8::5"},
		{"", "10.0.0.0/8", "10.0.0.1", 80, "denied"},
		{"", "10.0.0.0/8", "::ffff:10.0.0.1", 80, "denied"},
		{"", "[::ffff:10.0.0.0/104]", "10.0.0.1", 80, "denied"},
		{"", "10.0.0.0/8", "64:ff9b::10.0.0.1", 80, "denied"},
		{"", "[::/0]", "mixed.example.org", 80, "10.0.0.1 192.0.2.5 10.0.0.2"},
		{"", "*", "example.org", 80, "denied"},
		{"", "*", "192.0.2.1", 80, "denied"},
		{"", "127.0.0.0/8", "loop.example.org", 80, "denied"},
		{"192.0.2.0/24", "", "mixed.example.org", 80, "192.0.2.5"},
		{"192.0.2.0/24", "", "example.org", 80, "192.0.2.1"},
		{"192.0.2.0/24", "", "loop.example.org", 80, "denied"},
		{"10.0.0.0/8", "", "64:ff9b::10.0.0.1", 80, "denied"},
		{"*.example.org 10.0.0.0/8", "", "10.1.1.1", 80, "10.1.1.1"},
		{"[2001:db8::/32]:443", "", "www.example.org", 443, "2001:db8::2"},
		{"[2001:db8::/32]:443", "", "www.example.org", 80, "denied"},
		{"2001:0db8::2", "", "", 80, "unparsable"},
		{"[2001:0DB8::2]", "", "2001:db8::2", 80, "2001:db8::2"},

		// Ports.
		{"*:443", "", "example.org", 443, "192.0.2.1"},
		{"*:443", "", "example.org", 80, "denied"},
		{"*:443", "", "192.0.2.1", 443, "192.0.2.1"},
		{"10.0.0.0/8:22,80-90", "", "10.1.1.1", 22, "10.1.1.1"},
		{"10.0.0.0/8:22,80-90", "", "10.1.1.1", 80, "10.1.1.1"},
		{"10.0.0.0/8:22,80-90", "", "10.1.1.1", 90, "10.1.1.1"},
		{"10.0.0.0/8:22,80-90", "", "10.1.1.1", 79, "denied"},
		{"10.0.0.0/8:22,80-90", "", "10.1.1.1", 91, "denied"},
		{"10.0.0.0/8:22,80-90,*.example.org:1", "", "www.example.org", 1, "192.0.2.2 2001:db8::2"},
		{"", "*:25,465", "example.org", 465, "denied"},
		{"", "*:25,465", "example.org", 80, "192.0.2.1"},
		{"", "example.org:1-65535", "example.org", 65535, "denied"},
	} {
		name := fmt.Sprintf("allow %q deny %q %s:%d", test.allow, test.deny, test.host, test.port)
		if test.want == "unparsable" {
			if _, err := ParseRules(strings.Fields(test.allow), nil); err == nil {
				t.Errorf("%s: no error", name)
			}
			continue
		}
		r := mustRules(t, strings.Fields(test.allow), strings.Fields(test.deny))
		if got := resolve(t, r, "tcp", test.host, test.port); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func TestNilRules(t *testing.T) {
	var r *Rules
	if got := resolve(t, r, "udp", "127.0.0.1", 53); got != "127.0.0.1" {
		t.Error(got)
	}
	for _, host := range []string{"169.254.169.254", "metadata.google.internal"} {
		if got := resolve(t, r, "udp", host, 80); got != "denied" {
			t.Errorf("%s: %s", host, got)
		}
	}
}

func TestResolveNetworks(t *testing.T) {
	r := mustRules(t, nil, nil)
	for network, want := range map[string]string{
		"tcp4": "192.0.2.2", "tcp6": "2001:db8::2", "udp4": "192.0.2.2", "udp6": "2001:db8::2",
		"udp": "192.0.2.2 2001:db8::2", "unix": "bad", "ip": "bad", "": "bad",
	} {
		if got := resolve(t, r, network, "www.example.org", 53); got != want {
			t.Errorf("%q: %q, want %q", network, got, want)
		}
	}
	for _, test := range [][2]string{{"tcp4", "::1"}, {"udp6", "127.0.0.1"}} {
		if got := resolve(t, r, test[0], test[1], 53); got != "bad" {
			t.Errorf("%v: %q", test, got)
		}
	}
}

// A name that no rule could allow is not asked for: the question would leave the machine.
func TestForbiddenNamesAreNotLookedUp(t *testing.T) {
	for _, test := range []struct{ allow, deny []string }{
		{nil, []string{"secret.example.org"}},
		{[]string{"example.org"}, nil},
		{[]string{"*:443"}, nil},
		{[]string{"10.0.0.0/8:443"}, nil},
	} {
		r := mustRules(t, test.allow, test.deny)
		r.lookup = func(context.Context, string, string) ([]netip.Addr, error) {
			t.Errorf("%v: looked up", test)
			return nil, errors.New("unexpected")
		}
		if got := resolve(t, r, "tcp", "secret.example.org", 80); got != "denied" {
			t.Errorf("%v: %s", test, got)
		}
	}
}

// A name is looked up once. What it resolves to a moment later is neither checked nor dialed.
func TestNoRebinding(t *testing.T) {
	address := serveTCP(t, echo)
	_, port, err := splitTarget(address)
	if err != nil {
		t.Fatal(err)
	}
	r := mustRules(t, nil, []string{"127.0.0.9"})
	lookups := 0
	r.lookup = func(context.Context, string, string) ([]netip.Addr, error) {
		if lookups++; lookups > 1 {
			return []netip.Addr{netip.MustParseAddr("127.0.0.9")}, nil
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.9"), netip.MustParseAddr("127.0.0.1")}, nil
	}
	conn, err := r.Dial(t.Context(), "tcp", fmt.Sprint("rebind.example.org:", port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if conn.RemoteAddr().String() != address || lookups != 1 {
		t.Errorf("dialed %s after %d lookups", conn.RemoteAddr(), lookups)
	}
}

func TestManyAddresses(t *testing.T) {
	r := mustRules(t, nil, nil)
	r.lookup = func(context.Context, string, string) ([]netip.Addr, error) {
		var addrs []netip.Addr
		for i := range 1000 {
			addrs = append(addrs, netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}))
		}
		return addrs, nil
	}
	addrs, err := r.Resolve(t.Context(), "tcp", "many.example.org", 80)
	if err != nil || len(addrs) != maxTargetAddresses {
		t.Errorf("%d addresses, %v", len(addrs), err)
	}
}

func TestNarrow(t *testing.T) {
	allow := func(texts ...string) []rule {
		rules, err := parseRules(texts)
		if err != nil {
			t.Fatal(err)
		}
		return rules
	}
	base := mustRules(t, []string{"*.example.org", "10.0.0.0/8"}, []string{"*:25"})
	key := base.narrow(allow("www.example.org,10.1.0.0/16:22,192.0.2.4,169.254.169.254"))
	for target, want := range map[string]string{
		"www.example.org:80": "192.0.2.2 2001:db8::2", "www.example.org:25": "denied", "a.b.example.org:80": "denied",
		"10.1.0.1:22": "10.1.0.1", "10.1.0.1:80": "denied", "10.2.0.1:22": "denied",
		"192.0.2.4:80": "denied", "169.254.169.254:80": "denied",
	} {
		host, port, err := splitTarget(target)
		if err != nil {
			t.Fatal(err)
		}
		if got := resolve(t, key, "tcp", host, port); got != want {
			t.Errorf("%s: %q, want %q", target, got, want)
		}
	}
	if got := resolve(t, base, "tcp", "a.b.example.org", 80); got != "192.0.2.3" {
		t.Errorf("narrowing has changed the rules that were narrowed: %s", got)
	}
	var none *Rules
	if got := resolve(t, none.narrow(allow("169.254.169.254:80")), "tcp", "169.254.169.254", 80); got != "169.254.169.254" {
		t.Errorf("the key's line names it: %s", got)
	}
	if got := resolve(t, none.narrow(allow("10.0.0.0/8")), "tcp", "127.0.0.1", 80); got != "denied" {
		t.Errorf("the key's line doesn't: %s", got)
	}
}

func TestBadRules(t *testing.T) {
	for text, why := range map[string]string{
		"":                       "missing",
		",":                      "missing",
		"example.org,":           "missing",
		":80":                    "missing",
		"80":                     "without a host",
		"80,example.org":         "without a host",
		"example.org:":           "no port",
		"example.org:0":          "no port",
		"example.org:65536":      "no port",
		"example.org:90-80":      "no port",
		"example.org:-80":        "no port",
		"example.org:80-":        "no port",
		"example.org:http":       "no port",
		"example.org,80":         "not a host name",
		"2001:db8::1":            "in brackets",
		"2001:db8::/32":          "in brackets",
		"[2001:db8::1":           "brackets don't match",
		"[2001:db8::1]80":        "brackets don't match",
		"[10.0.0.1]":             "brackets are for IPv6",
		"[example.org]":          "not an address",
		"[fe80::1%eth0]":         "not an address",
		"[]":                     "not an address",
		"10.0.0.0/33":            "number of bits",
		"10.0.0.0/":              "number of bits",
		"example.org/24":         "number of bits",
		"10.0.0.1/8":             "10.0.0.0/8 is meant",
		"[2001:db8::1/32]":       "2001:db8::/32 is meant",
		"[::ffff:0.0.0.0/90]":    "as such",
		"10.*":                   "neither an address nor a name",
		"10.0.*.*":               "neither an address nor a name",
		"10.0.0.256":             "neither an address nor a name",
		"010.0.0.1":              "neither an address nor a name",
		"1.2.3":                  "neither an address nor a name",
		"a..b":                   "not a host name",
		".example.org":           "not a host name",
		"exa mple.org":           "not a host name",
		"b\u00fccher.example":    "xn--",
		"example.or[gh]":         "not a host name",
		"exampl?.org":            "not a host name",
		strings.Repeat("a", 64):  "not a host name",
		"https://example.org":    "no port",
		"http://example.org:80":  "in brackets",
		"*.example.org:80,22-21": "no port",
	} {
		_, err := ParseRules([]string{text}, nil)
		var bad *RuleError
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %v, want %q", text, err, why)
		}
		if _, err := ParseRules(nil, []string{text}); err == nil {
			t.Errorf("%q is accepted by deny", text)
		}
	}
	if _, err := ParseRules(slices.Repeat([]string{"*"}, maxRules+1), nil); err == nil {
		t.Error("too many rules are accepted")
	}
}

// oracle decides on one address of a name, or on an address by itself, as the text in docs/rules.md says, with none of the
// code that is tested.
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
			return err == nil && prefix.Contains(addr) && prefix.Bits() >= map[bool]int{true: 16, false: 10}[addr.Is4()]
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
	if addr.IsLinkLocalUnicast() && !slices.ContainsFunc(allow, func(a string) bool { return hit(a, true) }) {
		return false
	}
	return len(allow) == 0 || slices.ContainsFunc(allow, func(a string) bool { return hit(a, false) })
}

// TestRulesAgainstOracle draws rules and targets at random, and compares each address of the answer.
func TestRulesAgainstOracle(t *testing.T) {
	hosts := []string{"*", "*.example.org", "www.example.org", "other.test", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32",
		"169.254.0.0/16", "0.0.0.0/0", "2001:db8::/32", "fe80::/10"}
	names := []string{"www.example.org", "a.b.example.org", "example.org", "other.test"}
	addrs := []string{"10.0.0.1", "10.1.9.9", "10.1.2.3", "169.254.7.7", "192.0.2.1", "127.0.0.1", "2001:db8::1", "fe80::1", "::1",
		"::ffff:10.1.2.3", "::ffff:169.254.7.7"}
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
				t.Fatalf("allow %v deny %v: %s as %s:%d gives %v, want %v", allow, deny, name, addr, port, got, want)
			}
		}
		if want := oracle(allow, deny, "", found[0], port); (literal != nil) != want {
			t.Fatalf("allow %v deny %v: %s:%d gives %v, want %v", allow, deny, found[0], port, literal, want)
		}
		for _, at := range got {
			if !slices.ContainsFunc(found, func(a netip.Addr) bool { return a.Unmap() == at.Addr() }) {
				t.Fatalf("%v is no address of the name", at)
			}
		}
	}
}

// FuzzRules: no text makes the parser or a decision panic, nothing special gets through unless it is named, and one more
// rule to deny, or a narrower list, never lets more through.
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
			if specialsOf(addr.Addr().WithZone("")) == nil && !slices.Contains(base, addr) && !isMetadataName(plainName(host)) {
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
				if specialsOf(addr.Addr().WithZone("")) == nil && !slices.Contains(wide, addr) && !isMetadataName(plainName(host)) {
					t.Fatalf("%s is let through by allowing only %q", addr, deny)
				}
			}
		}
	})
}
