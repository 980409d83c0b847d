package tunnel

import (
	"bytes"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"culvert/certs"
	"culvert/internal/testnet"
	"culvert/tunnel/mux"
	"culvert/tunnel/policy"

	"github.com/rs/zerolog"
)

// shares is a remote with a front through which clients reach it.
type shares struct {
	*testRemote
	t     *testing.T
	front *front
}

func startShares(t *testing.T, trust RemoteTrust, change func(*RemoteConfig)) *shares {
	remote := startRemote(t, trust, change)
	return &shares{remote, t, startFront(t, passTo(remote.server.Listener.Addr().String()))}
}

// connect makes a session that nobody renews.
func (s *shares) connect(key *certs.KeyPair) (*mux.Session, error) {
	s.t.Helper()
	cfg := s.localConfig(s.t, key)
	cfg.Address.url = &url.URL{Scheme: "ws", Host: s.front.address, Path: "/"}
	conn, err := cfg.connector().connect(testnet.Within(s.t, patience), nil, newAttemptProgress(nil))
	if err != nil {
		return nil, err
	}
	conn.session.TakeIncoming()
	s.t.Cleanup(func() { conn.session.Close() })
	return conn.session, nil
}

// mustConnect makes sessions, the first one first.
func (s *shares) mustConnect(keys ...*certs.KeyPair) (sessions []*mux.Session) {
	s.t.Helper()
	for _, key := range keys {
		session, err := s.connect(key)
		if err != nil {
			s.t.Fatal(err)
		}
		sessions = append(sessions, session)
		s.awaitCarrier(session)
	}
	return sessions
}

// awaitCarrier waits until the remote has the connection of a client's session: it answers first.
func (s *shares) awaitCarrier(client *mux.Session) {
	s.t.Helper()
	until(s.t, "the remote has the connection", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for session := range s.sessions {
			if session.ID() == client.ID() {
				return !session.Stats().Away
			}
		}
		return client.Err() != nil
	})
}

// crash makes the clients of all sessions so far disappear.
func (s *shares) crash() {
	s.t.Helper()
	s.front.cut()
	until(s.t, "the remote has noticed", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for session := range s.sessions {
			if session.Stats().AwaySince.IsZero() { // Away it is also until it has its first carrier
				return false
			}
		}
		return true
	})
}

// held returns how many sessions the remote has of a key.
func (s *shares) held(key *certs.KeyPair) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.sessions {
		if a.peer.Key.Equal(key.Public()) {
			n++
		}
	}
	return n
}

// client returns what the remote counts of a key, nil when that uses nothing.
func (s *shares) client(key *certs.KeyPair) *remoteClient {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clients[clientID{key: key.Public()}]
}

// isRefused checks that a client is refused, with a code, before it takes itself for admitted.
func (s *shares) isRefused(key *certs.KeyPair, code mux.Code) {
	s.t.Helper()
	session, err := s.connect(key)
	var refused *mux.RefusedError
	if !errors.As(err, &refused) || refused.Code != code || isFinal(err) {
		s.t.Errorf("session %v, %v; want it refused with %q", session != nil, err, code)
	}
}

// neverUp runs a local, whose session never is up, and returns how Run ended.
func (s *shares) neverUp(cfg LocalConfig) error {
	s.t.Helper()
	log := &bytes.Buffer{}
	cfg.Log = zerolog.New(log)
	local := NewLocal(cfg)
	err := local.Run(testnet.Within(s.t, patience))
	if _, waited := local.WaitSession(s.t.Context()); err == nil || waited == nil ||
		strings.Contains(log.String(), "session up") {
		s.t.Errorf("%v; its log:\n%s", err, log)
	}
	return err
}

// live checks that sessions still serve.
func (s *shares) live(sessions ...*mux.Session) {
	s.t.Helper()
	for i, session := range sessions {
		if _, err := session.Ping(testnet.Within(s.t, patience)); err != nil {
			s.t.Errorf("session %d: %v", i, err)
		}
	}
}

