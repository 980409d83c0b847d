package tunnel

import (
	"context"
	"net"
	"net/netip"

	"culvert/tunnel/mux"

	"github.com/rs/zerolog"
)

// remoteRules is what serving datagrams needs of the rules for targets, *policy.Rules. Values are
// comparable.
type remoteRules interface {
	Resolve(ctx context.Context, network, host string, port uint16) ([]netip.AddrPort, error)
	Dial(ctx context.Context, network, address string) (net.Conn, error)
}

// serveDatagrams joins a stream of datagrams to a socket of its own, as the rules that hold at the time allow. The context
// ends with the session, whose places are mine.
func (r *Remote) serveDatagrams(ctx context.Context, stream *mux.Stream, rules func() remoteRules, mine places, log zerolog.Logger) {
	target := stream.Target().Address
	log = log.With().Str("target", target).Str("kind", "udp").Logger()
	if !mine.take() {
		stream.Refuse(mux.CodeTooManyStreams, "")
		return
	}
	defer mine.leave()
	if !r.exits.take() {
		stream.Refuse(mux.CodeTooManyStreams, "")
		return
	}
	defer r.exits.leave()
	conn, err := openExit(ctx, rules(), target)
	if err != nil {
		code := dialCode(err)
		log.Debug().Err(err).Stringer("code", code).Msg("target not reached")
		stream.Refuse(code, "")
		return
	}
	if err := stream.Confirm(); err != nil {
		conn.Close()
		return
	}
	if target == "" {
		err = newRemoteExit(stream, conn, rules).run(ctx)
	} else {
		err = relayDatagrams(ctx, stream, conn)
	}
	log.Debug().Err(err).Msg("stream ended")
}

// openExit opens the socket for a stream: one that is connected to the stream's target, or, when that is empty, one that
// can send anywhere.
func openExit(ctx context.Context, rules remoteRules, target string) (*net.UDPConn, error) {
	if target == "" {
		return net.ListenUDP("udp", nil)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := rules.Dial(ctx, "udp", target)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}
