package tunnel

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"culvert/internal/state"
	"culvert/protocol"
	"culvert/tunnel/mux"
)

// Run connects and stays connected until ctx is done; then it drains and closes the session and
// returns nil. When a carrier is lost, the session gets another and no stream notices; a session is
// replaced only when the remote no longer has it. When there is no first session, or when the
// remote itself refuses a later one, Run returns that *ConnectError. Whatever else may happen to a
// later attempt, such as a wrong key or certificate, may be the doing of the network that this
// machine is on by then, so Run tries again.
func (l *Local) Run(ctx context.Context) error {
	stopWatching := l.watchNetwork(ctx)
	defer stopWatching()
	defer l.connector.hedging.Wait()
	var accepting sync.WaitGroup // all sessions are closed when Run returns
	defer accepting.Wait()
	defer l.retiring.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	attempts := l.attempts()
	conn, err := l.connectFirst(ctx, attempts)
	if err != nil {
		return l.finish(ctx, err)
	}
	l.sums.begin(conn.session)
	l.logConnected(conn)
	var last *mux.Session
	for {
		began, moved := time.Now(), traffic(conn.session)
		if session := conn.session; session != last {
			accepting.Go(func() { l.acceptReverse(session) })
			last = session
		}
		l.set(conn, nil)
		watching, stop := context.WithCancel(ctx)
		current := conn
		accepting.Go(func() { endAtExpiry(watching, current, time.Now) })
		err := l.awaitLoss(ctx, conn.session)
		stop()
		if ctx.Err() != nil {
			l.shutdown(conn.session)
			l.set(nil, net.ErrClosed)
			return nil
		}
		if errors.Is(err, errRetry) {
			conn = l.renew(ctx, conn, attempts)
			continue
		}
		if errors.Is(err, errRemoteDrains) {
			if conn, err = l.replace(ctx, conn, attempts); err != nil {
				return l.finish(ctx, err)
			}
			continue
		}
		lasted := time.Since(began)
		l.logLoss(conn, err, lasted)
		var dead *mux.SessionError
		if errors.As(err, &dead) && isRemotesWord(dead.Err) {
			return l.finish(ctx, &ConnectError{StepSession, dead.Err})
		}
		attempts.pause.lost(lasted, traffic(conn.session) > moved, dead != nil)
		if conn, err = l.reconnect(ctx, conn, attempts); err != nil {
			return l.finish(ctx, err)
		}
	}
}

// endAtExpiry closes the session when the certificate that the remote presented expires, until ctx
// is done. The next handshake decides whether the remote has another one.
func endAtExpiry(ctx context.Context, conn *localConnection, now func() time.Time) {
	cert := conn.state.Peer.Cert
	for cert != nil {
		if !sleep(ctx, expiryPause(cert, now())) {
			return
		}
		if !now().Before(cert.Expires()) {
			conn.session.BeginClose(mux.CodeNotAllowed, "the certificate has expired")
			return
		}
	}
}

// traffic returns a count that grows as a session's carriers bring data of streams to the other
// side, or from there.
func traffic(session *mux.Session) uint64 {
	s := session.Stats()
	return s.Acknowledged + s.Received + s.Datagrams.Sent + s.Datagrams.Received
}

// errRemoteDrains is the cause for which a session is replaced that goes on.
var errRemoteDrains = errors.New("the remote is shutting down")

// errRetry is the cause for which a carrier that was not lost is replaced.
var errRetry = errors.New("asked to reconnect")

// awaitLoss waits until the session has lost its carrier, and returns nil; until Retry is called,
// and returns errRetry; until the remote takes no more streams in the session, and returns
// errRemoteDrains; or until ctx is done or the session is dead, and returns AwaitLoss's error.
func (l *Local) awaitLoss(ctx context.Context, session *mux.Session) error {
	waiting, stop := context.WithCancelCause(ctx)
	var asking sync.WaitGroup
	asking.Go(func() {
		select {
		case <-l.retry:
			stop(errRetry)
		case <-waiting.Done():
		}
	})
	asking.Go(func() {
		if session.AwaitDraining(waiting) == nil {
			stop(errRemoteDrains)
		}
	})
	err := session.AwaitLoss(waiting)
	stop(nil)
	asking.Wait()
	return err
}

// finish ends Run.
func (l *Local) finish(ctx context.Context, err error) error {
	if last := l.connection(); last != nil {
		last.session.Close()
		time.AfterFunc(DrainTimeout, l.cutRelays)
	}
	if ctx.Err() != nil {
		l.set(nil, net.ErrClosed)
		return nil
	}
	l.set(nil, err)
	return err
}

// Retry makes the Local connect now: it ends the pause before an attempt, replaces an attempt that
// is under way, and replaces a carrier that seems to work, once another does.
func (l *Local) Retry() {
	notify(l.retry)
	l.notifyRetired(func(a *localAttempts) { notify(a.retry) })
}

