package tunnel

import (
	"context"
	"errors"

	"culvert/tunnel/mux"
)

// CheckPath returns nil if the remote answers, or if this is known to be impossible for now: a path
// that is down is not this end's fault. It returns an error if ctx is done before either is so.
func (l *Local) CheckPath(ctx context.Context) error {
	conn := l.connection()
	if conn == nil || conn.session.Stats().Away {
		return nil
	}
	_, err := conn.session.Ping(ctx)
	if _, lost := errors.AsType[*mux.SessionError](err); lost || conn.session.Stats().Away {
		return nil
	}
	return err
}
