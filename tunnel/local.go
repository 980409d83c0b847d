package tunnel

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"culvert/internal/bounds"
	"culvert/internal/state"
	"culvert/protocol"
	"culvert/tunnel/mux"
	"culvert/tunnel/policy"
)

// Local is the near end of a tunnel. It keeps one session to its remote up while Run runs. All
// methods may be called concurrently.
type Local struct {
	cfg     LocalConfig
	remotes []*localConnector // in order of preference
	sums    sums
	reached reachedTargets

	aborted   context.Context // ends when Abort is called
	abort     context.CancelFunc
	relaying  context.Context // of the relays; ends a while after Run, and with aborted
	cutRelays context.CancelFunc

	retry chan struct{} // a token replaces the carrier of the current session

	// For tests: noticeNetwork leaves a token for each change of the network until its context is
	// done, and jitter is that of pauses, nil for a backoff's own.
	noticeNetwork func(context.Context, chan<- struct{})
	jitter        func(time.Duration) time.Duration

	clients  atomic.Int64   // whose connections are relayed, and targets of -R
	names    policy.Lookups // of targets of -R
	retiring sync.WaitGroup // goroutines that keep sessions whose remote drains

	mu sync.Mutex // guards the rest
	localSessions
	reverse map[reverseID]*reverseBind

	reversing reverseRequest
}

// localSessions are the sessions of a Local.
type localSessions struct {
	current *localConnection // for new streams; nil if there is none
	standby *localConnection // to a better remote; nil if there is none
	retired map[*retiredSession]struct{}
	seeking map[*localAttempts]struct{} // those that are under way
	changed chan struct{}               // closed and replaced when current or err changes
	err     error                       // why there will be no more sessions

	// opening ends, and is replaced, when new streams go to another remote because the session is
	// away: those that wait for an answer in it are to be opened there.
	opening     context.Context
	stopOpening context.CancelFunc
}

// NewLocal returns a Local. It connects when Run is called.
func NewLocal(cfg LocalConfig) *Local {
	if cfg.Observer == nil {
		cfg.Observer = noObserver{}
	}
	aborted, abort := context.WithCancel(context.Background())
	relaying, cutRelays := context.WithCancel(aborted)
	opening, stopOpening := context.WithCancel(context.Background())
	return &Local{
		cfg:       cfg,
		remotes:   cfg.connectors(),
		aborted:   aborted,
		abort:     abort,
		relaying:  relaying,
		cutRelays: cutRelays,
		retry:     make(chan struct{}, 1),

		noticeNetwork: noticeNetwork,

		// Whoever shares a pool leaves as many places to others as it has.
		names: policy.NewLookupPool(2 * maxReverseNames).For(""),

		localSessions: localSessions{
			retired:     make(map[*retiredSession]struct{}),
			seeking:     make(map[*localAttempts]struct{}),
			changed:     make(chan struct{}),
			opening:     opening,
			stopOpening: stopOpening,
		},
		reverse: make(map[reverseID]*reverseBind),

		reversing: reverseRequest{made: make(chan struct{})},
	}
}

// Abort makes a Run whose context is done stop waiting for its streams, which are cut short.
func (l *Local) Abort() { l.abort() }

// MemoryHeld returns how many bytes the streams hold of LocalConfig.Memory.
func (l *Local) MemoryHeld() int64 { return l.remotes[0].session.Memory.Held() }

// reserveMemory takes n bytes of LocalConfig.Memory for what is kept outside of the streams. What
// it returns gives them back; it is nil when they were not taken.
func (l *Local) reserveMemory(n int) (release func()) {
	return l.remotes[0].session.Memory.Reserve("", n) // a local's sessions have no other name
}

// shutdown gives the streams of a session time to end, and to deliver what they have brought, also
// over another carrier, and ends the session.
func (l *Local) shutdown(kept *retiredSession) {
	session := kept.conn.session
	l.event(state.EventDraining, nil, nil)
	if n := session.Stats().Streams; n > 0 {
		l.cfg.Log.Info().Int("streams", n).Dur("at_most", DrainTimeout).Msg("draining")
	}
	deadline := time.Now().Add(DrainTimeout)
	ctx, cancel := context.WithDeadline(l.aborted, deadline)
	defer cancel()
	kept.attempts.pause.reset() // there is little time
	err := l.drain(ctx, kept, l.reconnectKept)
	if err != nil && session.Err() == nil {
		l.cfg.Bounds.Refused(bounds.LocalDrain)
	}
	l.noteCut(kept.conn, err, errDrainOver)
	session.Close()
	time.AfterFunc(time.Until(deadline), l.cutRelays)
}

func (l *Local) set(conn *localConnection, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current, l.err = conn, err
	l.noteChangeLocked()
}

// connection returns the current connection, nil if there is none.
func (l *Local) connection() *localConnection {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current
}

