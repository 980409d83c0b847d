package tunnel

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"culvert/certs"
	"culvert/protocol"
	"culvert/tunnel/mux"
	"culvert/tunnel/policy"

	"github.com/rs/zerolog"
)

const (
	simRemoteAddress = "203.0.113.1:443"
	simTargetAddress = "10.0.0.1:7000" // serves exchanges, and echoes datagrams
	simDeadAddress   = "10.0.0.2:7000" // refuses connections
	simDeniedAddress = "10.9.0.1:7000" // the rules of the remote deny it
)

// simWorld is a tunnel, its users and its network, in a synctest bubble. What happens to it follows
// from the seed, except for the order of what happens at the same instant.
type simWorld struct {
	t     testing.TB
	seed  uint64
	began time.Time
	trace simTrace

	carriers simPath // between the nodes
	clients  simPath // at the local
	targets  simPath // at the remote

	key, remoteKey *certs.KeyPair
	resumeWindow   time.Duration
	configure      func(*RemoteConfig) // of later remotes; nil for none

	mu     sync.Mutex // guards all below
	local  *simLocal
	remote *simRemote
	deaths []simSpan // when the session was expected to end
	faults []simSpan // from the beginning of a fault until the tunnel worked again
	dials  int
	roams  bool         // each carrier comes from an address of its own
	public *simListener // of the remote

	session   *mux.Session // that of now; used by the test's own goroutine
	exchanges sync.Map     // of *simExchange, by id
	lastID    atomic.Uint64
	stopping  chan struct{}  // closed when the users are to begin nothing new
	users     sync.WaitGroup // all that make or serve exchanges

	stats simStats
}

type simStats struct {
	exchanges, bytes, datagrams, answers, refusals atomic.Int64

	mu      sync.Mutex
	recover []time.Duration // from the end of a fault to an answer through the tunnel
}

// simSpan is a time; the end is zero while it lasts.
type simSpan struct {
	from, to time.Time
}

// overlaps reports whether one of the spans overlaps the time since a beginning.
func overlaps(spans []simSpan, since time.Time) bool {
	return slices.ContainsFunc(spans, func(s simSpan) bool {
		return s.to.IsZero() || !s.to.Before(since)
	})
}

// simTrace keeps the last lines about what has happened.
type simTrace struct {
	mu    sync.Mutex
	began time.Time
	lines []string
}

const simTraceLines = 2000

func (t *simTrace) printf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) >= simTraceLines {
		t.lines = t.lines[simTraceLines/2:]
	}
	line := fmt.Sprintf(format, args...)
	t.lines = append(t.lines, fmt.Sprintf("%12.6f %s", time.Since(t.began).Seconds(), line))
}

// Write takes a line of a node's log.
func (t *simTrace) Write(p []byte) (int, error) {
	t.printf("%s", strings.TrimSpace(string(p)))
	return len(p), nil
}

// errorf fails the test. The trace follows at its end.
func (w *simWorld) errorf(format string, args ...any) {
	w.t.Helper()
	w.trace.printf("FAILED: "+format, args...)
	w.t.Errorf("seed %d, at %v: "+format, append([]any{w.seed, time.Since(w.began)}, args...)...)
}

func (w *simWorld) rand(actor uint64) *rand.Rand { return rand.New(rand.NewPCG(w.seed, actor)) }

// log returns the logger of a node.
func (w *simWorld) log(node string) zerolog.Logger {
	return zerolog.New(&w.trace).Level(zerolog.InfoLevel).With().Str("node", node).Logger()
}

// simRemote is a remote and what serves it.
type simRemote struct {
	*Remote
	stop    context.CancelFunc
	serving sync.WaitGroup
}

func (w *simWorld) startRemote() {
	cfg := RemoteConfig{
		Identity:     RemoteIdentity{Key: w.remoteKey},
		Trust:        trustKeys(w.t, w.key),
		Rights:       w.rights(),
		ResumeWindow: w.resumeWindow,
		Log:          w.log("remote"),
	}
	if w.configure != nil {
		w.configure(&cfg)
	}
	node, err := NewRemote(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	node.dialer = func(rules remoteRules) remoteRules { return simRules{rules, w} }
	ctx, stop := context.WithCancel(context.Background())
	r := &simRemote{Remote: node, stop: stop}
	ln := w.carriers.listen(simRemoteAddress)
	w.mu.Lock()
	w.remote, w.public = r, ln
	w.mu.Unlock()
	r.serving.Go(func() {
		if err := node.Serve(ctx, ln); err != nil {
			w.errorf("serve: %v", err)
		}
	})
}

func (w *simWorld) rights() policy.Rights {
	rules, err := policy.ParseRules([]string{"10.0.0.0/16"}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return policy.Rights{Rules: rules}
}

// simRules dials targets of the simulation, as far as the real rules allow.
type simRules struct {
	remoteRules
	world *simWorld
}

func (r simRules) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, policy.ErrBadTarget
	}
	allowed, err := r.Resolve(ctx, network, addr.Addr().String(), addr.Port())
	if err != nil {
		return nil, err
	}
	return r.world.dialTarget(network, allowed[0].String())
}

