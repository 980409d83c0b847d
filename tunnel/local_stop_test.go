package tunnel

import (
	"context"
	"errors"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"culvert/internal/bounds"
	"culvert/internal/testnet"
	"culvert/tunnel/mux"

	"github.com/rs/zerolog"
)

// stopping is a local that is to be told to stop, with a stream to an echo server. Its carriers go
// through a front.
type stopping struct {
	t       *testing.T
	local   *Local
	remote  *testRemote
	front   *front
	session *mux.Session
	conn    net.Conn // the stream
	log     *lockedBuffer
	bounds  *bounds.Counts
	ctx     context.Context // of the local
	stop    context.CancelFunc
	running sync.WaitGroup
}

// testStopping runs a test with a local whose session is the current one, and with one whose
// session is retired.
func testStopping(t *testing.T, test func(*stopping)) {
	t.Parallel()
	for _, kind := range []string{"current", "retired"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			test(startStopping(t, kind == "retired"))
		})
	}
}

func startStopping(t *testing.T, retired bool) *stopping {
	t.Helper()
	key := newKey(t)
	s := &stopping{
		t: t, remote: startRemote(t, trustKeys(t, key), nil), log: &lockedBuffer{},
		bounds: &bounds.Counts{},
	}
	s.front = startFront(t, s.pass())
	cfg := s.remote.localConfig(t, key)
	cfg.Address.url = &url.URL{Scheme: "ws", Host: s.front.address, Path: "/"}
	cfg.Log, cfg.Bounds = zerolog.New(s.log), s.bounds
	s.local = NewLocal(cfg)
	s.ctx, s.stop = context.WithCancel(context.Background())
	t.Cleanup(func() {
		s.stop()
		s.local.Abort()
		s.awaitEnd(patience)
	})
	echo := testnet.EchoServer(t)
	if retired {
		conn, err := s.local.attempts(s.local.remotes[0]).connect(s.ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		s.session = conn.session
		stream, err := s.session.Open(testnet.Within(t, patience),
			mux.Target{Kind: mux.StreamTCP, Address: echo})
		if err != nil {
			t.Fatal(err)
		}
		s.conn = stream
		s.local.retire(s.ctx, conn)
		s.running.Go(s.local.retiring.Wait)
	} else {
		s.running.Go(func() { s.local.Run(s.ctx) })
		s.conn = dial(t, s.local, echo)
		s.session = s.local.connection().session
	}
	echoes(t, s.conn)
	return s
}

// pass is a handler that leads to the remote.
func (s *stopping) pass() func(*net.TCPConn) {
	return passTo(s.remote.server.Listener.Addr().String())
}

// lose makes the session lose its carrier, and a handler take all others.
func (s *stopping) lose(handler func(*net.TCPConn)) {
	s.t.Helper()
	n := s.front.become(handler)
	until(s.t, "the session is away", func() bool { return s.session.Stats().Away })
	s.front.awaitMore(s.t, n)
}

// awaitDraining waits until the local has noticed that it is to stop.
func (s *stopping) awaitDraining() {
	s.t.Helper()
	until(s.t, "it drains", func() bool { return strings.Contains(s.log.String(), `"draining"`) })
}

// goesOn checks that the stream works for as long as a local gives it.
func (s *stopping) goesOn() {
	s.t.Helper()
	s.conn.SetDeadline(time.Now().Add(DrainTimeout))
	if err := testnet.CheckEcho(s.conn, "ping"); err != nil {
		s.t.Errorf("over another connection: %v", err)
	}
	s.conn.Close()
	s.awaitEnd(patience)
	if strings.Contains(s.log.String(), "streams cut short") {
		s.t.Error("streams are said to be cut")
	}
}

// awaitEnd waits until the local has ended, for a time at most.
func (s *stopping) awaitEnd(most time.Duration) {
	s.t.Helper()
	testnet.Await(s.t, most, s.running.Wait)
}

// refuseAll is a handler that ends connections at once.
func refuseAll(*net.TCPConn) {}

// A local that is told to stop gets another connection when it loses the one it has, so that its
// streams have the time that they are given.
func TestStopLosesCarrier(t *testing.T) {
	testStopping(t, func(s *stopping) {
		s.stop()
		s.awaitDraining()
		first := s.local.connections()[0]
		s.front.cut()
		until(s.t, "there is another carrier, which is known", func() bool {
			now := s.local.connections()
			return len(now) == 1 && now[0] != first && !s.session.Stats().Away
		})
		s.goesOn()
	})
}

// A local that is told to stop while it has no connection goes on trying: its streams have the time
// that they are given as well.
func TestStopAway(t *testing.T) {
	testStopping(t, func(s *stopping) {
		s.lose(refuseAll)
		s.stop()
		s.awaitDraining()
		time.AfterFunc(time.Second, func() { s.front.become(s.pass()) })
		s.goesOn()
	})
}

// While a local that stops is without a connection, a change of the network ends the pause before
// the next attempt, as at any time.
func TestStopNoticesNetwork(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), nil)
	local := NewLocal(remote.localConfig(t, key))
	watching := make(chan context.Context, 1)
	local.noticeNetwork = func(ctx context.Context, _ chan<- struct{}) {
		watching <- ctx
		<-ctx.Done()
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var running sync.WaitGroup
	running.Go(func() { local.Run(ctx) })
	network := receive(t, watching)
	conn := dial(t, local, testnet.EchoServer(t))
	echoes(t, conn)
	stop()
	until(t, "it drains", func() bool { return local.State().Node.Draining })
	if network.Err() != nil {
		t.Error("changes of the network are not watched for while streams drain")
	}
	conn.Close()
	testnet.Await(t, patience, running.Wait)
	if network.Err() == nil {
		t.Error("changes of the network are watched for afterwards")
	}
}

