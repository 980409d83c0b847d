package tunnel

import (
	"context"
	"errors"
	"net"
	"time"

	"culvert/internal/bounds"
	"culvert/internal/netfault"
	"culvert/tunnel/mux"
	"culvert/tunnel/policy"

	"github.com/rs/zerolog"
)

// serveStream connects to the stream's target and leaves the relaying to another goroutine, so that
// the stack that dialing needed is not held for as long as the stream lasts. It calls ended when
// the stream has ended.
func (s *remoteSession) serveStream(
	in *mux.IncomingStream, client clientStream, ended func(),
) {
	rules, began := s.rules(), time.Now()
	conn, err := dialWhileWanted(s.ctx, in, func(ctx context.Context) (net.Conn, error) {
		if client.crowded {
			ctx = policy.WithSmallBuffers(ctx)
		}
		ctx = policy.WithLookups(ctx, client.lookups)
		return dialTarget(ctx, rules, in.Target())
	})
	observeDial(s.remote.cfg.Observer, began, err)
	if err != nil {
		in.Refuse(s.unreached(in, err), "")
		ended()
		return
	}
	stream, err := in.Confirm()
	if err != nil {
		abort(conn)
		ended()
		return
	}
	stream.SetMeter(client.meter)
	s.streams.Go(func() {
		defer ended()
		// It outlives the session, to deliver what has arrived.
		err := relay(client.meter.lifetime(s.remote.ctx), stream, conn)
		s.log.Debug().Err(err).Uint32("stream", stream.ID()).
			Str("target", stream.Target().Address).Msg("stream ended")
	})
}

// unreached logs and counts why a target was not reached, and returns the code of it. What the
// remote lacks, or forbids, concerns its operator, unlike what is wrong with a target.
func (s *remoteSession) unreached(in mux.Incoming, err error) mux.Code {
	code := dialCode(err)
	switch code {
	case mux.CodeTimeout:
		s.remote.cfg.Bounds.Refused(bounds.Dial)
	case mux.CodeExhausted:
		s.remote.gate.shortages.Warn().Err(netfault.Cause(err)).
			Str("hint", "raise the limit of open files, such as with ulimit -n").
			Msg("targets can't be reached")
	}
	log, level := &s.log, zerolog.DebugLevel
	dns, isLookup := errors.AsType[*net.DNSError](err)
	switch {
	case code == mux.CodeNotAllowed:
		log, level = &s.denials.Logger, zerolog.WarnLevel
	case isLookup && !dns.IsNotFound && code != mux.CodeExhausted:
		log, level = &s.lookups.Logger, zerolog.WarnLevel
	}
	log.WithLevel(level).Err(err).Uint32("stream", in.ID()).Str("target", in.Target().Address).
		Uint16("code", uint16(code)).Msg("target not reached")
	return code
}

// dialTarget connects to a stream's target as the rules allow. Names are resolved here, at the
// remote.
func dialTarget(ctx context.Context, rules remoteRules, target mux.Target) (net.Conn, error) {
	switch target.Kind {
	case mux.StreamTCP:
		return rules.Dial(ctx, "tcp", target.Address)
	case mux.StreamUnix:
		return rules.DialUnix(ctx, target.Address)
	}
	return nil, policy.ErrBadTarget
}
