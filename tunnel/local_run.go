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
	stopWatching := l.watchNetwork(context.WithoutCancel(ctx)) // also while streams drain
	defer stopWatching()
	for _, remote := range l.remotes {
		defer remote.hedging.Wait()
	}
	var accepting sync.WaitGroup // all sessions are closed when Run returns
	defer accepting.Wait()
	defer l.retiring.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	attempts := l.attemptsToAll()
	conn, err := l.searchFirst(ctx, attempts)
	if err != nil {
		return l.finish(ctx, err)
	}
	l.sums.begin(conn.session)
	l.logConnected(conn)
	var last *localConnection
	var moved uint64 // by the session, when it got the carrier
	for {
		if session := conn.session; last == nil || last.session != session {
			accepting.Go(func() { l.acceptReverse(session) })
		}
		if conn != last { // otherwise an attempt to renew it has failed
			last, moved = conn, traffic(conn.session)
		}
		drop(l.retry) // was for the attempts that have led to this
		l.set(conn, nil)
		stopWatching := watchExpiry(ctx, conn)
		better, err := l.awaitLoss(ctx, conn, attempts)
		stopWatching()
		switch {
		case ctx.Err() != nil:
			if better != nil {
				l.discard(better)
			}
			return l.finish(ctx, nil)
		case errors.Is(err, errRetry):
			conn = l.renew(ctx, conn, attempts[conn.connector.place])
			continue
		case errors.Is(err, errBetterRemote):
			l.switchTo(ctx, better, conn, err)
			conn = better
			continue
		case errors.Is(err, errRemoteDrains):
			conn, err = l.replace(ctx, conn, attempts)
		default:
			lasted := time.Since(conn.since)
			l.logLoss(conn, err, lasted)
			conn, err = l.afterLoss(ctx, conn, attempts, err, lasted, traffic(conn.session) > moved)
		}
		if err != nil {
			return l.finish(ctx, err)
		}
	}
}

// afterLoss tries until there is a connection again, after err has ended the carrier of conn, or
// its session. The carrier lasted for a time, and has carried data or not.
func (l *Local) afterLoss(
	ctx context.Context, conn *localConnection, attempts []*localAttempts, err error,
	lasted time.Duration, carried bool,
) (*localConnection, error) {
	dead, _ := errors.AsType[*mux.SessionError](err)
	refused := dead != nil && isRemotesWord(dead.Err)
	if refused && len(l.remotes) == 1 {
		return nil, &ConnectError{Step: StepSession, Err: dead.Err, Remote: l.cfg.Address}
	}
	attempts[conn.connector.place].lost(conn.path.remote.Addr(), lasted, carried, dead != nil)
	return l.reconnect(ctx, conn, attempts, refused)
}

