package tunnel

import (
	"errors"
	"net/http"
	"testing"

	"culvert/certs"
	"culvert/internal/testnet"
)

func TestSessionLimit(t *testing.T) {
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), func(cfg *RemoteConfig) { cfg.MaxSessions = 1 })
	cfg := remote.localConfig(t, key)
	local, _ := startLocal(t, cfg)
	dial(t, local, testnet.EchoServer(t)) // the session is counted by now
	var status *StatusError
	if err := NewLocal(cfg).Run(testnet.Within(t, patience)); !errors.As(err, &status) ||
		status.Code != http.StatusServiceUnavailable {
		t.Fatalf("a session too many: %v", err)
	}
}

// TestSessionsMakeRoom fills a remote with sessions of a client that crashes again and again, and
// one of another client that has lost its connection: a third client is admitted, at the cost of
// the first one's oldest.
func TestSessionsMakeRoom(t *testing.T) {
	crashing, quiet, third := newKey(t), newKey(t), newKey(t)
	s := startShares(t, trustKeys(t, crashing, quiet, third), func(cfg *RemoteConfig) {
		cfg.MaxSessions = 4
	})
	for _, key := range []*certs.KeyPair{quiet, crashing, crashing, crashing} {
		s.mustConnect(key)
		s.crash()
	}
	for n := 2; n >= 1; n-- { // two more, and then the crashing client holds no more than others
		local, _ := startLocal(t, s.localConfig(t, third))
		dial(t, local, testnet.EchoServer(t))
		if s.held(crashing) != n || s.held(quiet) != 1 || s.count() != 4 {
			t.Errorf("sessions of %d: %d of the crashing client, %d of the quiet one",
				s.count(), s.held(crashing), s.held(quiet))
		}
	}
}