// noteChangeLocked wakes those that wait for another session.
func (l *Local) noteChangeLocked() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// WaitSession waits until there is a session. Once Run has ended, the error is the one that Run
// returned.
func (l *Local) WaitSession(ctx context.Context) (protocol.State, error) {
	conn, err := l.wait(ctx)
	if err != nil {
		return protocol.State{}, err
	}
	return conn.state, nil
}

// wait waits until there is a connection whose session lives.
func (l *Local) wait(ctx context.Context) (*localConnection, error) {
	return l.waitUntil(ctx, func(conn *localConnection) bool {
		return conn != nil && conn.session.Err() == nil
	})
}

// waitUntil waits until the current connection, nil while there is none, is as it should be.
func (l *Local) waitUntil(
	ctx context.Context, right func(*localConnection) bool,
) (*localConnection, error) {
	for {
		l.mu.Lock()
		conn, err, changed := l.current, l.err, l.changed
		l.mu.Unlock()
		if err != nil || right(conn) {
			return conn, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// DialContext opens a connection through the tunnel. The network must be "tcp"; the address is
// host:port, and the remote resolves a name. While there is no session, DialContext waits for one,
// for at most 10 s. The error is a *mux.OpenError when the remote has refused.
//
// The connection may not be established yet when DialContext returns: see LocalConfig.FastOpen. A
// refusal is then an error of its reads and writes, which wraps the *mux.OpenError.
func (l *Local) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if network != "tcp" {
		return nil, net.UnknownNetworkError(network)
	}
	stream, err := l.open(ctx, mux.Target{Kind: mux.StreamTCP, Address: address})
	if err != nil {
		return nil, err // not a typed nil
	}
	stream.SetLabel(labelProxy)
	return stream, nil
}

func (l *Local) open(ctx context.Context, target mux.Target) (*mux.Stream, error) {
	return openInSession(ctx, l,
		func(ctx context.Context, session *mux.Session) (*mux.Stream, error) {
			return l.openIn(ctx, session, target)
		})
}

// errNoSessionWait is the error when a stream has waited for a session for openWait.
var errNoSessionWait = &bounds.Error{Bound: bounds.NoSessionWait, Err: ErrNoSession}

// openInSession opens a stream or a flow in the local's session. While there is no session it waits
// for one, for openWait at most. When the session is lost before the answer comes, or another one
// takes the new streams, it tries again.
func openInSession[T any](
	ctx context.Context, l *Local, open func(context.Context, *mux.Session) (*T, error),
) (*T, error) {
	deadline := time.Now().Add(openWait)
	for {
		opening, done := l.whileOpening(ctx)
		session, err := l.carried(opening, deadline)
		if err != nil && (opening.Err() == nil || ctx.Err() != nil) {
			done()
			return nil, l.counted(err)
		}
		var opened *T
		if err == nil {
			opened, err = open(opening, session)
		}
		moved := err != nil && opening.Err() != nil && ctx.Err() == nil
		done()
		var lost *mux.SessionError
		switch {
		case moved:
		case isDraining(err):
			if err := l.awaitOther(ctx, session, deadline); err != nil {
				return nil, l.counted(err)
			}
		case !errors.As(err, &lost):
			return opened, err
		}
		// The session was lost before the answer came, or takes no more streams. Nothing was sent to
		// the target, so another attempt does no harm.
	}
}

// counted counts an error of a bound, and returns its cause: callers count errors, too.
func (l *Local) counted(err error) error {
	l.cfg.Bounds.Note(err)
	if bound, ok := errors.AsType[*bounds.Error](err); ok {
		return bound.Err
	}
	return err
}

// whileOpening returns a context that ends with ctx, and when streams that are being opened should
// be opened in another session.
func (l *Local) whileOpening(ctx context.Context) (opening context.Context, done func()) {
	l.mu.Lock()
	moving := l.opening
	l.mu.Unlock()
	opening, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(moving, cancel)
	return opening, func() {
		stop()
		cancel()
	}
}

// reopen makes the streams that are being opened, or wait for a carrier, try another session.
func (l *Local) reopen() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopOpening()
	l.opening, l.stopOpening = context.WithCancel(context.Background())
}

// carried returns a session that has a carrier. It waits for one until the deadline.
func (l *Local) carried(ctx context.Context, deadline time.Time) (*mux.Session, error) {
	conn := l.connection()
	if ctx.Err() == nil && conn != nil && !conn.session.Stats().Away {
		return conn.session, nil
	}
	ctx, cancel := context.WithDeadlineCause(ctx, deadline, errNoSessionWait)
	defer cancel()
	for {
		conn, err := l.wait(ctx)
		if err != nil {
			return nil, err
		}
		err = conn.session.AwaitCarrier(ctx)
		var lost *mux.SessionError
		if !errors.As(err, &lost) {
			return conn.session, err
		}
	}
}
