package tunnel

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"culvert/internal/testnet"
)

// The carriers of a session have one name, those of another session another, and without the header
// there is none.
func TestSessionHeader(t *testing.T) {
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), nil)
	names := make(chan []string, 10)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		names <- r.Header.Values(sessionHeader)
		remote.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	cfg := remote.localConfig(t, key)
	cfg.Header = http.Header{"X-Test": {"kept"}}
	var err error
	if cfg.Address, err = ParseAddress(front.URL); err != nil {
		t.Fatal(err)
	}
	connect := func(connector *localConnector, last *localConnection) (*localConnection, []string) {
		t.Helper()
		conn, err := connector.connect(testnet.Within(t, patience), last, newAttemptProgress(nil))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.session.Close() })
		return conn, receive(t, names)
	}
	connector := cfg.connector()
	conn, first := connect(connector, nil)
	if _, again := connect(connector, conn); len(first) != 1 || !slices.Equal(again, first) {
		t.Errorf("the names %q and %q", first, again)
	}
	if _, other := connect(connector, nil); slices.Equal(other, first) {
		t.Errorf("two sessions have the name %q", other)
	}
	if cfg.Header.Get(sessionHeader) != "" {
		t.Error("the configured header was changed")
	}
	cfg.NoSessionHeader = true
	if _, none := connect(cfg.connector(), nil); len(none) != 0 {
		t.Errorf("the name %q", none)
	}
}

// A value of another form than a local sends is taken for none.
func TestRouteNameOf(t *testing.T) {
	name := newRouteName()
	for value, want := range map[string]string{
		name: name, "": "", name[1:]: "", name + "A": "", strings.Repeat("!", len(name)): "",
		strings.Repeat("x", 10_000): "",
	} {
		request := httptest.NewRequest(http.MethodGet, "/", nil)
		request.Header.Set(sessionHeader, value)
		if got := routeNameOf(request); got != want {
			t.Errorf("%.50q: the name %q", value, got)
		}
	}
}