// When a local stops, the flows of a retired session stay: the current one takes none either.
func TestStopKeepsFlows(t *testing.T) {
	t.Parallel()
	s := startStopping(t, false)
	retired, err := s.local.attempts(s.local.remotes[0]).connect(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	echo := testnet.EchoUDPServer(t, "127.0.0.1:0")
	if _, err := retired.session.OpenFlowAtOnce(echo.String()); err != nil {
		t.Fatal(err)
	}
	current := s.local.connection()
	s.local.retire(s.ctx, retired)
	s.local.set(current, nil)
	s.stop()
	until(t, "both drain", func() bool {
		return strings.Count(s.log.String(), `"draining"`) == 2
	})
	n := s.front.accepted.Load()
	refuse, pass := refuseAll, s.pass()
	s.front.handler.Store(&refuse)
	retired.session.DropCarrier(retired.carrier, errors.New("dropped by the test"))
	s.front.awaitMore(t, n)
	s.front.handler.Store(&pass)
	until(t, "there is another carrier", func() bool { return !retired.session.Stats().Away })
	if n := retired.session.Stats().Streams; n != 1 {
		t.Errorf("%d flows are open", n)
	}
}

// A local without streams waits neither for a connection, nor for an attempt to end.
func TestStopIdleAway(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]func(*net.TCPConn){"refused": refuseAll, "hangs": hold} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startStopping(t, false)
			s.conn.Close()
			until(t, "the remote has all of the stream", func() bool {
				stats := s.session.Stats()
				return stats.Streams == 0 && stats.Acknowledged == stats.Sent
			})
			s.lose(handler)
			s.stop()
			s.awaitEnd(2 * time.Second)
		})
	}
}

// Abort ends a local that waits for its streams while an attempt to connect hangs.
func TestAbortDuringAttempt(t *testing.T) {
	testStopping(t, func(s *stopping) {
		s.lose(hold)
		n := s.front.accepted.Load()
		s.stop()
		s.awaitDraining()
		s.front.awaitMore(t, n)
		s.local.Abort()
		s.awaitEnd(2 * time.Second)
		if s.bounds.Of(bounds.LocalDrain) != 1 {
			s.t.Error("what is cut short is not counted")
		}
	})
}

// The remote was restarted while a local stops, and doesn't know the session: the local does not
// wait any longer, says what it has cost, and leaves no session behind.
func TestStopSessionUnknown(t *testing.T) {
	testStopping(t, func(s *stopping) {
		s.lose(refuseAll)
		s.stop()
		s.awaitDraining()
		next := replaceRemote(s.t, s.remote, func() {})
		s.front.become(s.pass())
		s.awaitEnd(DrainTimeout - time.Second)
		if !errors.Is(s.session.Err(), mux.ErrSessionUnknown) {
			s.t.Errorf("the session has ended: %v", s.session.Err())
		}
		if !strings.Contains(s.log.String(), "streams cut short") {
			s.t.Errorf("no word about the streams:\n%s", s.log)
		}
		until(s.t, "the remote has no session", func() bool {
			next.mu.Lock()
			defer next.mu.Unlock()
			return len(next.sessions) == 0
		})
	})
}
