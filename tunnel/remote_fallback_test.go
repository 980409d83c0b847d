package tunnel

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"culvert/internal/testnet"
	"culvert/protocol"

	"github.com/gorilla/websocket"
	"github.com/rs/zerolog"
)

// site is an ordinary web site, with its own WebSocket on /socket.
func site(t *testing.T) *httptest.Server {
	t.Helper()
	handler := http.NewServeMux()
	handler.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Site", "ordinary")
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "%s %s %s %s", r.Method, r.URL, r.Header.Get("X-Forwarded-For"), body)
	})
	handler.HandleFunc("/socket", func(w http.ResponseWriter, r *http.Request) {
		ws, err := new(websocket.Upgrader).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		for {
			kind, message, err := ws.ReadMessage()
			if err != nil || ws.WriteMessage(kind, message) != nil {
				return
			}
		}
	})
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s
}

func startWithFallback(t *testing.T, siteURL string, change func(*RemoteConfig)) *testRemote {
	t.Helper()
	target, err := ParseFallback(siteURL)
	if err != nil {
		t.Fatal(err)
	}
	return startRemote(t, trustKeys(t, newKey(t)), func(cfg *RemoteConfig) {
		cfg.Path, cfg.Fallback = "/tunnel", target
		if change != nil {
			change(cfg)
		}
	})
}

// visit sends a request and returns the visible parts of the answer.
func visit(t *testing.T, url, method string, header http.Header, body string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(
		testnet.Within(t, 10*time.Second),
		method,
		url,
		strings.NewReader(body),
	)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		request.Header[name] = values
	}
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(response.StatusCode, " ", response.Header.Get("X-Site"), " ", string(text))
}

// The site answers everything except valid upgrades on the path, even requests that a WebSocket
// server would refuse with its own text.
func TestFallback(t *testing.T) {
	remote := startWithFallback(t, site(t).URL+"/base", nil)
	upgrade := func(change func(http.Header)) http.Header {
		h := http.Header{
			"Connection":            {"Upgrade"},
			"Upgrade":               {"websocket"},
			"Sec-Websocket-Version": {"13"},
			"Sec-Websocket-Key":     {"dGhlIHNhbXBsZSBub25jZQ=="},
		}
		change(h)
		return h
	}
	for _, test := range []struct {
		name, method, path, body string
		header                   http.Header
	}{
		{"a page", "GET", "/page?x=1", "", nil},
		{"a query as it was sent", "GET", "/page?b=1;a=2&q=100%", "", nil},
		{"an upload", "POST", "/form", "content", nil},
		{"the path without an upgrade", "GET", "/tunnel", "", nil},
		{"an upgrade by POST", "POST", "/tunnel", "", upgrade(func(http.Header) {})},
		{"another version", "GET", "/tunnel", "",
			upgrade(func(h http.Header) { h.Set("Sec-Websocket-Version", "8") })},
		{"no version", "GET", "/tunnel", "",
			upgrade(func(h http.Header) { h.Del("Sec-Websocket-Version") })},
		{"no key", "GET", "/tunnel", "", upgrade(func(h http.Header) { h.Del("Sec-Websocket-Key") })},
		{"a short key", "GET", "/tunnel", "",
			upgrade(func(h http.Header) { h.Set("Sec-Websocket-Key", "dGhl") })},
		{"another protocol", "GET", "/tunnel", "",
			upgrade(func(h http.Header) { h.Set("Upgrade", "h2c") })},
		{"an upgrade on another path", "GET", "/elsewhere", "", upgrade(func(http.Header) {})},
	} {
		got := visit(t, remote.server.URL+test.path, test.method, test.header, test.body)
		want := fmt.Sprintf(
			"418 ordinary %s /base%s 127.0.0.1 %s",
			test.method,
			test.path,
			test.body,
		)
		if got != want {
			t.Errorf("%s: %q, want %q", test.name, got, want)
		}
	}
	// The remote answers a valid upgrade, whoever asks: who is not admitted finds out in the
	// handshake.
	ws, _, err := websocket.DefaultDialer.DialContext(
		testnet.Within(t, 10*time.Second),
		"ws"+remote.server.URL[4:]+"/tunnel",
		nil,
	)
	if err != nil {
		t.Fatal(err)
	}
	ws.Close()
	// The site's own WebSockets work.
	plain := startWithFallback(t, site(t).URL, nil)
	ws, _, err = websocket.DefaultDialer.DialContext(
		testnet.Within(t, 10*time.Second),
		"ws"+plain.server.URL[4:]+"/socket",
		nil,
	)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	ws.SetReadDeadline(time.Now().Add(10 * time.Second))
	if err := ws.WriteMessage(websocket.TextMessage, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, message, err := ws.ReadMessage(); err != nil || string(message) != "hello" {
		t.Errorf("%q, %v", message, err)
	}
}

// A remote that is full looks like the site, too, even to its clients.
func TestFallbackWhenFull(t *testing.T) {
	key := newKey(t)
	target, err := ParseFallback(site(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	remote := startRemote(
		t,
		trustKeys(t, key),
		func(cfg *RemoteConfig) { cfg.Fallback, cfg.MaxSessions = target, 1 },
	)
	cfg := remote.localConfig(t, key)
	local, _ := startLocal(t, cfg)
	reached(t, local, testnet.EchoServer(t))
	var status *StatusError
	if err := NewLocal(cfg).Run(t.Context()); !errors.As(err, &status) ||
		status.Code != http.StatusTeapot {
		t.Errorf("a session too many: %v", err)
	}
}

func TestFallbackOutOfReach(t *testing.T) {
	remote := startWithFallback(t, "http://127.0.0.1:"+testnet.FreePort(t), nil)
	if got := visit(t, remote.server.URL+"/", "GET", nil, ""); got != "502  " {
		t.Errorf("%q", got)
	}
}

// A visitor beyond the limit replaces the one that has been without progress for longest, and a
// remote that stops leaves none behind.
func TestFallbackBounds(t *testing.T) {
	arrived := make(chan string, 2)
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- r.URL.Path
		<-r.Context().Done()
	}))
	t.Cleanup(slow.Close)
	target, err := url.Parse(slow.URL)
	if err != nil {
		t.Fatal(err)
	}
	remote := startRemote(
		t,
		trustKeys(t, newKey(t)),
		func(cfg *RemoteConfig) { cfg.Path, cfg.Fallback = "/tunnel", target },
	)
	remote.fallback.places = newFairPlaces(1, 1, 0) // before there is any request
	first, second := make(chan string, 1), make(chan string, 1)
	go func() { first <- visit(t, remote.server.URL+"/first", "GET", nil, "") }()
	if got := receive(t, arrived); got != "/first" {
		t.Fatal(got)
	}
	go func() { second <- visit(t, remote.server.URL+"/second", "GET", nil, "") }()
	if got := receive(t, arrived); got != "/second" {
		t.Fatal(got)
	}
	if got := receive(t, first); got != "502  " {
		t.Errorf("the one that had to make way: %q", got)
	}
	remote.Shutdown(testnet.Within(t, 10*time.Second))
	if got := receive(t, second); got != "502  " {
		t.Errorf("cut short: %q", got)
	}
	if got := visit(t, remote.server.URL+"/", "GET", nil, ""); got != "502  " {
		t.Errorf("after the end: %q", got)
	}
}

