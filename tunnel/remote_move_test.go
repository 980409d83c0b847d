package tunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"culvert/internal/bounds"
	"culvert/internal/state"
	"culvert/internal/testnet"
	"culvert/protocol"
	"culvert/tunnel/mux"
)

// moveWorld is a remote and its clients, in a synctest bubble. All have one key, and its share,
// like the remote, has room for one session of each of them.
type moveWorld struct {
	*simWorld
	locals []*simLocal
	told   *moveTimes
	counts *bounds.Counts
}

// moveTimes is an Observer that remembers when clients were told to move, and why.
type moveTimes struct {
	noObserver
	began time.Time
	mu    sync.Mutex
	times map[MoveReason][]time.Duration
}

func (m *moveTimes) Move(reason MoveReason) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.times[reason] = append(m.times[reason], time.Since(m.began))
}

// of returns the times of a reason, the first one first.
func (m *moveTimes) of(reason MoveReason) []time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(slices.Values(m.times[reason]))
}

// startMoveWorld starts a remote and n clients, and waits until they are connected.
func startMoveWorld(t *testing.T, n int, change func(*RemoteConfig)) *moveWorld {
	w := &moveWorld{simWorld: newSimWorld(t, 1), counts: &bounds.Counts{}}
	w.told = &moveTimes{began: time.Now(), times: map[MoveReason][]time.Duration{}}
	w.carriers.delay, w.carriers.rate = time.Millisecond, 0
	w.roams = true // each client has an address of its own
	w.configure = func(cfg *RemoteConfig) {
		cfg.MaxSessions, cfg.Share.Sessions = n, n
		cfg.Observer, cfg.Bounds, cfg.Events = w.told, w.counts, state.NewEvents()
		change(cfg)
	}
	w.startRemote()
	w.remote.dialer = func(rules remoteRules) remoteRules { return echoRules{rules, w} }
	for range n {
		w.startLocal()
		w.locals = append(w.locals, w.local)
	}
	for _, l := range w.locals {
		if _, err := l.WaitSession(testnet.Within(t, patience)); err != nil {
			t.Error(err)
		}
	}
	return w
}

// stop ends all nodes, and checks that nothing is left.
func (w *moveWorld) stop() {
	for _, l := range w.locals {
		l.stop()
	}
	for _, l := range w.locals {
		l.running.Wait()
	}
	w.stopRemote()
	if w.remote.uncounted != 0 {
		w.t.Errorf("%d sessions hold no place in the end", w.remote.uncounted)
	}
	w.users.Wait()
}

// echoRules dials a target that echoes.
type echoRules struct {
	remoteRules
	world *moveWorld
}

func (r echoRules) Dial(context.Context, string, string) (net.Conn, error) {
	near, far := r.world.targets.connect("10.0.0.254:9", simTargetAddress)
	r.world.users.Go(func() {
		defer far.Close()
		io.Copy(far, far)
	})
	return near, nil
}

// open opens a stream of a client.
func (w *moveWorld) open(l *simLocal) net.Conn {
	w.t.Helper()
	conn, err := l.DialContext(testnet.Within(w.t, patience), "tcp", simTargetAddress)
	if err != nil {
		w.t.Errorf("after %v: a new stream: %v", time.Since(w.began), err)
		return nil
	}
	w.echo(conn)
	return conn
}

func (w *moveWorld) echo(conn net.Conn) {
	w.t.Helper()
	if err := testnet.CheckEcho(conn, "ping"); err != nil {
		w.t.Errorf("after %v: %v", time.Since(w.began), err)
	}
}

// use opens a stream of a client every five seconds until a time has passed, each of which lasts
// for half a minute. None may fail.
func (w *moveWorld) use(l *simLocal, until time.Duration) {
	var streams sync.WaitGroup
	defer streams.Wait()
	for time.Since(w.began) < until {
		streams.Go(func() {
			if conn := w.open(l); conn != nil {
				time.Sleep(30 * time.Second)
				w.echo(conn)
				conn.Close()
			}
		})
		time.Sleep(5 * time.Second)
	}
}

// openEndless opens a stream of each client, and returns when they are cut. All must be, with the
// code for that.
func (w *moveWorld) openEndless() (cut func() []time.Duration) {
	times := make([]time.Duration, len(w.locals))
	var streams sync.WaitGroup
	for i, l := range w.locals {
		conn := w.open(l)
		if conn == nil {
			continue
		}
		streams.Go(func() {
			_, err := conn.Read(make([]byte, 1))
			times[i] = time.Since(w.began)
			closed, ok := errors.AsType[*mux.CloseError](err)
			if !ok || closed.Code != mux.CodeDraining {
				w.t.Errorf("after %v: an endless stream has ended with %v", times[i], err)
			}
			conn.Close()
		})
	}
	return func() []time.Duration {
		streams.Wait()
		return times
	}
}

