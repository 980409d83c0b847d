package tunnel

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"culvert/certs"
	"culvert/internal/testnet"

	"github.com/rs/zerolog"
)

func mustProxies(t testing.TB, list ...string) TrustedProxies {
	t.Helper()
	proxies, err := ParseTrustedProxies(list)
	if err != nil {
		t.Fatal(err)
	}
	return proxies
}

func TestParseTrustedProxies(t *testing.T) {
	proxies := mustProxies(t, "10.1.2.3/8", "192.0.2.1", "::ffff:192.0.2.2", "2001:db8::/32", "unix")
	want := "[10.0.0.0/8 192.0.2.1/32 192.0.2.2/32 2001:db8::/32]"
	if got := fmt.Sprint(proxies.Networks); got != want || !proxies.Unix {
		t.Errorf("got %s, unix %v", got, proxies.Unix)
	}
	for _, bad := range []string{
		"", "10.0.0.0/33", "example.org", "::ffff:10.0.0.0/104", "10.0.0.1:80", "fe80::1%eth0", "*",
	} {
		if got, err := ParseTrustedProxies([]string{bad}); err == nil {
			t.Errorf("%q was taken for %v", bad, got)
		}
	}
	if none := mustProxies(t); none.trusts(netip.Addr{}) || none.trusts(netip.IPv6Loopback()) {
		t.Error("somebody is trusted by default")
	}
}

func TestForwarded(t *testing.T) {
	proxies := mustProxies(t, "10.0.0.0/8", "2001:db8::/32")
	for _, test := range []struct {
		header []string
		want   string
	}{
		{[]string{"192.0.2.1"}, "192.0.2.1"},
		{[]string{"198.51.100.1, 192.0.2.1"}, "192.0.2.1"}, // the first is the client's word
		{[]string{"198.51.100.1", "192.0.2.1"}, "192.0.2.1"},
		{[]string{"192.0.2.1, 10.0.0.1", "2001:db8::1"}, "192.0.2.1"},
		{[]string{"nonsense,192.0.2.1,10.0.0.1"}, "192.0.2.1"},
		{[]string{"192.0.2.1:4711"}, "192.0.2.1"},
		{[]string{"[2001:db9::1]:4711, 10.0.0.1"}, "2001:db9::1"},
		{[]string{"[2001:db9::1]"}, "2001:db9::1"},
		{[]string{"::ffff:192.0.2.1"}, "192.0.2.1"},
		{[]string{" 192.0.2.1 ,\t10.0.0.1 "}, "192.0.2.1"},
		{[]string{"10.0.0.2, 10.0.0.1"}, "10.0.0.2"},            // all trusted: the first
		{[]string{"192.0.2.1, nonsense, 10.0.0.1"}, "10.0.0.1"}, // nothing before that is known
		{[]string{"192.0.2.1, nonsense"}, "invalid IP"},
		{[]string{""}, "invalid IP"},
		{nil, "invalid IP"},
	} {
		header := http.Header{"X-Forwarded-For": test.header}
		if got := proxies.forwarded(header).String(); got != test.want {
			t.Errorf("%q: %s, want %s", test.header, got, test.want)
		}
	}
}

