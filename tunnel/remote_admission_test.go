package tunnel

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"culvert/certs"
	"culvert/internal/testnet"
	"culvert/protocol"
	"culvert/tunnel/mux"
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

// pipeRules dial a target that accepts nothing but what is read from the other end of its pipe.
type pipeRules struct {
	remoteRules
	target net.Conn
}

func (r pipeRules) Dial(context.Context, string, string) (net.Conn, error) { return r.target, nil }

// A session that has ended holds no place while a target has yet to accept what it has brought,
// which arrives.
func TestEndedSessionMakesRoom(t *testing.T) {
	key := newKey(t)
	s := startShares(t, trustLines(t, key.Public().String()+" sessions=1"),
		func(cfg *RemoteConfig) { cfg.MaxSessions = 1 })
	target, accepted := net.Pipe()
	defer accepted.Close()
	s.dialer = func(rules remoteRules) remoteRules { return pipeRules{rules, target} }
	session := s.mustConnect(key)[0]
	client := s.client(key)
	uses := func(sessions, streams int) func() bool {
		return func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return client.held() == sessions && s.Remote.held() == sessions &&
				client.streams == streams
		}
	}
	stream, err := session.Open(testnet.Within(t, patience),
		mux.Target{Kind: mux.StreamTCP, Address: "127.0.0.1:9"})
	if err != nil {
		t.Fatal(err)
	}
	upload := randomBytes(t, 64<<10)
	if _, err := stream.Write(upload); err != nil {
		t.Fatal(err)
	}
	until(t, "the remote has the upload", func() bool {
		stats := session.Stats()
		return stats.Queued == 0 && stats.Retained == 0
	})
	session.Close()
	until(t, "the session has ended", uses(0, 1))
	next := s.mustConnect(key)[0]
	if !uses(1, 1)() {
		t.Error("the upload does not go on")
	}
	accepted.SetDeadline(time.Now().Add(patience))
	if got, err := io.ReadAll(accepted); err != nil || !bytes.Equal(got, upload) {
		t.Errorf("%d of %d bytes have arrived: %v", len(got), len(upload), err)
	}
	until(t, "the upload has ended", uses(1, 0))
	s.live(next)
}

// A client whose only session makes room for its next one is dropped, and counted as a new one.
func TestOnlySessionMakesRoom(t *testing.T) {
	for name, limit := range map[string]func(*RemoteConfig){
		"of the client": func(cfg *RemoteConfig) { cfg.Share.Sessions = 1 },
		"of the remote": func(cfg *RemoteConfig) { cfg.MaxSessions = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			key := newKey(t)
			s := startShares(t, trustKeys(t, key), limit)
			s.mustConnect(key)
			dropped := s.client(key)
			s.crash()
			session := s.mustConnect(key)[0]
			if s.client(key) == dropped {
				t.Error("the client that was dropped is used again")
			}
			_, err := session.Open(testnet.Within(t, patience),
				mux.Target{Kind: mux.StreamTCP, Address: testnet.EchoServer(t)})
			if err != nil {
				t.Fatal(err)
			}
			if n := s.session.Memory.HeldBy(key.Public().String()); n < streamMemory {
				t.Errorf("a client with a stream holds %d bytes", n)
			}
			session.Close()
			until(t, "nothing is left", func() bool {
				return s.client(key) == nil && s.session.Memory.Held() == 0
			})
		})
	}
}

// TestClosedBeforeSession: a client that has completed the handshake, and has no session yet, is
// told that the remote is busy when others need its place. When it leaves by itself, it was not
// refused.
func TestClosedBeforeSession(t *testing.T) {
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	admitted := make(chan error, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := remote.admit(ctx, w, r)
		admitted <- err
	}))
	defer server.Close()
	address, err := ParseAddress("ws" + strings.TrimPrefix(server.URL, "http") + "/")
	if err != nil {
		t.Fatal(err)
	}
	cfg := remote.localConfig(t, key)
	cfg.Address = address
	connector := cfg.connector()
	shake := func() *protocol.Conn {
		t.Helper()
		ctx := testnet.Within(t, patience)
		ws, err := connector.dial(ctx, new(stepClock), http.Header{}, newLocalCookies().attempt())
		if err != nil {
			t.Fatal(err)
		}
		conn, err := protocol.Client(ctx, ws, connector.client)
		if err != nil {
			t.Fatal(err)
		}
		// The pong shows that the remote has completed the handshake too.
		raw := conn.NetConn()
		raw.SetReadDeadline(time.Now().Add(patience))
		if _, err := raw.Write([]byte{0x89, 0x80, 0, 0, 0, 0}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(raw, make([]byte, 2)); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	shake().Close()
	if err := <-admitted; !hasLeft(err) || penaltyFor(err) != penaltyLeft {
		t.Errorf("a client that left: %v", err)
	}
	conn := shake()
	cancel(errDisplaced)
	_, err = conn.ReadRecord(nil)
	refused, ok := errors.AsType[*protocol.RefusedError](err)
	if !ok || refused.Code != CloseBusy || handshakeResult(err) != HandshakeBusy ||
		IsAdmissionError(&ConnectError{Step: StepSession, Err: err}) {
		t.Errorf("a client that had to make way got %v", err)
	}
	if err := <-admitted; !errors.Is(err, errDisplaced) || hasLeft(err) {
		t.Errorf("got %v", err)
	}
}