// TestSessionAge checks that each session moves before it is too old, by chance sooner, while new
// streams are opened all the time: none fails, those that are short enough continue, and longer
// ones end with their code once the drain is over. The clients' share and the remote have no room
// for more sessions, and a moving one needs none.
func TestSessionAge(t *testing.T) {
	t.Parallel()
	const n, age, drain = 16, time.Hour, time.Minute
	synctest.Test(t, func(t *testing.T) {
		w := startMoveWorld(t, n, func(cfg *RemoteConfig) {
			cfg.MaxSessionAge, cfg.DrainTimeout = age, drain
		})
		defer w.stop()
		up := time.Since(w.began)
		cut := w.openEndless()
		time.Sleep(age*4/5 - time.Minute)
		if told := w.told.of(MoveAge); len(told) > 0 {
			t.Errorf("told to move after %v", told)
		}
		var users sync.WaitGroup
		for _, l := range w.locals {
			users.Go(func() { w.use(l, age+2*drain) })
		}
		users.Wait()
		told, ended := w.told.of(MoveAge), slices.Sorted(slices.Values(cut()))
		if len(told) != n || told[0] < age*4/5 || told[n-1] > age+up ||
			told[n-1]-told[0] < age/20 {
			t.Fatalf("told to move after %v, connected after %v", told, up)
		}
		for i, at := range ended {
			if late := at - told[i] - drain; late < 0 || late > time.Second {
				t.Errorf("cut after %v, told after %v", at, told[i])
			}
		}
		if totals := w.remote.State().Totals; totals.Sessions != 2*n {
			t.Errorf("%d sessions, want %d", totals.Sessions, 2*n)
		}
		if refused := w.counts.Of(bounds.Drain); refused != n {
			t.Errorf("%d drains are counted, want %d", refused, n)
		}
		kinds := map[string]int{}
		for _, e := range w.remote.State().Events {
			kinds[e.Kind]++
		}
		if kinds[state.EventMoving] != n || kinds[state.EventStreamsCut] != n {
			t.Errorf("events: %v", kinds)
		}
	})
}

// TestMoveSessions checks that all sessions move on request, spread over a time and once: those
// that have been told already aren't told again.
func TestMoveSessions(t *testing.T) {
	t.Parallel()
	const n = 20
	synctest.Test(t, func(t *testing.T) {
		w := startMoveWorld(t, n, func(*RemoteConfig) {})
		defer w.stop()
		var streams []net.Conn
		for _, l := range w.locals {
			streams = append(streams, w.open(l))
		}
		began := time.Since(w.began)
		if asked, spread := w.remote.MoveSessions(); asked != n || spread != n*drainPause {
			t.Errorf("%d sessions move within %v", asked, spread)
		}
		time.Sleep(time.Second)
		told := w.told.of(MoveRequest)
		if len(told) != n || told[n-1] > began+n*drainPause || told[n-1]-told[0] < n*drainPause/4 {
			t.Errorf("asked after %v, told after %v", began, told)
		}
		for i, l := range w.locals {
			w.echo(streams[i])
			w.open(l).Close()
			if r := l.Read(); r.Carried != 1 || len(r.RoundTrips) != 1 {
				t.Errorf("local %d observes %d sessions that are up, not the current one alone", i, r.Carried)
			}
		}
		if r := w.remote.Read(); r.Carried != 2*n {
			t.Errorf("the remote observes %d sessions", r.Carried)
		}
		if asked, _ := w.remote.MoveSessions(); asked != n { // the new ones
			t.Errorf("the second time, %d sessions move", asked)
		}
		time.Sleep(time.Second)
		for _, conn := range streams {
			w.echo(conn)
			conn.Close()
		}
		time.Sleep(time.Second)
		if told := w.told.of(MoveRequest); len(told) != 2*n || len(w.remote.State().Sessions) != n {
			t.Errorf("told %d times, %d sessions", len(told), len(w.remote.State().Sessions))
		}
	})
}

// TestMoveOfAwaySession checks that a session without a carrier keeps its time: it moves once it
// has been resumed.
func TestMoveOfAwaySession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := startMoveWorld(t, 1, func(cfg *RemoteConfig) {
			cfg.DrainTimeout = 10 * time.Second
		})
		defer w.stop()
		conn, session := w.open(w.locals[0]), w.locals[0].connection().session
		w.carriers.setHole(true)
		w.carriers.cut(0, 1)
		time.Sleep(time.Second)
		w.remote.MoveSessions()
		time.Sleep(time.Minute)
		if told := w.told.of(MoveRequest); len(told) > 0 {
			t.Errorf("told after %v, while away", told)
		}
		w.carriers.setHole(false)
		if err := session.AwaitCarrier(testnet.Within(t, patience)); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		w.echo(conn)
		if told := w.told.of(MoveRequest); len(told) != 1 {
			t.Errorf("told after %v, once it is back", told)
		}
		conn.Close()
	})
}

