package metrics

import (
	"net/http/httptest"
	"strings"
	"testing"

	"culvert/tunnel"
)

// idleNode is a node that does nothing.
type idleNode struct{}

func (idleNode) Read() tunnel.Reading { return tunnel.Reading{} }

// TestReloadsOfRemotes: only a remote reads its configuration again, so a local has no figures of
// that, which would always be those of a success.
func TestReloadsOfRemotes(t *testing.T) {
	remote, local := New("test"), New("test")
	sources := Sources{DroppedLines: func() uint64 { return 0 }}
	remote.WatchRemote(idleNode{}, sources)
	local.WatchLocal(idleNode{}, sources)
	remote.Reloaded(false)
	const failed = "\nculvert_config_last_reload_successful 0\n"
	if text := scrape(t, remote); !strings.Contains(text, failed) {
		t.Errorf("the remote's failed reload is not among\n%s", text)
	}
	if text := scrape(t, local); strings.Contains(text, "culvert_config_last_reload") {
		t.Errorf("a local has reloads:\n%s", text)
	}
}

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	recorder := httptest.NewRecorder()
	m.Handler().ServeHTTP(recorder, httptest.NewRequest("GET", "/metrics", nil))
	return recorder.Body.String()
}
