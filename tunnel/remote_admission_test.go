package tunnel

import (
	"errors"
	"net/http"
	"net/url"
	"testing"
	"time"

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
	if err := NewLocal(cfg).Run(within(t, patience)); !errors.As(err, &status) ||
		status.Code != http.StatusServiceUnavailable {
		t.Fatalf("a session too many: %v", err)
	}
}

// TestSessionsMakeRoom fills a remote with sessions of a client that crashes again and again, and
// one of another client that has lost its connection: a third client is admitted, at the cost of
// the first one's oldest.
func TestSessionsMakeRoom(t *testing.T) {
	crashing, quiet, third := newKey(t), newKey(t), newKey(t)
	remote := startRemote(t, trustKeys(t, crashing, quiet, third), func(cfg *RemoteConfig) {
		cfg.MaxSessions = 4
	})
	f := startFront(t, passTo(remote.server.Listener.Addr().String()))
	leave := func(key *certs.KeyPair) {
		cfg := remote.localConfig(t, key)
		cfg.Address.url = &url.URL{Scheme: "ws", Host: f.address, Path: "/"}
		c := cfg.connector()
		before := remote.count()
		conn, err := c.connect(within(t, 10*time.Second), nil, newAttemptProgress(nil))
		if err != nil {
			t.Fatal(err)
		}
		until(t, "the session is counted", func() bool { return remote.count() == before+1 })
		f.cut()
		testnet.Await(t, patience, func() { conn.session.AwaitLoss(within(t, patience)) })
		t.Cleanup(func() { conn.session.Close() })
	}
	leave(quiet)
	for range 3 {
		leave(crashing)
	}
	held := func(key *certs.KeyPair) (n int) {
		remote.mu.Lock()
		defer remote.mu.Unlock()
		for _, a := range remote.sessions {
			if a.peer.Key.Equal(key.Public()) {
				n++
			}
		}
		return n
	}
	for n := 2; n >= 1; n-- { // two more, and then the crashing client holds no more than others
		local, _ := startLocal(t, remote.localConfig(t, third))
		dial(t, local, testnet.EchoServer(t))
		if held(crashing) != n || held(quiet) != 1 || remote.count() != 4 {
			t.Errorf("sessions of %d: %d of the crashing client, %d of the quiet one",
				remote.count(), held(crashing), held(quiet))
		}
	}
}
