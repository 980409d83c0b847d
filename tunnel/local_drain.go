package tunnel

import (
	"context"
	"errors"
	"sync"
	"time"

	"culvert/internal/state"
	"culvert/tunnel/mux"
)

// retiredSession is a session that takes no more streams: its remote drains, or this side does. It
// is kept until those that there are have ended, as the Local's current session is, while new
// streams go to another, if there is one.
type retiredSession struct {
	attempts *localAttempts // to give it another carrier

	conn *localConnection // the newest; the Local's mutex guards it
}

// isDraining reports whether the remote takes no more streams in the session that was asked.
func isDraining(err error) bool {
	refused, ok := errors.AsType[*mux.OpenError](err)
	return ok && refused.Code == mux.CodeDraining
}

// replace makes a new session, at another node if there is a load balancer that knows one, since
// the remote takes no more streams in the one that there is.
func (l *Local) replace(
	ctx context.Context, last *localConnection, attempts []*localAttempts,
) (*localConnection, error) {
	l.cfg.Log.Info().Str("session", last.session.ID()).
		Int("streams", last.session.Stats().Streams).
		Msg("the remote is draining; new streams go to a new session")
	l.event(state.EventMoving, last, errRemoteDrains)
	l.retire(ctx, last)
	l.moveReverse(last.session) // which the remote has ended already, if it knows that it drains
	own := attempts[last.connector.place]
	own.follow(last)
	own.pause.reset()
	conn, err := l.searchAgain(ctx, nil, attempts, false)
	if err == nil {
		if conn.connector != last.connector {
			l.noteSwitch(conn, last, errRemoteDrains)
		}
		l.sums.begin(conn.session)
		l.logConnected(conn)
	}
	return conn, err
}

// retire keeps the current session on a new goroutine until its streams have ended. From now on
// there is no current one.
func (l *Local) retire(ctx context.Context, conn *localConnection) {
	kept := l.retiredOf(conn)
	l.mu.Lock()
	l.retired[kept] = struct{}{}
	l.current = nil
	l.noteChangeLocked()
	l.mu.Unlock()
	l.retiring.Go(func() {
		l.keepRetired(ctx, kept)
		l.mu.Lock()
		delete(l.retired, kept)
		l.mu.Unlock()
		l.sums.end(conn.session)
	})
}

func (l *Local) retiredOf(conn *localConnection) *retiredSession {
	return &retiredSession{attempts: l.attempts(conn.connector), conn: conn}
}

// keepRetired gives a retired session new carriers until its streams have ended, it is dead, or ctx
// is done. Then it ends the session.
func (l *Local) keepRetired(ctx context.Context, kept *retiredSession) {
	err := l.drain(ctx, kept, l.reconnectRetired)
	if ctx.Err() != nil {
		l.shutdown(kept)
		return
	}
	l.noteCut(kept.conn, err, errNoCarrier)
	kept.conn.session.Close()
}

// drain waits until the streams of a session have ended, until ctx is done, or until there will be
// no carrier for it. Meanwhile it is given others by reconnect. The error is that of Session.Drain.
func (l *Local) drain(
	ctx context.Context, kept *retiredSession,
	reconnect func(context.Context, *retiredSession) (*localConnection, error),
) error {
	session := kept.conn.session
	draining, stop := context.WithCancel(ctx)
	var keeping sync.WaitGroup
	keeping.Go(func() {
		l.keepCarried(draining, kept, reconnect)
		stop()
	})
	err := session.Drain(draining)
	stop()
	keeping.Wait()
	return err
}

// keepCarried gives a session another carrier, by reconnect, whenever it loses the one that it has,
// until ctx is done, or there will be none.
func (l *Local) keepCarried(
	ctx context.Context, kept *retiredSession,
	reconnect func(context.Context, *retiredSession) (*localConnection, error),
) {
	session := kept.conn.session
	for moved := traffic(session); awaitLossOrExpiry(ctx, kept.conn) == nil; {
		lostAt, now := time.Now(), traffic(session)
		kept.attempts.lost(
			kept.conn.path.remote.Addr(), lostAt.Sub(kept.conn.since), now > moved, false)
		moved = now
		next, err := reconnect(ctx, kept)
		if err != nil || next.session != session {
			if err == nil { // the remote does not know it any more
				next.session.Close()
			}
			if err == nil || ctx.Err() == nil {
				l.cfg.Observer.Resume(false, time.Since(lostAt))
			}
			if err != nil && ctx.Err() == nil {
				l.cfg.Log.Warn().Err(err).Msg("no other connection to the remote")
			}
			return
		}
		l.logReconnected(next, kept.conn, time.Since(lostAt))
		l.follow(kept, next)
	}
}

