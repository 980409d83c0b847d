package tunnel

import (
	"context"
	"errors"
	"sync"
	"time"

	"culvert/protocol"
	"culvert/tunnel/mux"
)

// Connect makes one session, to find out whether that is possible, and closes it. The round trip is
// 0 when it could not be measured.
func Connect(
	ctx context.Context, cfg LocalConfig,
) (state protocol.State, roundTrip time.Duration, err error) {
	err = cfg.connector().once(ctx, func(conn *localConnection, rtt time.Duration) error {
		state, roundTrip = conn.state, rtt
		return nil
	})
	return state, roundTrip, err
}

// once makes a session, measures its round trip, which is 0 if that failed, calls use and closes
// the session.
func (c *localConnector) once(
	ctx context.Context, use func(conn *localConnection, roundTrip time.Duration) error,
) error {
	defer c.hedging.Wait()
	conn, err := c.connect(ctx, nil, newAttemptProgress(c.onProgress))
	if err != nil {
		return err
	}
	roundTrip, err := c.ping(ctx, conn)
	return errors.Join(err, use(conn, roundTrip), conn.session.Close())
}

// TargetError means that the remote was reached, but not a target beyond it.
type TargetError struct {
	Target string
	Err    error
}

func (e *TargetError) Error() string { return e.Target + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *TargetError) Unwrap() error { return e.Err }

// ConnectTo does what Connect does, and before it closes the session opens a connection to a
// target, a host:port or unix:/path as the remote sees it, which took reached. An error about the
// target is a *TargetError.
func ConnectTo(
	ctx context.Context, cfg LocalConfig, target string,
) (roundTrip, reached time.Duration, err error) {
	err = cfg.connector().once(ctx, func(conn *localConnection, rtt time.Duration) error {
		if roundTrip = rtt; rtt == 0 {
			return nil // the session has failed
		}
		began := time.Now()
		opening, cancel := context.WithTimeoutCause(ctx, openTimeout, errOpenTimeout)
		defer cancel()
		stream, err := conn.session.Open(opening, streamTarget(target))
		if err != nil {
			_, refused := errors.AsType[*mux.OpenError](err)
			if refused || errors.Is(err, errOpenTimeout) && !conn.session.Stats().Away {
				return &TargetError{target, err}
			}
			return &ConnectError{Step: StepSession, Err: err, Remote: cfg.Address}
		}
		reached = time.Since(began)
		return stream.Close()
	})
	return roundTrip, reached, err
}

// ping measures the round trip, on another carrier if a bad link costs the session the one it has.
func (c *localConnector) ping(ctx context.Context, conn *localConnection) (time.Duration, error) {
	session := conn.session
	ctx, cancel := context.WithCancel(ctx)
	var resuming sync.WaitGroup
	resuming.Go(func() {
		var pause backoff
		for session.AwaitLoss(ctx) == nil {
			if !sleep(ctx, pause.next()) {
				break
			}
			// Until ctx is done, whatever the error.
			next, err := c.connect(ctx, conn, newAttemptProgress(nil))
			if err == nil && next.session != session { // the remote doesn't have it any more
				next.session.Close()
			}
		}
	})
	roundTrip, err := session.Ping(ctx)
	cancel()
	resuming.Wait()
	return roundTrip, err
}
