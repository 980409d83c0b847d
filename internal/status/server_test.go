package status

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"culvert/internal/bounds"
	"culvert/internal/state"
	"culvert/internal/testnet"
)

// patience bounds what tests wait for.
const patience = time.Minute

// testConfig is that of a node with an event, which isn't ready while unready has a value.
func testConfig(unready *error) Config {
	return Config{
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "metrics")
		}),
		Ready:  func() error { return *unready },
		Source: state.NewSource(func() state.State { return state.State{} }),
		Events: state.NewEvents(),
		Bounds: new(bounds.Counts),
	}
}

// startServer serves on a listener until the test ends.
func startServer(t *testing.T, network, address string, cfg Config) *Server {
	t.Helper()
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	s := New(ln, cfg)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := s.Serve(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		s.Close()
		testnet.Await(t, patience, serving.Wait)
	})
	return s
}

// ask makes a request and returns the status and the body.
func ask(t *testing.T, request *http.Request) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	response, body := testnet.Fetch(t, client, request)
	return response.StatusCode, body
}

func newRequest(t *testing.T, method, url string) *http.Request {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return request
}

// TestAccess checks which paths need the token, that it can be in the URL or a field, and that
// nothing answers to another's name or changes anything.
func TestAccess(t *testing.T) {
	t.Parallel()
	var unready error
	cfg := testConfig(&unready)
	cfg.Hosts, cfg.Profile = []string{"Status.example."}, true
	s := startServer(t, "tcp", "127.0.0.1:0", cfg)
	base, query, _ := strings.Cut(s.URL(), "/?")
	for _, test := range []struct {
		method, path, host, field string
		want                      int
	}{
		{"GET", "/metrics", "", "", 200},
		{"GET", "/healthz", "", "", 200},
		{"GET", "/readyz", "", "", 200},
		{"GET", "/page/app.js", "", "", 200},
		{"GET", "/page/", "", "", 404},
		{"GET", "/page/third_party/uplot/LICENSE", "", "", 200},
		{"GET", "/", "", "", 403},
		{"GET", "/api/state", "", "", 403},
		{"GET", "/api/events", "", "", 403},
		{"GET", "/debug/pprof/heap", "", "", 403},
		{"GET", "/?token=", "", "", 403},
		{"GET", "/?token=x", "", "", 403},
		{"GET", "/?" + query, "", "", 200},
		{"GET", "/api/state?" + query, "", "", 200},
		{"GET", "/debug/pprof/heap?" + query, "", "", 200},
		{"GET", "/api/state", "", "Bearer " + s.token, 200},
		{"GET", "/api/state?" + query, "", "Bearer wrong", 403},
		{"POST", "/?" + query, "", "", 405},
		{"POST", "/metrics", "", "", 405},
		{"DELETE", "/api/state?" + query, "", "", 405},
		{"GET", "/metrics", "localhost:1", "", 200},
		{"GET", "/metrics", "[::1]:1", "", 200},
		{"GET", "/metrics", "192.0.2.1", "", 200},
		{"GET", "/metrics", "status.example:1", "", 200},
		{"GET", "/metrics", "evil.example", "", 421},
		{"GET", "/?" + query, "evil.example", "", 421},
		{"GET", "/metrics", "localhost.evil.example", "", 421},
	} {
		request := newRequest(t, test.method, base+test.path)
		request.Host = test.host
		if test.field != "" {
			request.Header.Set("Authorization", test.field)
		}
		if status, body := ask(t, request); status != test.want {
			t.Errorf("%+v: %d: %.100s", test, status, body)
		}
	}
	unready = errors.New("draining\nand more")
	if status, body := ask(t, newRequest(t, "GET", base+"/readyz")); status != 503 ||
		body != "not ready: draining\n" {
		t.Errorf("not ready: %d: %q", status, body)
	}
}

// TestAccessFromOutside checks that the page needs TLS on an address that other machines can reach,
// and that a unix socket needs no token.
func TestAccessFromOutside(t *testing.T) {
	t.Parallel()
	var unready error
	outside, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	plain := New(outside, testConfig(&unready))
	defer plain.Close()
	cfg := testConfig(&unready)
	cfg.TLS = &tls.Config{}
	secured := New(outside, cfg)
	defer secured.Close()
	if plain.URL() != "" || !strings.HasPrefix(secured.URL(), "https://") {
		t.Errorf("URLs %q and %q", plain.URL(), secured.URL())
	}
	from := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}
	for _, test := range []struct {
		server *Server
		path   string
		want   int
	}{
		{plain, "/metrics", 200},
		{plain, "/healthz", 200},
		{plain, "/?token=" + plain.token, 403},
		{plain, "/api/state?token=" + plain.token, 403},
		{secured, "/metrics", 200},
		{secured, "/", 403},
		{secured, "/?token=" + secured.token, 200},
	} {
		request := httptest.NewRequest("GET", test.path, nil)
		request.Host = "192.0.2.1"
		request = request.WithContext(
			context.WithValue(t.Context(), http.LocalAddrContextKey, from))
		got := httptest.NewRecorder()
		test.server.http.Handler.ServeHTTP(got, request)
		if got.Code != test.want {
			t.Errorf("%s, TLS %v: %d: %s", test.path, test.server.secured, got.Code, got.Body)
		}
	}

	path := filepath.Join(t.TempDir(), "status")
	s := startServer(t, "unix", path, testConfig(&unready))
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}}
	response, err := client.Get("http://any.name/api/state")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != 200 || s.URL() != "unix:"+path {
		t.Errorf("unix socket: %d, URL %q", response.StatusCode, s.URL())
	}
}

// openStream opens an event stream, and returns its lines.
func openStream(t *testing.T, url, last string) (lines *bufio.Scanner, status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Last-Event-ID", last)
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return bufio.NewScanner(response.Body), response.StatusCode
}

// TestEventStream checks that events come as they happen, that a client that reconnects gets those
// that it has missed, and that there is a bound on how many streams there are.
func TestEventStream(t *testing.T) {
	t.Parallel()
	var unready error
	cfg := testConfig(&unready)
	cfg.Events.Add(state.Event{Kind: "first"})
	cfg.Events.Add(state.Event{Kind: "second"})
	s := startServer(t, "tcp", "127.0.0.1:0", cfg)
	url := strings.Replace(s.URL(), "/?", "/api/events?", 1)
	next := func(lines *bufio.Scanner, want string) {
		t.Helper()
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				if !strings.Contains(data, `"kind":"`+want+`"`) {
					t.Errorf("%s, want %s", data, want)
				}
				return
			}
		}
		t.Fatalf("no %s: %v", want, lines.Err())
	}
	again, _ := openStream(t, url, "1")
	next(again, "second")
	fresh, _ := openStream(t, url, "")
	if !fresh.Scan() { // the stream has begun
		t.Fatal(fresh.Err())
	}
	cfg.Events.Add(state.Event{Kind: "third"})
	next(again, "third")
	next(fresh, "third")
	for range maxEventStreams - 2 {
		if lines, status := openStream(t, url, ""); status != 200 || !lines.Scan() {
			t.Fatalf("status %d", status)
		}
	}
	if _, status := openStream(t, url, ""); status != http.StatusServiceUnavailable ||
		cfg.Bounds.Of(bounds.StatusEventStreams) != 1 {
		t.Errorf("one more: status %d, %d counted", status,
			cfg.Bounds.Of(bounds.StatusEventStreams))
	}
}