// TestShutdownIsSpread checks that a remote that stops tells its clients one after the other, and
// cuts what is left of their streams in the same order, so that all have the same time.
func TestShutdownIsSpread(t *testing.T) {
	t.Parallel()
	const n, drain, spread = 40, time.Minute, 39 * drainPause
	synctest.Test(t, func(t *testing.T) {
		w := startMoveWorld(t, n, func(cfg *RemoteConfig) {
			cfg.DrainTimeout = drain
		})
		defer w.stop()
		cut := w.openEndless()
		heard := make([]time.Duration, n)
		var hearing sync.WaitGroup
		for i, l := range w.locals {
			session := l.connection().session
			hearing.Go(func() {
				if err := session.AwaitDraining(testnet.Within(t, patience)); err != nil {
					t.Error(err)
				}
				heard[i] = time.Since(w.began)
			})
		}
		time.Sleep(time.Second)
		began := time.Since(w.began)
		w.remote.stop()
		hearing.Wait()
		const slack = 20 * time.Millisecond // for the path, whose queue takes up to ten
		if took := slices.Max(heard) - began; took > spread+slack ||
			slices.Max(heard)-slices.Min(heard) < spread/4 {
			t.Errorf("stopped after %v, told after %v", began, slices.Sorted(slices.Values(heard)))
		}
		for i, at := range cut() {
			if took := at - heard[i]; took < drain-spread-slack || took > drain-spread+slack {
				t.Errorf("told after %v, cut after %v", heard[i], at)
			}
		}
		if told := w.told.of(MoveShutdown); len(told) != n {
			t.Errorf("%d sessions are counted as moving, want %d", len(told), n)
		}
	})
}

// TestMoveWithoutResumption checks that a session which would end with its carrier moves, too.
func TestMoveWithoutResumption(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), nil)
	local := NewLocal(remote.localConfig(t, key))
	local.remotes[0].client.Extension = protocol.ExtensionOff
	runLocal(t, local)
	echo := testnet.EchoServer(t)
	old := dial(t, local, echo)
	echoes(t, old)
	first := local.connection()
	if first.session.Resumable() || first.state.ForwardSecrecy {
		t.Fatal("the session can be resumed")
	}
	remote.MoveSessions()
	until(t, "there is another session", func() bool {
		conn := local.connection()
		return conn != nil && conn.session != first.session
	})
	echoes(t, old)
	echoes(t, dial(t, local, echo))
}

// TestMoveOfStubbornClient checks that a client that opens no other session keeps its streams until
// the drain is over, and its session no longer.
func TestMoveOfStubbornClient(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	s := startShares(t, trustKeys(t, key), func(cfg *RemoteConfig) {
		cfg.DrainTimeout = 5 * time.Second
	})
	session := s.mustConnect(key)[0]
	target := mux.Target{Kind: mux.StreamTCP, Address: testnet.EchoServer(t)}
	stream, err := session.Open(testnet.Within(t, patience), target)
	if err != nil {
		t.Fatal(err)
	}
	s.MoveSessions()
	until(t, "new streams are refused", func() bool {
		other, err := session.Open(testnet.Within(t, patience), target)
		if err == nil {
			other.Close()
		}
		return openCode(err) == mux.CodeDraining
	})
	if err := testnet.CheckEcho(stream, "ping"); err != nil {
		t.Errorf("the old stream: %v", err)
	}
	closed, ok := errors.AsType[*mux.CloseError](session.Wait())
	if !ok || closed.Code != mux.CodeDraining {
		t.Errorf("the session has ended with %v", session.Err())
	}
}

// TestReverseMoves checks that a port of -R moves to the session that replaces one, on the same
// node, and that connections through it go on.
func TestReverseMoves(t *testing.T) {
	t.Parallel()
	local, remote := reverseTunnel(t, "localhost")
	ln, _ := serveReverseTo(t, local, "localhost:0", testnet.EchoServer(t))
	address := ln.Addr().String()
	old := dialPlain(t, address)
	echoes(t, old)
	remote.MoveSessions()
	until(t, "the port is bound for another session", func() bool {
		conn, err := net.DialTimeout("tcp", address, patience)
		if err != nil {
			return false
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		return remote.State().Totals.Sessions == 2 && testnet.CheckEcho(conn, "ping") == nil
	})
	echoes(t, old)
}