// A key has as many sessions as its line, or else the default, lets it have. Others are not
// affected.
func TestSessionsOfOneKey(t *testing.T) {
	greedy, limited, other := newKey(t), newKey(t), newKey(t)
	trust := trustLines(t, greedy.Public().String(), other.Public().String(),
		limited.Public().String()+" sessions=1")
	s := startShares(t, trust, func(cfg *RemoteConfig) {
		cfg.Share.Sessions, cfg.MaxSessions = 3, 8
	})
	held := s.mustConnect(greedy, greedy, greedy, limited)
	s.isRefused(greedy, mux.CodeShare)
	s.isRefused(limited, mux.CodeShare)
	cfg := s.localConfig(t, limited)
	cfg.Wait = time.Second
	if err := s.neverUp(cfg); IsAdmissionError(err) {
		t.Errorf("the share of a client that is admitted: %v", err)
	}
	held = append(held, s.mustConnect(other)...)
	s.live(held...)
	held[3].Close()
	until(t, "its end is noticed", func() bool { return s.held(limited) == 0 })
	s.live(s.mustConnect(limited)...)
}

// No client takes all sessions of a remote with the defaults.
func TestDefaultShare(t *testing.T) {
	s := startShares(t, trustKeys(t, newKey(t)), nil)
	if share := s.access.shareOf(clientID{}); share.Sessions < 1 ||
		share.Sessions > s.cfg.MaxSessions/2 {
		t.Errorf("%d of %d sessions", share.Sessions, s.cfg.MaxSessions)
	}
}

// A client that crashed replaces its own session, which waits for it.
func TestCrashedClientReturns(t *testing.T) {
	key := newKey(t)
	s := startShares(t, trustLines(t, key.Public().String()+" sessions=2"), nil)
	s.mustConnect(key, key)
	s.crash()
	s.live(s.mustConnect(key, key)...)
	if s.held(key) != 2 {
		t.Errorf("%d sessions", s.held(key))
	}
}

// A session of a client that went silent makes room soon after it was in the way.
func TestSilentClientReturns(t *testing.T) {
	key := newKey(t)
	s := startShares(t, trustLines(t, key.Public().String()+" sessions=1"), nil)
	reached := s.front.address
	relay := testnet.RelayTo(t, reached, testnet.RelayConfig{})
	s.front.address = relay.Address()
	s.mustConnect(key)
	relay.Freeze()
	s.front.address = reached
	s.isRefused(key, mux.CodeShare)
	until(t, "the remote has noticed", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for session := range s.sessions {
			return !session.Stats().AwaySince.IsZero()
		}
		return false
	})
	s.mustConnect(key)
}

// Clients that have crashed don't keep others out, and whoever is refused doesn't take itself for
// admitted.
func TestFiveCrashedClients(t *testing.T) {
	var keys []*certs.KeyPair
	for range 11 {
		keys = append(keys, newKey(t))
	}
	s := startShares(t, trustKeys(t, keys...), func(cfg *RemoteConfig) { cfg.MaxSessions = 5 })
	s.mustConnect(keys[:5]...)
	s.crash()
	s.live(s.mustConnect(keys[5:10]...)...)

	s.neverUp(s.localConfig(t, keys[10]))
}

