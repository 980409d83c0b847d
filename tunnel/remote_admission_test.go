package tunnel

import (
	"culvert/internal/testnet"
	"errors"
	"net/http"
	"testing"
)

func TestSessionLimit(t *testing.T) {
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), func(cfg *RemoteConfig) { cfg.MaxSessions = 1 })
	cfg := remote.localConfig(t, key)
	local, _ := startLocal(t, cfg)
	dial(t, local, testnet.EchoServer(t)) // the session is counted by now
	var status *StatusError
	if err := NewLocal(cfg).Run(within(t, patience)); !errors.As(err, &status) ||
		status.Code != http.StatusServiceUnavailable {
		t.Fatalf("a session too many: %v", err)
	}
}
