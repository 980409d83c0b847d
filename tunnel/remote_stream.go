package tunnel

import (
	"context"
	"net"
	"sync"

	"culvert/tunnel/mux"
	"culvert/tunnel/policy"

	"github.com/rs/zerolog"
)

// serveStream reaches the stream's target, and has the two joined by a goroutine of their own, which streams counts: the
// stack that dialing took is not held for as long as the stream lasts. The context ends with the session.
func (r *Remote) serveStream(ctx context.Context, stream *mux.Stream, rules *policy.Rules, streams *sync.WaitGroup, log *zerolog.Logger) {
	conn, err := dialWhileWanted(ctx, stream, func(ctx context.Context) (net.Conn, error) {
		return dialTarget(ctx, rules, stream.Target())
	})
	if err != nil {
		code := dialCode(err)
		log.Debug().Err(err).Str("target", stream.Target().Address).Stringer("code", code).Msg("target not reached")
		stream.Refuse(code, "")
		return
	}
	if err := stream.Confirm(); err != nil {
		abort(conn)
		return
	}
	streams.Go(func() {
		err := relay(ctx, stream, conn)
		log.Debug().Err(err).Str("target", stream.Target().Address).Msg("stream ended")
	})
}

// dialTarget reaches a stream's target as the rules allow. Names are resolved here, at the remote.
func dialTarget(ctx context.Context, rules *policy.Rules, target mux.Target) (net.Conn, error) {
	switch target.Kind {
	case mux.StreamTCP:
		return rules.Dial(ctx, "tcp", target.Address)
	case mux.StreamUnix:
		return rules.DialUnix(ctx, target.Address)
	}
	return nil, policy.ErrBadTarget
}