// proxyV1 and proxyV2 are headers of the PROXY protocol for a client at 192.0.2.7:4711.
var (
	proxyV1 = "PROXY TCP4 192.0.2.7 192.0.2.8 4711 80\r\n"
	proxyV2 = string(append(
		append([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11"), binary.BigEndian.AppendUint16(nil, 12)...),
		192, 0, 2, 7, 192, 0, 2, 8, 4711>>8, 4711&0xff, 0, 80))
)

// TestTrustedProxy: where a client is, by what its peer says and whether that is trusted. The
// fallback site learns the same address.
func TestTrustedProxy(t *testing.T) {
	const trusted, stranger = "127.0.1.1", "127.0.2.1" // seen as 198.51.1.1 and 198.51.2.1
	target, err := ParseFallback(site(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	remote := serveRemote(t, trustKeys(t, newKey(t)), true, func(cfg *RemoteConfig) {
		cfg.Path, cfg.Fallback = "/tunnel", target
		cfg.Proxies = mustProxies(t, "198.51.1.0/24")
	})
	const xff = "X-Forwarded-For: 203.0.113.9, 192.0.2.9\r\n"
	for name, test := range map[string]struct {
		from, before, header string
		want                 string // empty if the connection is refused
	}{
		"nothing said, trusted":         {trusted, "", "", "198.51.1.1"},
		"X-Forwarded-For, trusted":      {trusted, "", xff, "192.0.2.9"},
		"version 1, trusted":            {trusted, proxyV1, "", "192.0.2.7"},
		"version 2, trusted":            {trusted, proxyV2, "", "192.0.2.7"},
		"both, trusted":                 {trusted, proxyV2, xff, "192.0.2.7"}, // that client isn't
		"unknown, trusted":              {trusted, "PROXY UNKNOWN\r\n", "", "198.51.1.1"},
		"unknown, and X-Forwarded-For":  {trusted, "PROXY UNKNOWN\r\n", xff, "198.51.1.1"},
		"malformed, trusted":            {trusted, "PROXY TCP4 nonsense\r\n", "", ""},
		"nothing said by a stranger":    {stranger, "", "", "198.51.2.1"},
		"X-Forwarded-For of a stranger": {stranger, "", xff, "198.51.2.1"},
		"version 1 of a stranger":       {stranger, proxyV1, "", ""},
		"version 2 of a stranger":       {stranger, proxyV2, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(test.from)}}
			conn, err := dialer.DialContext(testnet.Within(t, patience), "tcp", remote.address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(patience))
			io.WriteString(conn, test.before+"GET / HTTP/1.1\r\nHost: a\r\n"+test.header+"\r\n")
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if test.want == "" {
				if err == nil && response.StatusCode != http.StatusBadRequest {
					t.Errorf("status %d", response.StatusCode)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(response.Body)
			if want := "GET / " + test.want + " "; err != nil || string(body) != want {
				t.Errorf("%q, %v, want %q", body, err, want)
			}
		})
	}
}

// TestForwardedScheme: the fallback site learns from a trusted proxy how that was reached, and from
// nobody else.
func TestForwardedScheme(t *testing.T) {
	const stranger = "192.0.2.1"
	site := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header["X-Forwarded-Proto"], r.Header["X-Forwarded-Host"])
	})
	fields := func(scheme, host string) string {
		return "X-Forwarded-Proto: " + scheme + "\r\nX-Forwarded-Host: " + host + "\r\n"
	}
	said := fields("https", "b")
	for name, test := range map[string]struct{ from, before, fields, want string }{
		"a proxy":                {bubbleProxy, "", said, "[https] [a]"},
		"without a word":         {bubbleProxy, "", "", "[http] [a]"},
		"after the client's":     {bubbleProxy, "", fields("http, HTTPS", "c, b"), "[https] [a]"},
		"in fields of their own": {bubbleProxy, "", fields("http", "c") + said, "[https] [a]"},
		"no scheme":              {bubbleProxy, "", fields("ftp", ""), "[http] [a]"},
		"the client of a proxy":  {bubbleProxy, proxyV1, said, "[http] [a]"},
		"a stranger":             {stranger, "", said, "[http] [a]"},
		"a stranger who claims to be one": {stranger, "",
			"X-Forwarded-For: " + bubbleProxy + "\r\n" + said, "[http] [a]"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, site, func(t *testing.T, _ *Remote, ln *pipeListener) {
				conn := ln.dial(test.from)
				defer conn.Close()
				io.WriteString(conn, test.before+"GET / HTTP/1.1\r\nHost: a\r\n"+test.fields+"\r\n")
				response, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Fatal(err)
				}
				if body, err := io.ReadAll(response.Body); err != nil || string(body) != test.want {
					t.Errorf("%q, %v, want %q", body, err, test.want)
				}
			})
		})
	}
}

