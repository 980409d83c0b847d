package policy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
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
	"example.org":      {"192.0.2.1"},
	"www.example.org":  {"192.0.2.2", "2001:db8::2"},
	"a.b.example.org":  {"192.0.2.3"},
	"badexample.org":   {"192.0.2.4"},
	"loop.example.org": {"127.0.0.1"},
	"mixed.example.org": {
		"10.0.0.1",
		"192.0.2.5",
		"::ffff:10.0.0.2",
		"2001:db8::5",
		"192.0.2.5",
	},
	"rebound.example.org":      {"169.254.169.254", "fe80::1", "0.0.0.0"},
	"mapped.example.org":       {"::ffff:169.254.169.254"},
	"metadata.google.internal": {"169.254.169.254"},
	"metadata.goog":            {"192.0.2.6"},
}

func mustRules(t testing.TB, allow, deny []string) *Rules {
	t.Helper()
	r, err := ParseRules(allow, deny)
	if err != nil {
		t.Fatal(err)
	}
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
	case errors.Is(err, ErrBadTarget):
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

// ruleCases are rules, targets, and the results in testZone.
var ruleCases = []struct {
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
	{"", "", "fd00:c1::a9fe:a9fe", 80, "denied"},
	{"*", "", "fd00:a9fe:a9fe::1", 80, "denied"},
	{"", "", "192.0.0.192", 80, "denied"},
	{"169.254.0.0/16", "", "169.254.170.23", 80, "denied"},
	{"[fe80::/10]", "", "fe80::a9fe:a9fe%lo", 80, "denied"},
	{"[fe80::/10]", "", "fe80::1%lo", 80, "fe80::1%lo"},
	{"169.254.42.42", "", "169.254.42.42", 80, "169.254.42.42"},
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

	// IPv4 addresses in IPv6 ones: what is denied, or special, is so in each form.
	{"", "10.0.0.0/8", "64:ff9b:1::10.0.0.1", 80, "denied"},      // of 96 bits
	{"", "10.0.0.0/8", "64:ff9b:1:fffe:a:0:100:0", 80, "denied"}, // of 64 bits
	{"", "10.0.0.0/8", "64:ff9b:1:ff0a:0:1::", 80, "denied"},     // of 56 bits
	{"", "10.0.0.0/8", "64:ff9b:1:a00:0:100::", 80, "denied"},    // of 48 bits
	{"", "10.0.0.0/8", "64:ff9b:1::192.0.2.1", 80, "64:ff9b:1::c000:201"},
	{"", "10.0.0.0/8", "64:ff9b:2::10.0.0.1", 80, "64:ff9b:2::a00:1"},
	{"", "10.0.0.0/8", "2001:0:c000:201::f5ff:fffe", 80, "denied"}, // the client
	{"", "10.0.0.0/8", "2001:0:a00:1::3fff:fdfe", 80, "denied"},    // the server
	{"", "10.0.0.0/8", "2001:0:c000:201::3fff:fdfe", 80, "2001:0:c000:201::3fff:fdfe"},
	{"", "10.0.0.0/8", "2001:db8::5efe:10.0.0.1", 80, "denied"},
	{"", "10.0.0.0/8", "2001:db8::200:5efe:10.0.0.1", 80, "denied"},
	{"", "10.0.0.0/8", "2001:db8::100:5efe:10.0.0.1", 80, "2001:db8::100:5efe:a00:1"},
	{"", "10.0.0.0/8", "::10.0.0.1", 80, "denied"},
	{"", "10.0.0.0/8", "::ffff:0:10.0.0.1", 80, "denied"},
	{"", "", "64:ff9b:1::169.254.169.254", 80, "denied"},
	{"", "", "2001:0:c000:201::5601:5601", 80, "denied"},
	{"", "", "2001:db8::5efe:169.254.169.254", 80, "denied"},
	{"", "private", "64:ff9b:1::127.0.0.1", 80, "denied"},

	// The word for this machine and the networks around it.
	{"", "private", "127.0.0.1", 80, "denied"},
	{"", "Private", "127.8.8.8", 80, "denied"},
	{"", "private", "::1", 80, "denied"},
	{"", "private", "10.255.255.255", 80, "denied"},
	{"", "private", "172.16.0.1", 80, "denied"},
	{"", "private", "172.31.255.255", 80, "denied"},
	{"", "private", "172.32.0.1", 80, "172.32.0.1"},
	{"", "private", "192.168.0.1", 80, "denied"},
	{"", "private", "100.64.0.1", 80, "denied"},
	{"", "private", "100.128.0.1", 80, "100.128.0.1"},
	{"", "private", "fd12:3456::1", 80, "denied"},
	{"", "private", "fec0::1", 80, "denied"},
	{"169.254.0.0/16", "private", "169.254.1.2", 80, "denied"},
	{"0.0.0.0/8", "private", "0.0.0.0", 80, "denied"},
	{"[fe80::/10]", "private", "fe80::1%lo", 80, "denied"},
	{"", "private", "192.0.2.1", 80, "192.0.2.1"},
	{"", "private", "2001:db8::2", 80, "2001:db8::2"},
	{"", "private", "loop.example.org", 80, "denied"},
	{"", "private", "mixed.example.org", 80, "192.0.2.5 2001:db8::5"},
	{"", "private:22", "10.0.0.1", 22, "denied"},
	{"", "private:22", "10.0.0.1", 80, "10.0.0.1"},
	{"", "private.", "10.0.0.1", 80, "10.0.0.1"}, // a host
	{"private", "", "10.0.0.1", 80, "10.0.0.1"},
	{"private", "", "mixed.example.org", 80, "10.0.0.1 10.0.0.2"},
	{"private", "", "192.0.2.1", 80, "denied"},
	{"private", "", "169.254.1.2", 80, "denied"}, // special ones have to be named
	{"private", "", "169.254.169.254", 80, "denied"},

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
}

func TestRules(t *testing.T) {
	for _, test := range ruleCases {
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

// A name that no rule could allow is not looked up: the query would leave the machine.
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

// A name is looked up once: what it resolves to a moment later is neither checked nor dialed.
func TestNoRebinding(t *testing.T) {
	address := listenOn(t, "127.0.0.1:0")
	r := mustRules(t, nil, []string{"127.0.0.9"})
	lookups := 0
	r.lookup = func(context.Context, string, string) ([]netip.Addr, error) {
		if lookups++; lookups > 1 {
			return []netip.Addr{netip.MustParseAddr("127.0.0.9")}, nil
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.9"), netip.MustParseAddr("127.0.0.1")}, nil
	}
	conn, err := r.Dial(t.Context(), "tcp", fmt.Sprint("rebind.example.org:", address.Port()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if conn.RemoteAddr().String() != address.String() || lookups != 1 {
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
		"www.example.org:80": "192.0.2.2 2001:db8::2",
		"www.example.org:25": "denied", "a.b.example.org:80": "denied",
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
	if got := resolve(
		t, none.narrow(allow("169.254.169.254:80")), "tcp", "169.254.169.254", 80,
	); got != "169.254.169.254" {
		t.Errorf("the key's line names it: %s", got)
	}
	if got := resolve(
		t, none.narrow(allow("10.0.0.0/8")), "tcp", "127.0.0.1", 80,
	); got != "denied" {
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
		"example.org:":           "not a port",
		"example.org:0":          "not a port",
		"example.org:65536":      "not a port",
		"example.org:90-80":      "not a port",
		"example.org:-80":        "not a port",
		"example.org:80-":        "not a port",
		"example.org:http":       "not a port",
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
		"10.0.0.1/8":             "write 10.0.0.0/8",
		"[2001:db8::1/32]":       "write 2001:db8::/32",
		"[::ffff:0.0.0.0/90]":    "in its own form",
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
		"https://example.org":    "not a port",
		"http://example.org:80":  "in brackets",
		"*.example.org:80,22-21": "not a port",
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

func TestSocketRules(t *testing.T) {
	for _, test := range []struct {
		// Rules of the remote, and of the key's line, separated by spaces.
		allow, deny, line string
		socket            string
		want              bool
	}{
		{"", "", "", "/run/a.sock", false},
		{"*", "", "", "/run/a.sock", false},
		{"unix:/run/a.sock", "", "", "/run/a.sock", true},
		{"unix:/run/b.sock", "", "", "/run/a.sock", false},
		{"unix:/run", "", "", "/run/a.sock", false},
		{"* unix:/run/a.sock", "", "", "/run/a.sock", true},
		{"unix:/run/a.sock,unix:/run/b:1", "", "", "/run/b:1", true},
		{"unix:/run/a.sock", "unix:/run/a.sock", "", "/run/a.sock", false},
		{"unix:/run/a.sock", "*", "", "/run/a.sock", true},
		{"", "", "unix:/run/a.sock", "/run/a.sock", true},
		{"", "", "*", "/run/a.sock", false},
		{"unix:/run/a.sock", "", "*", "/run/a.sock", false},
		{"*", "", "unix:/run/a.sock", "/run/a.sock", false},
		{"unix:/run/a.sock", "", "unix:/run/a.sock", "/run/a.sock", true},
	} {
		rules := mustRules(t, strings.Fields(test.allow), strings.Fields(test.deny))
		if test.line != "" {
			narrow, err := parseRules(strings.Fields(test.line))
			if err != nil {
				t.Fatal(err)
			}
			rules = rules.narrow(narrow)
		}
		if got := rules.allowsSocket(test.socket); got != test.want {
			t.Errorf("%+v: got %v", test, got)
		}
	}
	if (*Rules)(nil).allowsSocket("/run/a.sock") {
		t.Error("no rules allow a socket")
	}
	// A rule for a socket allows no host.
	if got := resolve(
		t, mustRules(t, []string{"unix:/run/a.sock"}, nil), "tcp", "example.org", 80,
	); got != "denied" {
		t.Errorf("a host: %s", got)
	}
	for _, bad := range []string{
		"unix:", "unix:run/a.sock", "unix:/run/../a.sock", "unix://run", "unix:/run/",
		"unix:/a,80", "unix:/a\x00b",
	} {
		var malformed *RuleError
		if _, err := ParseRules([]string{bad}, nil); !errors.As(err, &malformed) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// Lookups wait for a place, each client's for its own, and addresses need none.
func TestLookupsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := make(chan struct{})
		var running atomic.Int64
		rules := &Rules{lookup: func(context.Context, string, string) ([]netip.Addr, error) {
			running.Add(1)
			defer running.Add(-1)
			<-busy
			return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
		}}
		pool := NewLookupPool(4)
		first := WithLookups(t.Context(), pool.For("first"))
		second := WithLookups(t.Context(), pool.For("second"))
		var looking sync.WaitGroup
		for range 5 {
			looking.Go(func() {
				if _, err := rules.Resolve(first, "tcp", "example.org", 1); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if n := running.Load(); n != 2 {
			t.Errorf("%d lookups at once", n)
		}
		short, cancel := context.WithTimeout(first, time.Second)
		defer cancel()
		_, err := rules.Resolve(short, "tcp", "example.org", 1)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("without a place: %v", err)
		}
		if _, err := rules.Resolve(first, "tcp", "192.0.2.2", 1); err != nil {
			t.Errorf("an address: %v", err)
		}
		looking.Go(func() { rules.Resolve(second, "tcp", "example.org", 1) })
		synctest.Wait()
		if n := running.Load(); n != 3 {
			t.Errorf("with another client: %d lookups", n)
		}
		close(busy)
		looking.Wait()
	})
}

// TestLookupsOfStreamsThatEnd: a lookup keeps its place until it has really ended, which may be
// after its stream has.
func TestLookupsOfStreamsThatEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 2
		busy := make(chan struct{})
		var running atomic.Int64
		rules := &Rules{lookup: func(ctx context.Context, _, _ string) ([]netip.Addr, error) {
			if n := running.Add(1); n > most {
				t.Errorf("%d lookups at once", n)
			}
			defer running.Add(-1)
			if outlivesContext { // as the system's resolver does
				<-busy
				return nil, notFound("")
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		pool := NewLookupPool(2 * most)
		places := pool.For("client")
		for range 5 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := rules.Resolve(WithLookups(ctx, places), "tcp", "example.org", 1)
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			cancel()
		}
		close(busy)
		synctest.Wait()
		if pool.free != 2*most || len(pool.members) != 0 {
			t.Errorf("%d of %d places are free, %d clients known", pool.free, 2*most,
				len(pool.members))
		}
	})
}