// connectFirst tries until there is a session, until an error is final, or until the configured
// time is over.
func (l *Local) connectFirst(
	ctx context.Context, attempts *localAttempts,
) (*localConnection, error) {
	waiting := ctx
	if l.cfg.Wait > 0 {
		var cancel context.CancelFunc
		waiting, cancel = context.WithTimeoutCause(ctx, l.cfg.Wait, &TimeoutError{l.cfg.Wait})
		defer cancel()
	}
	attempts.pause.next() // for the first attempt
	var last error
	for {
		conn, err := attempts.connect(waiting, nil)
		switch {
		case err == nil:
			attempts.pause.reset()
			return conn, nil
		case l.cfg.Wait == 0 || isFinal(err) || ctx.Err() != nil:
			return nil, err
		case waiting.Err() != nil && last != nil: // it tells more than that time is over
			return nil, last
		case waiting.Err() != nil:
			return nil, err
		}
		last = err
		l.retryAfter(err, attempts)
		if attempts.wait(waiting) != nil {
			return nil, last
		}
	}
}

// reconnect tries until there is a carrier, until the remote refuses, or until ctx is done.
func (l *Local) reconnect(
	ctx context.Context, last *localConnection, attempts *localAttempts,
) (*localConnection, error) {
	lostAt := time.Now()
	attempts.follow(last)
	conn, err := l.connectAgain(ctx, last, attempts)
	if err == nil {
		l.logReconnected(conn, last, time.Since(lostAt))
	}
	return conn, err
}

// connectAgain is reconnect for any session: a new one if last is nil.
func (l *Local) connectAgain(
	ctx context.Context, last *localConnection, attempts *localAttempts,
) (*localConnection, error) {
	for {
		if err := attempts.wait(ctx); err != nil {
			return nil, err
		}
		conn, err := attempts.connect(ctx, last)
		if err == nil {
			return conn, nil
		}
		if isRemotesWord(err) || ctx.Err() != nil {
			return nil, err
		}
		l.retryAfter(err, attempts)
	}
}

// renew gives a session another carrier, and leaves it the one that it has until then. When that
// fails, the session goes on with what it has.
func (l *Local) renew(
	ctx context.Context, conn *localConnection, attempts *localAttempts,
) *localConnection {
	if !conn.session.Resumable() {
		conn.session.Probe()
		return conn
	}
	began := time.Now()
	attempts.follow(conn)
	next, err := attempts.connect(ctx, conn)
	if err != nil {
		if ctx.Err() == nil {
			l.cfg.Log.Warn().Err(err).Msg("no other connection to the remote")
		}
		return conn
	}
	l.logReconnected(next, conn, time.Since(began))
	return next
}

// retryAfter logs a failed attempt, which another will follow, no sooner than the server asks for.
func (l *Local) retryAfter(err error, attempts *localAttempts) {
	attempts.pause.asked = askedPause(err)
	l.event(state.EventConnectFailed, nil, err)
	event := l.cfg.Log.Warn().Err(err).Dur("retry_within", attempts.pause.upcoming())
	if identity, ok := errors.AsType[*protocol.IdentityError](err); ok {
		event.Stringer("key", identity.Key)
	}
	switch {
	case IsIdentityError(err):
		event.Msg("not the remote that answers here")
	case IsAdmissionError(err):
		event.Msg("refused, but not provably by the remote")
	case isRoomError(err):
		event.Msg("no room at the remote")
	default:
		event.Msg("remote can't be reached")
	}
}

func (l *Local) logConnected(conn *localConnection) {
	l.event(state.EventSessionUp, conn, nil)
	l.cfg.Log.Info().
		Str("session", conn.session.ID()).
		Stringer("remote", l.cfg.Address).
		Int("version", conn.state.Version).
		Str("suite", conn.state.Suite).
		Bool("forward_secrecy", conn.state.ForwardSecrecy).
		Stringer("key", conn.state.Peer.Key).
		Str("congestion", conn.path.congestion).
		Msg("session up")
	if conn.skew.Abs() >= ClockNotice {
		l.cfg.Log.Warn().Dur("ahead", conn.skew.Round(time.Second)).
			Msg("the remote's clock differs from this machine's: certificates may look expired")
	}
}

// logLoss logs the loss of a carrier, or of the session with it.
func (l *Local) logLoss(conn *localConnection, err error, after time.Duration) {
	var dead *mux.SessionError
	if errors.As(err, &dead) {
		l.event(state.EventSessionEnded, conn, dead.Err)
		l.cfg.Log.Warn().Str("session", conn.session.ID()).Err(dead.Err).
			Dur("after", shortTime(after)).Msg("session lost")
		return
	}
	l.event(state.EventCarrierLost, conn, conn.session.LossCause())
	l.cfg.Log.Warn().
		Str("session", conn.session.ID()).
		Err(conn.session.LossCause()).
		Dur("after", shortTime(after)).
		Int("streams", conn.session.Stats().Streams).
		Msg("connection lost")
}

func (l *Local) logReconnected(conn, last *localConnection, away time.Duration) {
	if conn.session != last.session {
		l.sums.end(last.session)
		l.sums.begin(conn.session)
		l.cfg.Observer.Resume(false, away)
		l.logConnected(conn)
		return
	}
	conn.sessionSince = last.sessionSince
	l.event(state.EventResumed, conn, nil)
	stats := conn.session.Stats()
	l.sums.resumed()
	l.cfg.Observer.Resume(true, stats.LastAway)
	l.cfg.Log.Info().
		Str("session", conn.session.ID()).
		Dur("away", shortTime(away)).
		Int("streams", stats.Streams).
		Uint64("resent_bytes", stats.Resent).
		Msg("session resumed")
}
