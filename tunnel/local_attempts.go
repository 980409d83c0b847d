package tunnel

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// errAbandoned is the error of an attempt that another replaced.
var errAbandoned = errors.New("replaced by another attempt")

// localAttempts makes attempts to connect, one at a time.
type localAttempts struct {
	local  *Local
	retry  chan struct{} // as Local.retry
	moved  chan struct{} // as Local.moved
	pause  backoff
	remote netip.AddrPort // where the last carrier led to; zero if there was none
	stall  time.Duration  // after which an attempt is taken to hang when the network has changed

	// Of the last attempt, or of the last carrier: when it started, and the address that the system
	// chose for it, which is unknown without remote, or without a route.
	startedAt time.Time
	source    netip.Addr
}

// attempts returns what makes attempts to connect. The first is due at once.
func (l *Local) attempts() *localAttempts {
	return &localAttempts{
		local: l, retry: l.retry, moved: l.moved, pause: backoff{jitter: l.jitter},
		stall: stallUnknown,
	}
}

// follow prepares for attempts to replace the carrier of last.
func (a *localAttempts) follow(last *localConnection) {
	a.remote, a.source, a.stall = last.path.remote, last.path.local.Addr(), stallUnknown
	stats := last.session.Stats()
	if rtt := stats.SmoothedTrip; rtt > 0 {
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

// pathChanged reports whether the system would take another way to the remote than for the last
// attempt.
func (a *localAttempts) pathChanged() bool {
	source := sourceFor(a.remote)
	return source.IsValid() && source != a.source
}

// connect makes an attempt. One that was abandoned is replaced.
func (a *localAttempts) connect(
	ctx context.Context, last *localConnection,
) (*localConnection, error) {
	for {
		conn, err := a.try(ctx, last)
		if ctx.Err() != nil || !errors.Is(err, errAbandoned) {
			return conn, err
		}
	}
}

// try makes an attempt, and abandons it when Retry is called, or the network changes and the
// attempt is on another path, or hangs.
func (a *localAttempts) try(
	ctx context.Context, last *localConnection,
) (*localConnection, error) {
	trying, abandon := context.WithCancelCause(ctx)
	defer abandon(nil)
	progress := newAttemptProgress(a.local.connector.onProgress)
	a.startedAt, a.source = time.Now(), sourceFor(a.remote)
	type result struct {
		conn *localConnection
		err  error
	}
	done := make(chan result, 1)
	go func() {
		conn, err := a.local.connector.connect(trying, last, progress)
		done <- result{conn, err}
	}()
	hangs := time.NewTimer(0)
	hangs.Stop()
	defer hangs.Stop()
	for {
		select {
		case r := <-done:
			abandoned := errors.Is(context.Cause(trying), errAbandoned)
			if r.err != nil && abandoned && !isFinal(r.err) {
				return nil, errAbandoned // whatever it was that failed first
			}
			return r.conn, r.err
		case <-a.retry:
			abandon(errAbandoned)
		case <-a.moved:
			if a.pathChanged() {
				abandon(errAbandoned)
			}
			hangs.Reset(0)
		case <-hangs.C:
			left := a.stall - progress.idle()
			if left <= 0 {
				abandon(errAbandoned)
			} else {
				hangs.Reset(left)
			}
		}
	}
}
