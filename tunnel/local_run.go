package tunnel

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"culvert/tunnel/mux"
)

// Run connects and stays connected until ctx is done; then it drains and closes the session and
// returns nil. When a carrier is lost, the session gets another and no stream notices; a session is
// replaced only when the remote no longer has it. When the first attempt fails, or when a later one
// fails because the remote is not the right one or does not admit this client, Run returns that
// *ConnectError.
func (l *Local) Run(ctx context.Context) error {
	stopWatching := l.watchNetwork(ctx)
	defer stopWatching()
	conn, err := l.connector.connect(ctx, nil)
	if err != nil {
		return l.finish(ctx, err)
	}
	l.logConnected(conn)
	var accepting sync.WaitGroup // all sessions are closed when Run returns
	defer accepting.Wait()
	var pause backoff
	var last *mux.Session
	for {
		began := time.Now()
		if session := conn.session; l.cfg.Reverse && session != last {
			accepting.Go(func() { l.acceptReverse(session) })
			last = session
		}
		l.set(conn, nil)
		watching, stop := context.WithCancel(ctx)
		current := conn
		accepting.Go(func() { endAtExpiry(watching, current, time.Now) })
		err := conn.session.AwaitLoss(ctx)
		stop()
		if ctx.Err() != nil {
			l.shutdown(conn.session)
			l.set(nil, net.ErrClosed)
			return nil
		}
		lasted := time.Since(began)
		l.logLoss(conn, err, lasted)
		var dead *mux.SessionError
		if errors.As(err, &dead) && isFinal(dead.Err) {
			return l.finish(ctx, &ConnectError{StepSession, dead.Err})
		}
		pause.after(lasted, dead != nil)
		if conn, err = l.reconnect(ctx, conn, &pause); err != nil {
			return l.finish(ctx, err)
		}
	}
}

// endAtExpiry closes the session when the certificate that the remote presented expires, until ctx
// is done. The next handshake decides whether the remote has another one.
func endAtExpiry(ctx context.Context, conn *localConnection, now func() time.Time) {
	cert := conn.state.Peer.Cert
	for cert != nil {
		timer := time.NewTimer(expiryPause(cert, now()))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		if !now().Before(cert.Expires()) {
			conn.session.BeginClose(mux.CodeNotAllowed, "the certificate has expired")
			return
		}
	}
}

// finish ends Run.
func (l *Local) finish(ctx context.Context, err error) error {
	l.mu.Lock()
	last := l.current
	l.mu.Unlock()
	if last != nil {
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

// Retry makes a Local that pauses before an attempt to reconnect start it at once.
func (l *Local) Retry() {
	select {
	case l.retry <- struct{}{}:
	default:
	}
}

// reconnect tries until there is a carrier, until an error is final, or until ctx is done.
func (l *Local) reconnect(
	ctx context.Context, last *localConnection, pause *backoff,
) (*localConnection, error) {
	lostAt := time.Now()
	for {
		timer := time.NewTimer(pause.next())
		select {
		case <-timer.C:
		case <-l.retry: // the network path may have changed
			timer.Stop()
			*pause = 0
		case <-ctx.Done():
			timer.Stop()
			return nil, context.Cause(ctx)
		}
		conn, err := l.connector.connect(ctx, last.session)
		if err == nil {
			l.logReconnected(conn, last, time.Since(lostAt))
			return conn, nil
		}
		if isFinal(err) || ctx.Err() != nil {
			return nil, err
		}
		l.cfg.Log.Warn().
			Err(err).
			Dur("retry_within", time.Duration(*pause)).
			Msg("remote can't be reached")
	}
}

func (l *Local) logConnected(conn *localConnection) {
	l.cfg.Log.Info().
		Stringer("remote", l.cfg.Address).
		Int("version", conn.state.Version).
		Str("suite", conn.state.Suite).
		Bool("forward_secrecy", conn.state.ForwardSecrecy).
		Stringer("key", conn.state.Peer.Key).
		Msg("session up")
}

// logLoss logs the loss of a carrier, or of the session with it.
func (l *Local) logLoss(conn *localConnection, err error, after time.Duration) {
	var dead *mux.SessionError
	if errors.As(err, &dead) {
		l.cfg.Log.Warn().Err(dead.Err).Dur("after", after).Msg("session lost")
		return
	}
	l.cfg.Log.Warn().
		Err(conn.session.LossCause()).
		Dur("after", after).
		Int("streams", conn.session.Stats().Streams).
		Msg("connection lost")
}

func (l *Local) logReconnected(conn, last *localConnection, away time.Duration) {
	if conn.session != last.session {
		l.logConnected(conn)
		return
	}
	stats := conn.session.Stats()
	l.cfg.Log.Info().
		Dur("away", away).
		Int("streams", stats.Streams).
		Uint64("resent_bytes", stats.Resent).
		Msg("session resumed")
}
