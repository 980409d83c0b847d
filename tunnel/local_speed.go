package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"culvert/internal/tcpinfo"
	"culvert/tunnel/mux"
	"culvert/tunnel/speed"
)

// SpeedError means that the remote was reached, but serves no speed test, or not to its end.
type SpeedError struct{ Err error }

func (e *SpeedError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *SpeedError) Unwrap() error { return e.Err }

// ErrNoService is the error for a service that the remote's version doesn't have.
var ErrNoService = errors.New("the remote's version has no such service")

// Speed makes a session, measures what it carries, and closes it. The window is how long each
// direction is measured. An error after the session was made is a *SpeedError.
func Speed(
	ctx context.Context, cfg LocalConfig, window time.Duration, progress func(speed.Progress),
) (result speed.Result, err error) {
	connector := cfg.connector()
	err = connector.once(ctx, func(conn *localConnection, rtt time.Duration) error {
		if rtt == 0 {
			return nil // the session has failed
		}
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		session := conn.session
		// Another connection would have another speed.
		lost := make(chan struct{})
		go func() {
			defer close(lost)
			if session.AwaitLoss(ctx) == nil {
				cancel(fmt.Errorf("the connection was lost during the test: %w", session.LossCause()))
			}
		}()
		var err error
		result, err = speed.Measure(ctx, speed.Config{
			Open: func(ctx context.Context, service string) (net.Conn, error) {
				return openService(ctx, session, service)
			},
			TCP:    func() *tcpinfo.Info { return tcpInfoOf(session.Carrier()) },
			Window: window, OnProgress: progress,
		})
		cancel(nil)
		<-lost
		if err != nil {
			return &SpeedError{err}
		}
		return nil
	})
	return result, err
}

// openService opens a stream to a service of the remote.
func openService(ctx context.Context, session *mux.Session, name string) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, openTimeout, errOpenTimeout)
	defer cancel()
	stream, err := session.Open(ctx, mux.Target{Kind: mux.StreamService, Address: name})
	if refused, ok := errors.AsType[*mux.OpenError](err); ok && refused.Code == mux.CodeBadTarget {
		return nil, fmt.Errorf("%w: %w", ErrNoService, err) // it does not know this kind of stream
	}
	if err != nil {
		return nil, err // not a typed nil
	}
	return stream, nil
}