// follow notes the newest connection of a session, which is still the current one when the Local
// stops.
func (l *Local) follow(kept *retiredSession, next *localConnection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current == kept.conn {
		l.current = next
		l.noteChangeLocked()
	}
	kept.conn = next
}

// awaitLossOrExpiry is AwaitLoss for the session of a connection, which ends when the remote's
// certificate expires.
func awaitLossOrExpiry(ctx context.Context, conn *localConnection) error {
	defer watchExpiry(ctx, conn)()
	return conn.session.AwaitLoss(ctx)
}

// reconnectKept is connectAgain for a session that takes no more streams.
func (l *Local) reconnectKept(
	ctx context.Context, kept *retiredSession,
) (*localConnection, error) {
	kept.attempts.follow(kept.conn)
	return l.connectAgain(ctx, kept.conn, kept.attempts, func(error) {})
}

// reconnectRetired is reconnectKept while new streams go to another session. The flows don't wait.
func (l *Local) reconnectRetired(
	ctx context.Context, kept *retiredSession,
) (*localConnection, error) {
	away, stop := context.WithCancel(ctx)
	var moving sync.WaitGroup
	defer moving.Wait()
	defer stop()
	moving.Go(func() { l.moveFlows(away, kept.conn.session) })
	return l.reconnectKept(ctx, kept)
}

// moveFlows ends the flows of a retired session that has lost its carrier, and drops all datagrams
// until it has another, once the current session has one: their users open flows there. Streams
// stay, since what was sent over them must not be repeated elsewhere. ctx should end when the
// retired session is resumed.
func (l *Local) moveFlows(ctx context.Context, retired *mux.Session) {
	_, err := l.waitUntil(ctx, func(current *localConnection) bool {
		return current != nil && !current.session.Stats().Away
	})
	if err != nil {
		return
	}
	// The code makes those try again that are being opened: see openInSession.
	if n := retired.ResetFlows(mux.CodeDraining); n > 0 {
		l.cfg.Log.Info().Str("session", retired.ID()).Int("flows", n).
			Msg("datagrams go to the current session")
	}
}

// Why streams are cut short that their session doesn't end.
var (
	errDrainOver = errors.New("the time that they have is over")
	errNoCarrier = errors.New("there is no other connection to their remote")
)

// noteCut logs that streams of a session were cut short, if err of its Drain says so: by the end of
// the session, or else because of why.
func (l *Local) noteCut(conn *localConnection, err, why error) {
	if err == nil {
		return
	}
	if ended, ok := errors.AsType[*mux.SessionError](err); ok {
		why = ended.Err
	} else if ended := conn.session.Err(); ended != nil {
		why = ended
	}
	l.event(state.EventStreamsCut, conn, why)
	l.cfg.Log.Warn().Str("session", conn.session.ID()).Int("streams", conn.session.Stats().Streams).
		Err(why).Msg("streams cut short")
}

// isRetired reports whether a session takes no new streams any more.
func (l *Local) isRetired(session *mux.Session) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for kept := range l.retired {
		if kept.conn.session == session {
			return true
		}
	}
	return false
}

// connections returns those of the current session, if there is one, of the retired ones, and of
// one that may take over.
func (l *Local) connections() []*localConnection {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []*localConnection
	if l.current != nil {
		all = append(all, l.current)
	}
	for kept := range l.retired {
		all = append(all, kept.conn)
	}
	if l.standby != nil {
		all = append(all, l.standby)
	}
	return all
}

// awaitOther waits until the current session is not the given one, until the deadline.
func (l *Local) awaitOther(
	ctx context.Context, session *mux.Session, deadline time.Time,
) error {
	ctx, cancel := context.WithDeadlineCause(ctx, deadline, errNoSessionWait)
	defer cancel()
	_, err := l.waitUntil(ctx, func(conn *localConnection) bool {
		return conn == nil || conn.session != session
	})
	return err
}