func TestParseFallback(t *testing.T) {
	for _, bad := range []string{
		"", "example.org", "ftp://example.org", "http://",
		"http://a:b@example.org/", "http://example.org/?q",
		"http://example.org/#f", "http://exa mple"} {
		if u, err := ParseFallback(bad); err == nil {
			t.Errorf("%q was taken for %s", bad, u)
		}
	}
}

// isUpgrade accepts exactly what package protocol upgrades.
func TestIsUpgrade(t *testing.T) {
	for _, name := range []string{
		"", "Connection", "Upgrade", "Sec-Websocket-Version", "Sec-Websocket-Key",
	} {
		request := httptest.NewRequest("GET", "/", nil)
		request.Header = http.Header{
			"Connection":            {"keep-alive, Upgrade"},
			"Upgrade":               {"WebSocket"},
			"Sec-Websocket-Version": {"13"},
			"Sec-Websocket-Key":     {"dGhlIHNhbXBsZSBub25jZQ=="},
		}
		request.Header.Del(name)
		// The recorder has no connection to hijack, which Upgrade checks last.
		recorder := httptest.NewRecorder()
		_, err := protocol.Upgrade(recorder, request)
		upgrades := err != nil && recorder.Code == http.StatusInternalServerError
		if upgrades != isUpgrade(request) || upgrades != (name == "") {
			t.Errorf("without %q: %v, %d", name, isUpgrade(request), recorder.Code)
		}
	}
}

// TestFallbackFaultOfVisitor: a request that breaks off, or is for a protocol that is none, says
// nothing about the site.
func TestFallbackFaultOfVisitor(t *testing.T) {
	log := new(lockedBuffer)
	remote := startWithFallback(t, site(t).URL, func(cfg *RemoteConfig) {
		cfg.Log = zerolog.New(log).Level(zerolog.WarnLevel)
	})
	ask := func(request string, end bool) string {
		t.Helper()
		conn := testnet.Dial(t, remote.server.Listener.Addr().String(), patience)
		conn.SetDeadline(time.Now().Add(patience))
		io.WriteString(conn, request)
		if end {
			conn.CloseWrite()
		}
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%q: %v", request, err)
		}
		response.Body.Close()
		return response.Status[:3]
	}
	got := ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf", true)
	if got != "400" {
		t.Errorf("half a request: %s", got)
	}
	got = ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: \x80\r\n\r\n", false)
	if got != "418" {
		t.Errorf("an upgrade to nothing: %s", got)
	}
	if text := log.String(); text != "" {
		t.Errorf("logged: %s", text)
	}
}
