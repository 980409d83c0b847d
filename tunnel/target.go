package tunnel

import (
	"context"
	"errors"
	"net"
	"sync/atomic"

	"culvert/tunnel/mux"

	"github.com/rs/zerolog"
)

// errNotWanted is the error of dialWhileWanted when the opener gave up.
var errNotWanted = errors.New("the client gave up")

// dialWhileWanted calls dial with a context that ends after dialTimeout, and when the opener of the
// stream gives up, which is errNotWanted. An opener that was cut short has not given up when the
// target is still to get what it sent.
func dialWhileWanted(
	ctx context.Context, in mux.Incoming, dial func(context.Context) (net.Conn, error),
) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var unwanted atomic.Bool
	in.NotifyEnd(func(unread bool) {
		if !unread {
			unwanted.Store(true)
			cancel()
		}
	})
	defer in.NotifyEnd(nil)
	conn, err := dial(ctx)
	if err != nil && unwanted.Load() {
		err = errNotWanted
	}
	return conn, err
}

// unreachedLevel returns the level of the log entry about a target that was not reached: it is
// nothing to warn of when the client gave up, or this side is ending, as ctx is.
func unreachedLevel(ctx context.Context, err error) zerolog.Level {
	if ctx.Err() != nil || errors.Is(err, errNotWanted) {
		return zerolog.DebugLevel
	}
	return zerolog.WarnLevel
}
