package tunnel

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"culvert/protocol"
)

// upgradeFrom opens a WebSocket as a browser does for pages of the origins, and returns the status
// of the response.
func upgradeFrom(t *testing.T, remote *testRemote, origins ...string) int {
	t.Helper()
	header := http.Header{}
	for _, origin := range origins {
		header.Add("Origin", origin)
	}
	ws, response, err := protocol.NewDialer(nil, nil).
		Dial("ws"+strings.TrimPrefix(remote.server.URL, "http"), header)
	if err == nil {
		ws.Close()
	}
	if response == nil {
		t.Fatal(err)
	}
	return response.StatusCode
}

// A remote that admits everybody does not admit every web page: its users' browsers may reach it
// where the author of a page can't.
func TestOrigin(t *testing.T) {
	anyone := RemoteTrust{Anyone: true}
	pages := RemoteTrust{Anyone: true, Origins: []string{"https://a.example", "null"}}
	for _, tt := range []struct {
		trust   RemoteTrust
		origins []string
		want    int
	}{
		{anyone, nil, 101},
		{anyone, []string{"https://a.example"}, 403},
		{anyone, []string{"null"}, 403},
		{anyone, []string{""}, 403},
		{anyone, []string{"http://127.0.0.1"}, 403},
		{anyone, []string{"chrome-extension://abcdefgh"}, 403},
		{pages, nil, 101},
		{pages, []string{"https://a.example"}, 101},
		{pages, []string{"HTTPS://A.example:443"}, 101},
		{pages, []string{"null"}, 101},
		{pages, []string{"http://a.example"}, 403},
		{pages, []string{"https://a.example:8443"}, 403},
		{pages, []string{"https://b.a.example"}, 403},
		{pages, []string{"https://a.example.evil.test"}, 403},
		{pages, []string{"https://a.example", "https://b.example"}, 403},
		{trustKeys(t, newKey(t)), []string{"https://a.example"}, 101}, // a key is asked for
	} {
		remote := startRemote(t, tt.trust, nil)
		if got := upgradeFrom(t, remote, tt.origins...); got != tt.want {
			t.Errorf("origins %q, of which %q are admitted: %d, want %d", tt.origins,
				tt.trust.Origins, got, tt.want)
		}
	}
}

// A page gets from a hidden remote what every visitor gets.
func TestOriginFallback(t *testing.T) {
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, "a site")
	}))
	defer site.Close()
	to, err := url.Parse(site.URL)
	if err != nil {
		t.Fatal(err)
	}
	remote := startRemote(t, RemoteTrust{Anyone: true},
		func(cfg *RemoteConfig) { cfg.Fallback = to })
	if got := upgradeFrom(t, remote, "https://a.example"); got != http.StatusTeapot {
		t.Errorf("status %d", got)
	}
	if got := upgradeFrom(t, remote); got != http.StatusSwitchingProtocols {
		t.Errorf("without an origin: status %d", got)
	}
}

func TestParseOrigin(t *testing.T) {
	for text, want := range map[string]string{
		"null":                         "null",
		"https://Example.org":          "https://example.org",
		"https://example.org/":         "https://example.org",
		"https://example.org:443":      "https://example.org",
		"http://example.org:80":        "http://example.org",
		"http://example.org:443":       "http://example.org:443",
		"http://[2001:DB8::1]:3000":    "http://[2001:db8::1]:3000",
		"chrome-extension://abcdefghi": "chrome-extension://abcdefghi",
		"*":                            "",
		"":                             "",
		"example.org":                  "",
		"https://":                     "",
		"https://example.org/page":     "",
		"https://user@example.org":     "",
		"https://example.org?q":        "",
	} {
		if got, err := ParseOrigin(text); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v, want %q", text, got, err, want)
		}
	}
}