// Who holds most makes room for others, whatever its sessions are doing, and takes none from those
// that hold less.
func TestEvictionTakesFromWhoeverHoldsMost(t *testing.T) {
	greedy, waiting, third := newKey(t), newKey(t), newKey(t)
	s := startShares(t, trustKeys(t, greedy, waiting, third), func(cfg *RemoteConfig) {
		cfg.MaxSessions = 4
	})
	s.mustConnect(waiting)
	s.crash()
	held := s.mustConnect(greedy, greedy, greedy)
	s.isRefused(greedy, mux.CodeFull)
	if s.held(waiting) != 1 {
		t.Fatal("a session that waits for its client is gone")
	}
	s.mustConnect(third)
	var closed *mux.CloseError
	if err := held[2].Wait(); !errors.As(err, &closed) || closed.Code != mux.CodeFull {
		t.Errorf("the newest session of whoever held most: %v", err)
	}
	s.live(held[:2]...)
	if s.held(waiting) != 1 || s.held(greedy) != 2 {
		t.Errorf("%d waiting, %d of whoever held most", s.held(waiting), s.held(greedy))
	}
	s.isRefused(third, mux.CodeFull) // it would hold more than it leaves to others
	s.isRefused(greedy, mux.CodeFull)
	s.live(s.mustConnect(waiting)...)
	if s.held(waiting) != 1 {
		t.Error("the client whose session waited has another one")
	}
}

// Where anybody may make keys, an address has a share; an IPv6 network of a client is one address.
func TestSharesOfAddresses(t *testing.T) {
	s := startShares(t, RemoteTrust{Anyone: true}, func(cfg *RemoteConfig) {
		cfg.Share.Sessions = 2
	})
	from := func(address string) {
		s.front = startFront(t, serveHTTP(func(w http.ResponseWriter, r *http.Request) {
			r.RemoteAddr = address
			s.Remote.ServeHTTP(w, r)
		}))
	}
	from("192.0.2.1:1000")
	s.mustConnect(newKey(t), newKey(t))
	s.isRefused(newKey(t), mux.CodeShare)
	from("192.0.2.2:1000")
	s.mustConnect(newKey(t))
	from("[2001:db8:1:2::3]:1000")
	s.mustConnect(newKey(t))
	from("[2001:db8:1:2:4::5]:1000")
	s.mustConnect(newKey(t))
	s.isRefused(newKey(t), mux.CodeShare)
	from("[2001:db8:1:3::3]:1000")
	s.mustConnect(newKey(t))
	from("@") // a unix socket
	key := newKey(t)
	s.mustConnect(key, key, newKey(t))
	s.isRefused(key, mux.CodeShare)
}

