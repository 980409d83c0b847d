package tunnel

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// Errors of attempts that another replaces.
var (
	errAbandoned = errors.New("replaced by another attempt")
	errHangs     = errors.New("the attempt hangs since the network has changed")
)

// localAttempts makes attempts to connect, one at a time.
type localAttempts struct {
	local  *Local
	to     *localConnector
	retry  chan struct{} // a token makes another attempt start at once
	moved  chan struct{} // a token is a change of the network
	pause  backoff
	remote netip.AddrPort // where the last carrier led to; zero if there was none
	stall  time.Duration  // after which an attempt is taken to hang when the network has changed
	level  zerolog.Level  // at which failures are logged
	busy   atomic.Bool    // an attempt is under way

	// Of the last attempt, or of the last carrier: when it started, and the address that the system
	// chose for it, which is unknown without remote, or without a route.
	startedAt time.Time
	source    netip.Addr
}

// attempts returns what makes attempts to connect to a remote. The first is due at once.
func (l *Local) attempts(to *localConnector) *localAttempts {
	return &localAttempts{
		local: l, to: to, pause: backoff{jitter: l.jitter},
		retry: make(chan struct{}, 1), moved: make(chan struct{}, 1),
		stall: stallUnknown, level: zerolog.WarnLevel,
	}
}

// lost takes what a carrier to the remote at an address has shown that was lost: see backoff.lost.
// Over a family of addresses that has carried one for long, the next connection is tried first,
// too.
func (a *localAttempts) lost(
	remote netip.Addr, lasted time.Duration, carried, sessionDead bool,
) {
	a.pause.lost(lasted, carried, sessionDead)
	if lasted >= steadyAfter {
		a.to.beginTurns(remote.Unmap().Is4())
	}
}

// begin makes the attempts learn of calls of Retry and of changes of the network until end is
// called.
func (a *localAttempts) begin() (end func()) {
	l := a.local
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seeking[a] = struct{}{}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.seeking, a)
		drop(a.retry)
		drop(a.moved)
	}
}

// drop removes the token of a channel, if there is one.
func drop(c <-chan struct{}) {
	select {
	case <-c:
	default:
	}
}

// tellSeeking calls tell for all attempts that have begun.
func (l *Local) tellSeeking(tell func(*localAttempts)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for a := range l.seeking {
		tell(a)
	}
}

// follow prepares for attempts to replace the carrier of last.
func (a *localAttempts) follow(last *localConnection) {
	a.remote, a.source, a.stall = last.path.remote, last.path.local.Addr(), stallUnknown
	stats := last.session.Stats()
	if rtt := stats.SmoothedRTT; rtt > 0 {
		a.stall = max(stallMin, 4*rtt)
	}
	a.pause.most = 0
	if stats.Streams > 0 {
		a.pause.most = backoffBusy
	}
}

// wait pauses before the next attempt. A call of Retry ends the pause, and so does a change of the
// network: at once when it changes the path to the remote, which makes a new start, else within
// noticePause, as the change may still help. It returns an error when ctx is done.
func (a *localAttempts) wait(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	asked := time.Now().Add(a.pause.asked)
	due := time.Now().Add(a.pause.next())
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return nil
		case <-a.retry:
			a.pause.reset()
			return nil
		case <-a.moved:
			if a.pathChanged() {
				a.pause.reset()
				return nil
			}
			soon := a.startedAt.Add(noticePause)
			if soon.Before(asked) {
				soon = asked
			}
			if soon.Before(due) {
				due = soon
				timer.Reset(max(0, time.Until(due)))
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// pauseAgain is wait for attempts that had ended, which then begin again at once. grown is the
// pause of the last time, and of the next.
func (a *localAttempts) pauseAgain(ctx context.Context, grown *time.Duration) error {
	defer a.begin()()
	a.pause.pause = max(a.pause.pause, *grown)
	err := a.wait(ctx)
	*grown = a.pause.pause
	a.pause.reset()
	return err
}

// pathChanged reports whether the system would take another way to the remote than for the last
// attempt.
func (a *localAttempts) pathChanged() bool {
	source := sourceFor(a.remote)
	return source.IsValid() && source != a.source
}

// connect makes an attempt. One that was abandoned is replaced. One that hangs may have a reason of
// its own, such as a dead nameserver, and the network may change all the time: so each of those
// gets more patience, and in the end the attempt is left to its own bound.
func (a *localAttempts) connect(
	ctx context.Context, last *localConnection,
) (*localConnection, error) {
	a.busy.Store(true)
	defer a.busy.Store(false)
	began := time.Now()
	for {
		conn, err := a.try(ctx, last, time.Since(began)+a.stall < a.to.timeout/2)
		switch {
		case ctx.Err() != nil:
			return conn, err
		case errors.Is(err, errHangs):
			a.stall *= 2
		case errors.Is(err, errAbandoned):
			began = time.Now()
		default:
			return conn, err
		}
	}
}

// try makes an attempt, and abandons it when Retry is called, or the network changes and the
// attempt is on another path, or hangs, unless that is to be waited for.
func (a *localAttempts) try(
	ctx context.Context, last *localConnection, replaces bool,
) (*localConnection, error) {
	trying, abandon := context.WithCancelCause(ctx)
	defer abandon(nil)
	progress := newAttemptProgress(a.to.onProgress)
	a.startedAt, a.source = time.Now(), sourceFor(a.remote)
	type result struct {
		conn *localConnection
		err  error
	}
	done := make(chan result, 1)
	go func() {
		conn, err := a.to.connect(trying, last, progress)
		done <- result{conn, err}
	}()
	hangs := time.NewTimer(0)
	hangs.Stop()
	defer hangs.Stop()
	for {
		select {
		case r := <-done:
			if r.err != nil && trying.Err() != nil && ctx.Err() == nil && !isFinal(r.err) {
				return nil, context.Cause(trying) // whatever it was that failed first
			}
			return r.conn, r.err
		case <-a.retry:
			abandon(errAbandoned)
		case <-a.moved:
			if a.pathChanged() {
				abandon(errAbandoned)
			}
			if replaces {
				hangs.Reset(0)
			}
		case <-hangs.C:
			left := a.stall - progress.idle()
			if left <= 0 {
				abandon(errHangs)
			} else {
				hangs.Reset(left)
			}
		}
	}
}
