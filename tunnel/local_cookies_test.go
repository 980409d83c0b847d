package tunnel

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"culvert/internal/testnet"
	"culvert/tunnel/mux"
)

// balancer passes requests on to a remote, as whoever is on the way would, with cookies.
type balancer struct {
	*httptest.Server
	to      atomic.Pointer[url.URL]
	cookies atomic.Pointer[[]string] // for each response
	refuse  atomic.Bool              // answer 503 instead of passing the request on
	got     chan string              // the Cookie header of each request
}

func startBalancer(t *testing.T, remote *testRemote) *balancer {
	t.Helper()
	b := &balancer{got: make(chan string, 100)}
	b.lead(t, remote)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(b.to.Load()) },
		ModifyResponse: func(r *http.Response) error {
			r.Header["Set-Cookie"] = *b.cookies.Load()
			return nil
		},
	}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.got <- r.Header.Get("Cookie")
		if b.refuse.Load() {
			w.Header()["Set-Cookie"] = *b.cookies.Load()
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(b.Server.Close)
	return b
}

// lead makes later requests go to a remote, with these cookies in the responses.
func (b *balancer) lead(t *testing.T, remote *testRemote, cookies ...string) {
	t.Helper()
	to, err := url.Parse(remote.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	b.to.Store(to)
	b.cookies.Store(&cookies)
}

// Only responses that lead to a session count, and what they set lasts until the session does not.
func TestCookies(t *testing.T) {
	key := newKey(t)
	first := startRemote(t, trustKeys(t, key), nil)
	second := startRemote(t, trustKeys(t, key), func(cfg *RemoteConfig) {
		cfg.Identity.Key = first.key
	})
	b := startBalancer(t, first)
	cfg := first.localConfig(t, key)
	var err error
	if cfg.Address, err = ParseAddress(b.URL); err != nil {
		t.Fatal(err)
	}
	connector := cfg.connector()
	connect := func(what string, last *localConnection, wantCookie string) *localConnection {
		t.Helper()
		conn, err := connector.connect(testnet.Within(t, patience), last, newAttemptProgress(nil))
		if got := receive(t, b.got); got != wantCookie {
			t.Errorf("%s: Cookie %q, want %q", what, got, wantCookie)
		}
		if err != nil {
			return nil
		}
		t.Cleanup(func() { conn.session.Close() })
		return conn
	}

	b.lead(t, first, "node=1", "elsewhere=1; Path=/elsewhere")
	made := connect("first", nil, "")
	if made == nil {
		t.Fatal("no session")
	}

	// Somebody answers for a moment, with cookies that would exceed any header.
	var flood []string
	for i := range 200 {
		flood = append(flood, fmt.Sprintf("a%d=%s; Max-Age=99999999", i, strings.Repeat("x", 3900)))
	}
	b.lead(t, first, append(flood, "node=evil")...)
	b.refuse.Store(true)
	if connect("while refused", made, "node=1") != nil {
		t.Fatal("connected")
	}
	if connect("once more", made, "node=1") != nil {
		t.Fatal("connected")
	}
	b.refuse.Store(false)
	b.lead(t, first)
	if got := connect("afterwards", made, "node=1"); got == nil || got.session != made.session {
		t.Fatal("the session was not resumed")
	}

	// They come even with what the remote answered: then they are bounded.
	b.lead(t, first, flood...)
	if got := connect("with a flood", made, "node=1"); got == nil || got.session != made.session {
		t.Fatal("the session was not resumed")
	}
	b.lead(t, first)
	ctx := testnet.Within(t, patience)
	if _, err := connector.connect(ctx, made, newAttemptProgress(nil)); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, b.got); len(got) > maxCookies || !strings.Contains(got, "node=1") {
		t.Errorf("after a flood, the header has %d bytes: %.100s…", len(got), got)
	}

	// The node doesn't know the session: what led there is forgotten, what it sets is not.
	b.lead(t, second, "other=2")
	_, err = connector.connect(testnet.Within(t, patience), made, newAttemptProgress(nil))
	if !errors.Is(err, mux.ErrElsewhere) {
		t.Errorf("while the session works: %v", err)
	}
	receive(t, b.got)
	made.session.DropCarrier(made.session.Carrier(), errors.New("cut"))
	next, err := connector.connect(testnet.Within(t, patience), made, newAttemptProgress(nil))
	if err != nil || next.session == made.session {
		t.Fatalf("resumed %v, %v", next, err)
	}
	t.Cleanup(func() { next.session.Close() })
	receive(t, b.got)
	b.lead(t, second)
	connect("at another node", next, "other=2")

	// A balancer may remove a cookie.
	b.lead(t, second, "other=; Max-Age=0")
	connect("before the removal", next, "other=2")
	connect("after the removal", next, "")
}