// A certificate of a CA is not free to make: its key counts, from whatever address.
func TestWhoIsCounted(t *testing.T) {
	key, addr := newKey(t).Public(), netip.MustParseAddr("192.0.2.1")
	for name, tt := range map[string]struct {
		trust RemoteTrust
		want  clientID
	}{
		"listed":    {RemoteTrust{Authorized: &certs.AuthorizedKeys{}}, clientID{key: key}},
		"certified": {RemoteTrust{RequireCert: true}, clientID{key: key}},
		"anyone": {RemoteTrust{Anyone: true},
			clientID{from: netip.MustParsePrefix("192.0.2.1/32")}},
	} {
		if got := (&remoteAccess{trust: tt.trust}).clientID(key, addr); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

// A reload gives living sessions their new share: the ones beyond it end, the newest first.
func TestReloadAppliesShares(t *testing.T) {
	key, other := newKey(t), newKey(t)
	s := startShares(t, trustKeys(t, key, other), nil)
	held := s.mustConnect(key, key, key, other, other)
	lines := trustLines(t, key.Public().String()+" sessions=1", other.Public().String())
	if err := s.Reload(s.cfg.Identity, lines, policy.Rights{}); err != nil {
		t.Fatal(err)
	}
	for _, session := range held[1:3] {
		var closed *mux.CloseError
		if err := session.Wait(); !errors.As(err, &closed) || closed.Code != mux.CodeShare {
			t.Errorf("a session beyond the share: %v", err)
		}
	}
	s.live(held[0], held[3], held[4])
	s.isRefused(key, mux.CodeShare)
	err := s.Reload(s.cfg.Identity, lines, policy.Rights{Share: policy.Share{Sessions: 1}})
	if err != nil {
		t.Fatal(err)
	}
	testnet.Await(t, patience, func() { held[4].Wait() })
	s.live(held[0], held[3])
}

// The streams of all sessions of a client count together, whoever opens them and of whatever kind.
// They count until they have ended.
func TestStreamsOfOneClient(t *testing.T) {
	key, other := newKey(t), newKey(t)
	rules, err := policy.ParseReverseRules([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	log := &lockedBuffer{}
	s := startShares(t, trustLines(t, key.Public().String()+" streams=3", other.Public().String()),
		func(cfg *RemoteConfig) {
			cfg.Log, cfg.Reverse = zerolog.New(log), rules
		})
	echo, ctx := testnet.EchoServer(t), testnet.Within(t, patience)
	sessions := s.mustConnect(key, key, other)
	full := func() {
		t.Helper()
		for _, session := range sessions[:2] {
			_, err := session.Open(ctx, mux.Target{Kind: mux.StreamTCP, Address: echo})
			_, flowErr := session.OpenFlow(ctx, "")
			_, listenErr := session.Open(ctx, mux.Target{Kind: mux.StreamListen,
				Address: "tcp:127.0.0.1:0"})
			for _, err := range []error{err, flowErr, listenErr} {
				if openCode(err) != mux.CodeTooManyStreams || !strings.Contains(err.Error(),
					"limit of 3") {
					t.Errorf("a stream beyond the share: %v", err)
				}
			}
		}
		if stream, err := sessions[2].Open(ctx, mux.Target{
			Kind: mux.StreamTCP, Address: echo,
		}); err != nil {
			t.Errorf("a stream of another client: %v", err)
		} else {
			stream.Close()
		}
	}
	counts := func(n int) func() bool {
		return func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.clients[clientID{key: key.Public()}].streams == n
		}
	}
	stream, err := sessions[0].Open(ctx, mux.Target{Kind: mux.StreamTCP, Address: echo})
	if err != nil {
		t.Fatal(err)
	}
	flow, err := sessions[1].OpenFlow(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	control, err := sessions[1].Open(ctx, mux.Target{Kind: mux.StreamListen,
		Address: "tcp:127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	full()
	address := readLine(t, control)
	control.Write([]byte{0})
	isReset(t, address) // a connection to the listener is a stream too
	stream.Close()
	until(t, "the stream has ended", counts(2))
	dialPlain(t, address)
	until(t, "the connection counts", counts(3))
	full()
	flow.Close()
	control.Close()
	for _, session := range sessions {
		session.Close()
	}
	until(t, "nothing is left", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.clients) == 0
	})
	if n := strings.Count(log.String(), "stream refused"); n == 0 || n > 6 ||
		!strings.Contains(log.String(), `"code":16`) {
		t.Errorf("%d of 13 refusals in the log:\n%s", n, log)
	}
}

// A reload applies another number of streams to living sessions. What is open stays.
func TestReloadAppliesStreams(t *testing.T) {
	key := newKey(t)
	s := startShares(t, trustKeys(t, key), nil)
	echo, ctx := testnet.EchoServer(t), testnet.Within(t, patience)
	session := s.mustConnect(key)[0]
	open := func() (*mux.Stream, error) {
		return session.Open(ctx, mux.Target{Kind: mux.StreamTCP, Address: echo})
	}
	first, err := open()
	if err != nil {
		t.Fatal(err)
	}
	err = s.Reload(s.cfg.Identity, trustLines(t, key.Public().String()+" streams=1"),
		policy.Rights{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(); openCode(err) != mux.CodeTooManyStreams {
		t.Errorf("a second stream: %v", err)
	}
	echoes(t, first)
}

// lockedBuffer collects a log.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (b *lockedBuffer) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text.Reset()
}

// readLine reads a line of a stream.
func readLine(t *testing.T, stream *mux.Stream) string {
	t.Helper()
	stream.SetReadDeadline(time.Now().Add(patience))
	line := []byte{}
	for b := make([]byte, 1); ; {
		if _, err := stream.Read(b); err != nil {
			t.Fatal(err)
		} else if b[0] == '\n' {
			return string(line)
		}
		line = append(line, b[0])
	}
}
