package tunnel

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"culvert/internal/state"
	"culvert/tunnel/mux"

	"github.com/rs/zerolog"
)

// A Local with several remotes has a session with one of them, for all new streams. When that loses
// its carrier for long, or is refused another one, new streams go to the next remote that answers;
// the old session is resumed meanwhile and kept until its streams have ended, as if its remote were
// shutting down. Only its flows of datagrams don't wait for a carrier: see moveFlows. While the
// session is not with the best remote, another one to a better is kept as well, which takes over
// once it has lasted.

// failoverAfter and failbackAfter are those of the configuration, or the defaults.
func (l *Local) failoverAfter() time.Duration {
	return cmp.Or(l.cfg.FailoverAfter, DefaultFailoverAfter)
}

func (l *Local) failbackAfter() time.Duration {
	return cmp.Or(l.cfg.FailbackAfter, DefaultFailbackAfter)
}

// attemptsToAll returns what makes attempts to each remote.
func (l *Local) attemptsToAll() []*localAttempts {
	var all []*localAttempts
	for _, to := range l.remotes {
		all = append(all, l.attempts(to))
	}
	return all
}

// searchFirst tries until there is a session with one of the remotes, until an error is final, or
// until the configured time is over.
func (l *Local) searchFirst(
	ctx context.Context, attempts []*localAttempts,
) (*localConnection, error) {
	began := time.Now()
	first := func(
		ctx context.Context, a *localAttempts, failed func(error),
	) (*localConnection, error) {
		return l.connectFirst(ctx, a, failed, began)
	}
	var candidates []*candidate
	for _, a := range attempts {
		candidates = append(candidates, &candidate{a, first, always})
	}
	return l.search(ctx, candidates, l.failoverAfter(), l.cfg.Wait != 0)
}

// searchAgain tries until the lost session of last has another carrier, or there is another session
// with one of the remotes: with the same one by preference, for a while. Without last, or if it is
// hopeless, the best remote is the first to be tried.
func (l *Local) searchAgain(
	ctx context.Context, last *localConnection, attempts []*localAttempts, hopeless bool,
) (*localConnection, error) {
	for _, a := range attempts {
		a.level = zerolog.WarnLevel
		if last == nil || a.to != last.connector {
			a.pause.reset()
		}
	}
	var candidates []*candidate
	if last != nil {
		own := attempts[last.connector.place]
		resume := func(
			ctx context.Context, a *localAttempts, failed func(error),
		) (*localConnection, error) {
			return l.connectAgain(ctx, last, a, failed)
		}
		candidates = append(candidates, &candidate{own, resume, isRefusal})
	}
	for _, a := range attempts {
		if last == nil || a.to != last.connector {
			candidates = append(candidates, &candidate{a, l.connectNew, always})
		}
	}
	patience := l.failoverAfter()
	if hopeless {
		patience = 1
	}
	return l.search(ctx, candidates, patience, true)
}

// isRefusal reports whether a remote, or a server in front of it, has answered an attempt to
// connect with a refusal, so that nothing is won by waiting for it.
func isRefusal(err error) bool {
	_, answered := errors.AsType[*StatusError](err)
	return answered || isFinal(err) || isRoomError(err)
}

// errBetterRemote is the cause for which a session is replaced that goes on.
var errBetterRemote = errors.New("a better remote is back")

// awaitBetter keeps a session with a remote that is better than that of conn, and returns it once
// it has lasted for long enough. It returns nil when ctx is done.
func (l *Local) awaitBetter(
	ctx context.Context, conn *localConnection, attempts []*localAttempts,
) *localConnection {
	var pause backoff
	for ctx.Err() == nil {
		var candidates []*candidate
		for _, a := range attempts[:conn.connector.place] {
			a.level = zerolog.DebugLevel
			candidates = append(candidates, &candidate{a, l.connectBetter, always})
		}
		if len(candidates) == 0 {
			<-ctx.Done()
			return nil
		}
		better, err := l.search(ctx, candidates, l.failoverAfter(), true)
		if err == nil && l.lasts(ctx, better) {
			return better
		}
		if err == nil {
			l.discard(better)
		}
		sleep(ctx, pause.next())
	}
	return nil
}