// TestPenaltiesBehindProxy: the penalty is that of the client's address, not of the proxy's, and
// what a peer that isn't trusted says changes nothing.
func TestPenaltiesBehindProxy(t *testing.T) {
	remote := serveRemote(t, trustKeys(t, newKey(t)), true, func(cfg *RemoteConfig) {
		cfg.Proxies = mustProxies(t, "198.51.1.1")
	})
	remote.gate.penalties.add(sourceOf(netip.MustParseAddr("192.0.2.9")), penaltyLimit)
	remote.gate.penalties.add(sourceOf(netip.MustParseAddr("198.51.2.1")), penaltyLimit)
	for name, test := range map[string]struct {
		from, forwarded string
		refused         bool
	}{
		"the proxy's client with a penalty": {"127.0.1.1", "192.0.2.9", true},
		"another one of the proxy's":        {"127.0.1.1", "192.0.2.10", false},
		"a stranger with a penalty":         {"127.0.2.1", "127.0.0.1", true},
		"a stranger who claims it":          {"127.0.3.1", "192.0.2.9", false},
	} {
		header := http.Header{"X-Forwarded-For": {test.forwarded}}
		if _, err := remote.upgradeFrom(t, test.from, header); (err == errPenalty) != test.refused {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestProxiedConnections: connections count where their clients are, from the header of the PROXY
// protocol on; before it, the proxy has no share to run out of.
func TestProxiedConnections(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, remote *Remote, ln *pipeListener) {
		var held readers
		for range 2 * sourceStrangers {
			conn := ln.dial(bubbleProxy)
			io.WriteString(conn, proxyV1+getPage[:20])
			held.watch(conn)
			silent := ln.dial(bubbleProxy)
			t.Cleanup(func() { silent.Close() })
		}
		if n := held.count(); n != sourceStrangers {
			t.Errorf("%d connections of one client, want %d", n, sourceStrangers)
		}
		if n := remote.gate.conns.taken(); n != 3*sourceStrangers {
			t.Errorf("%d places are taken", n)
		}
		time.Sleep(headerTimeout + time.Second) // synctest
		if n := held.count() + remote.gate.conns.taken(); n != 0 {
			t.Errorf("%d places are still taken", n)
		}
	})
}

// A client's address, which certificates may name, is the one that a trusted proxy passes on, and
// the session's socket is the system's.
func TestSessionBehindProxy(t *testing.T) {
	key := newKey(t)
	remote := serveRemote(t, trustKeys(t, key), true, func(cfg *RemoteConfig) {
		cfg.Proxies = mustProxies(t, "198.51.0.1")
	})
	front := testnet.ServeTCP(t, func(conn *net.TCPConn) {
		back, err := net.Dial("tcp", remote.address)
		if err != nil {
			return
		}
		defer back.Close()
		io.WriteString(back, proxyV2)
		go func() {
			io.Copy(conn, back)
			conn.Close()
		}()
		io.Copy(back, conn)
	})
	through := remote
	through.address = front
	conn, err := through.session(t, key)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.session.Close()
	until(t, "the session is the client's", func() bool {
		remote.mu.Lock()
		defer remote.mu.Unlock()
		for _, a := range remote.sessions {
			if a.from == netip.MustParseAddr("192.0.2.7") && a.peer.Addr == a.from {
				return remote.gate.knows(sourceOf(a.from))
			}
		}
		return false
	})
}

// TestCertificateBehindProxy: the ips of a client's certificate are compared with the address that
// a trusted proxy passes on, and not with the proxy's. What others pass on is ignored.
func TestCertificateBehindProxy(t *testing.T) {
	now := time.Now()
	ca, err := certs.NewCA(rand.Reader, "test CA", now, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	issue := func(of *certs.KeyPair, ips ...string) *certs.Certificate {
		cert, err := ca.Issue(rand.Reader, now, certs.Request{PublicKey: of.Public(),
			Names: []string{"localhost"}, IPs: ips, Expires: now.Add(time.Minute)})
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	start := func(proxies ...string) *testRemote {
		return startRemote(t, RemoteTrust{RequireCert: true, CA: ca.Certificate()},
			func(cfg *RemoteConfig) {
				cfg.Proxies = mustProxies(t, proxies...)
				cfg.Identity.Cert = issue(cfg.Identity.Key, "127.0.0.1")
			})
	}
	trusting, other := start("127.0.0.1"), start("198.51.100.1")
	for name, test := range map[string]struct {
		remote        *testRemote
		ip, forwarded string
		admitted      bool
	}{
		"the client's address":            {trusting, "192.0.2.7", "192.0.2.7", true},
		"after what the client claims":    {trusting, "192.0.2.7", "192.0.2.9, 192.0.2.7", true},
		"another client's":                {trusting, "192.0.2.7", "192.0.2.9", false},
		"what the client claims":          {trusting, "192.0.2.7", "192.0.2.7, 192.0.2.10", false},
		"the proxy's":                     {trusting, "127.0.0.1", "192.0.2.11", false},
		"passed on by one not trusted":    {other, "192.0.2.7", "192.0.2.7", false},
		"the address of one not trusted":  {other, "127.0.0.1", "192.0.2.9", true},
		"the proxy's own, with no header": {trusting, "127.0.0.1", "", true},
	} {
		cfg := test.remote.localConfig(t, key)
		cfg.CA, cfg.Cert = ca.Certificate(), issue(key, test.ip)
		if test.forwarded != "" {
			cfg.Header = http.Header{"X-Forwarded-For": {test.forwarded}}
		}
		_, _, err := Connect(testnet.Within(t, patience), cfg)
		if (err == nil) != test.admitted || (err != nil && !IsAdmissionError(err)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBadProxyHeader: the log names a trusted proxy whose header can't be used, but not one that
// only looks whether the port is open.
func TestBadProxyHeader(t *testing.T) {
	log := &lockedBuffer{}
	remote := serveRemote(t, trustKeys(t, newKey(t)), true, func(cfg *RemoteConfig) {
		cfg.Proxies, cfg.Log = mustProxies(t, "198.51.0.0/16"), zerolog.New(log)
	})
	for _, header := range []string{"", "PROXY TCP4 1.2", "PROXY TCP4 1.2.3.4 ::1 1 2\r\n"} {
		conn := testnet.Dial(t, remote.address, patience)
		io.WriteString(conn, header)
		conn.CloseWrite()
		io.Copy(io.Discard, conn) // until the remote has read it
	}
	line := `"level":"warn"`
	if got := log.String(); strings.Count(got, line) != 1 ||
		!strings.Contains(got, "PROXY header") || !strings.Contains(got, `"proxy":"198.51.`) {
		t.Errorf("the log:\n%s", got)
	}
}