// watchExpiry is endAtExpiry on a goroutine, until stop has returned. It is for one carrier: the
// handshake of the next one may bring another certificate.
func watchExpiry(ctx context.Context, conn *localConnection) (stop func()) {
	watching, cancel := context.WithCancel(ctx)
	var expiring sync.WaitGroup
	expiring.Go(func() { endAtExpiry(watching, conn, time.Now) })
	return func() {
		cancel()
		expiring.Wait()
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

// errRemoteDrains is the cause for which a session is replaced that goes on: the remote is to stop,
// or has asked for another session.
var errRemoteDrains = errors.New("the remote is draining")

// errRetry is the cause for which a carrier that was not lost is replaced.
var errRetry = errors.New("asked to reconnect")

// awaitLoss waits until the session has lost its carrier, and returns nil; until Retry is called,
// and returns errRetry; until the remote takes no more streams in the session, and returns
// errRemoteDrains; until there has been a session to a better remote for long enough, and returns
// that and errBetterRemote; or until ctx is done or the session is dead, and returns AwaitLoss's
// error.
func (l *Local) awaitLoss(
	ctx context.Context, conn *localConnection, attempts []*localAttempts,
) (better *localConnection, err error) {
	session := conn.session
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
	asking.Go(func() {
		if better = l.awaitBetter(waiting, conn, attempts); better != nil {
			stop(errBetterRemote)
		}
	})
	err = session.AwaitLoss(waiting)
	stop(nil)
	asking.Wait()
	if better != nil && !errors.Is(err, errBetterRemote) {
		l.discard(better)
		better = nil
	}
	return better, err
}

// finish ends Run, because of err unless ctx is done. Only in the latter case do the streams get
// time to end.
func (l *Local) finish(ctx context.Context, err error) error {
	last := l.connection()
	switch {
	case last == nil:
		time.AfterFunc(DrainTimeout, l.cutRelays)
	case ctx.Err() != nil && last.session.Err() == nil:
		l.shutdown(l.retiredOf(last))
	default:
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
	l.tellSeeking(func(a *localAttempts) { notify(a.retry) })
}

// connectFirst tries until there is a session, until an error is final, or until the configured
// time since it all began is over.
func (l *Local) connectFirst(
	ctx context.Context, attempts *localAttempts, failed func(error), began time.Time,
) (*localConnection, error) {
	waiting := ctx
	if l.cfg.Wait > 0 {
		var cancel context.CancelFunc
		waiting, cancel = context.WithDeadlineCause(ctx, began.Add(l.cfg.Wait),
			&TimeoutError{l.cfg.Wait})
		defer cancel()
	}
	defer attempts.begin()()
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
		failed(err)
		l.retryAfter(err, attempts)
		if attempts.wait(waiting) != nil {
			return nil, last
		}
	}
}

// reconnect tries until there is a carrier, until all remotes refuse, or until ctx is done. refused
// reports that the remote of last has done so.
func (l *Local) reconnect(
	ctx context.Context, last *localConnection, attempts []*localAttempts, refused bool,
) (*localConnection, error) {
	lostAt := time.Now()
	attempts[last.connector.place].follow(last)
	conn, err := l.searchAgain(ctx, last, attempts, refused)
	switch {
	case err != nil:
	case conn.connector == last.connector:
		l.logReconnected(conn, last, time.Since(lostAt))
	default:
		if last.session.Err() != nil { // otherwise it may still be resumed: see keepRetired
			l.cfg.Observer.Resume(false, time.Since(lostAt))
		}
		l.switchTo(ctx, conn, last, lossReason(last))
	}
	return conn, err
}

// connectAgain is reconnect for any session: a new one if last is nil.
func (l *Local) connectAgain(
	ctx context.Context, last *localConnection, attempts *localAttempts, failed func(error),
) (*localConnection, error) {
	defer attempts.begin()()
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
		failed(err)
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
	defer attempts.begin()()
	attempts.follow(conn)
	trying, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer stop()
	if len(l.remotes) > 1 {
		watching.Go(func() { l.awaitAway(trying, conn.session, stop) })
	}
	next, err := attempts.connect(trying, conn)
	if err != nil {
		if trying.Err() == nil {
			l.cfg.Log.Warn().Err(err).Msg("no other connection to the remote")
		}
		return conn
	}
	l.logReconnected(next, conn, time.Since(began))
	return next
}

// awaitAway calls lost once a session has been without a carrier for as long as it would have until
// new streams go to another remote, until ctx is done.
func (l *Local) awaitAway(ctx context.Context, session *mux.Session, lost func()) {
	for session.AwaitLoss(ctx) == nil && sleep(ctx, l.failoverAfter()) {
		if session.Stats().Away {
			lost()
			return
		}
	}
}

// retryAfter logs a failed attempt, which another will follow, no sooner than the server asks for.
func (l *Local) retryAfter(err error, attempts *localAttempts) {
	attempts.pause.asked = askedPause(err)
	l.event(state.EventConnectFailed, nil, err)
	event := l.cfg.Log.WithLevel(attempts.level).Err(err).
		Dur("retry_within", attempts.pause.upcoming())
	if len(l.remotes) > 1 {
		event.Stringer("remote", attempts.to.address)
	}
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
		Stringer("remote", conn.connector.address).
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