// connectBetter is connectNew for a remote that may have a retired session. Without a carrier,
// that would make room for the new one where the client may have no more, and its streams be cut.
func (l *Local) connectBetter(
	ctx context.Context, attempts *localAttempts, failed func(error),
) (*localConnection, error) {
	for away := l.awayFrom(attempts.to); away != nil; away = l.awayFrom(attempts.to) {
		away.AwaitCarrier(ctx) // or its end
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	return l.connectNew(ctx, attempts, failed)
}

// awayFrom returns a retired session with a remote that has lost its carrier, nil if there is none.
func (l *Local) awayFrom(remote *localConnector) *mux.Session {
	l.mu.Lock()
	defer l.mu.Unlock()
	for kept := range l.retired {
		session := kept.conn.session
		if kept.conn.connector == remote && session.Err() == nil && session.Stats().Away {
			return session
		}
	}
	return nil
}

// connectNew is connectAgain for a new session.
func (l *Local) connectNew(
	ctx context.Context, attempts *localAttempts, failed func(error),
) (*localConnection, error) {
	return l.connectAgain(ctx, nil, attempts, failed)
}

// lasts reports whether a session keeps its carrier, and its remote doesn't drain, until it has
// lasted for long enough.
func (l *Local) lasts(ctx context.Context, conn *localConnection) bool {
	l.setStandby(conn)
	defer l.setStandby(nil)
	waiting, cancel := context.WithTimeout(ctx, l.failbackAfter())
	defer cancel()
	var draining sync.WaitGroup
	defer draining.Wait()
	drains := make(chan struct{})
	draining.Go(func() {
		if conn.session.AwaitDraining(waiting) == nil {
			close(drains)
			cancel()
		}
	})
	lost := conn.session.AwaitLoss(waiting) == nil || conn.session.Err() != nil
	select {
	case <-drains:
		return false
	default:
		return !lost && ctx.Err() == nil
	}
}

func (l *Local) setStandby(conn *localConnection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.standby = conn
}

// switchTo makes another session the one for new streams, and keeps the old one, if it lives, until
// its streams have ended.
func (l *Local) switchTo(ctx context.Context, conn, last *localConnection, reason error) {
	l.noteSwitch(conn, last, reason)
	if last.session.Err() == nil {
		l.retire(ctx, last)
	} else {
		l.sums.end(last.session)
	}
	l.set(conn, nil)
	if reason != errBetterRemote {
		l.reopen()
		l.resetUnconfirmed(last.session)
	}
	l.moveReverse(last.session)
	l.sums.begin(conn.session)
	l.logConnected(conn)
}

// resetUnconfirmed resets the streams of a session that is away for which clients have got success
// before the remote's answer. Those that have sent nothing are opened in another session then. The
// remote may have passed on what the others have sent, so that must not be repeated; but a client
// that sees a reset can decide.
func (l *Local) resetUnconfirmed(session *mux.Session) {
	if n := session.ResetUnconfirmed(); n > 0 {
		l.cfg.Log.Warn().Int("streams", n).
			Msg("connections reset that the lost remote had not confirmed")
	}
}

// noteSwitch logs that new streams go to another remote.
func (l *Local) noteSwitch(conn, last *localConnection, reason error) {
	l.event(state.EventSwitched, conn, reason)
	l.cfg.Log.Warn().
		Stringer("from", last.connector.address).
		Stringer("remote", conn.connector.address).
		AnErr("reason", reason).
		Int("streams", last.session.Stats().Streams).
		Msg("new streams go to another remote")
}

// lossReason returns why new streams can't go to the session of a connection.
func lossReason(conn *localConnection) error {
	if err := conn.session.Err(); err != nil {
		return err
	}
	return conn.session.LossCause()
}