// stopRemote shuts the remote down and checks that nothing is left of its sessions.
func (w *simWorld) stopRemote() {
	r := w.remote
	r.stop()
	r.serving.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.sessions) > 0 || len(r.clients) > 0 || len(r.binds) > 0 {
		w.errorf("left at the remote: %d sessions, %d clients, %d listeners",
			len(r.sessions), len(r.clients), len(r.binds))
	}
	conns, handshakes, exits := r.gate.conns.taken(), r.gate.handshakes.taken(), r.exits.taken()
	if conns > 0 || handshakes > 0 || exits > 0 {
		w.errorf("left at the remote: %d connections, %d handshakes, %d sockets",
			conns, handshakes, exits)
	}
}

// simLocal is a local with a forward for connections and one for datagrams.
type simLocal struct {
	*Local
	stop    context.CancelFunc
	running sync.WaitGroup
	ended   chan error
	forward *simListener
	packets *simPackets
}

func (w *simWorld) startLocal() {
	address, err := ParseAddress("ws://" + simRemoteAddress + "/")
	if err != nil {
		w.t.Fatal(err)
	}
	l := &simLocal{
		Local: NewLocal(LocalConfig{
			Address: address,
			Key:     w.key,
			VerifyRemote: func(peer protocol.Peer) error {
				if !peer.Key.Equal(w.remoteKey.Public()) {
					return certs.ErrUnknownRemote
				}
				return nil
			},
			Wait: -1,
			Log:  w.log("local"),
		}),
		ended:   make(chan error, 1),
		forward: w.clients.listen("127.0.0.1:1080"),
		packets: newSimPackets(),
	}
	l.remotes[0].dialAddress = w.dialRemote
	l.jitter = func(most time.Duration) time.Duration {
		return time.Duration(w.carriers.random(int64(most)))
	}
	l.noticeNetwork = func(ctx context.Context, _ chan<- struct{}) { <-ctx.Done() }
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	w.mu.Lock()
	w.local = l
	w.mu.Unlock()
	l.running.Go(func() { l.ended <- l.Run(ctx) })
	l.running.Go(func() {
		if err := l.ServeForward(ctx, l.forward, simTargetAddress); err != nil {
			w.errorf("forward: %v", err)
		}
	})
	l.running.Go(func() {
		if err := l.serveForwardUDP(ctx, l.packets, simTargetAddress); err != nil {
			w.errorf("UDP forward: %v", err)
		}
	})
}

// dialRemote connects to the remote, from a port that is new each time.
func (w *simWorld) dialRemote(ctx context.Context, _, address string) (net.Conn, error) {
	w.mu.Lock()
	w.dials++
	from := simAddr(fmt.Sprintf("198.51.100.1:%d", 1024+w.dials%60000))
	if w.roams {
		from = simAddr(fmt.Sprintf("198.18.%d.%d:1024", w.dials>>8&255, w.dials&255))
	}
	ln := w.public
	w.mu.Unlock()
	if address != simRemoteAddress {
		return nil, fmt.Errorf("dialed %s", address)
	}
	return ln.dial(ctx, from)
}

// stopLocal ends the local and waits for its goroutines.
func (w *simWorld) stopLocal() {
	l := w.local
	l.stop()
	l.running.Wait()
}

// awaitSession waits until the local has a session with a carrier.
func (w *simWorld) awaitSession(most time.Duration) *mux.Session {
	ctx, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	if _, err := w.local.WaitSession(ctx); err != nil {
		w.errorf("no session within %v: %v", most, err)
		return nil
	}
	w.local.mu.Lock()
	session := w.local.current.session
	w.local.mu.Unlock()
	if err := session.AwaitCarrier(ctx); err != nil {
		w.errorf("no carrier within %v: %v", most, err)
		return nil
	}
	return session
}
