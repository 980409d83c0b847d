package tunnel

import (
	"context"
	"net"
	"sync"

	"culvert/tunnel/mux"
	"culvert/tunnel/policy"

	"github.com/rs/zerolog"
)

// ReverseUDP is a UDP port at the remote. It outlives a lost WebSocket together with the session, and when the session is
// replaced it is established anew.
type ReverseUDP struct{ *reverseBind }

// ListenReverseUDP has the remote bind a UDP port. The address, and all else, is as for ListenReverse, but there are no sockets
// with a path. ServeReverseUDP serves it; until then, datagrams are dropped.
func (l *Local) ListenReverseUDP(ctx context.Context, address string) (*ReverseUDP, error) {
	rb, err := l.bindReverse(ctx, policy.UDPPrefix+address, mux.StreamUDP)
	if err != nil {
		return nil, err
	}
	return &ReverseUDP{rb}, nil
}

// ServeReverseUDP carries the datagrams that the remote gets at port to target, a host:port as this side sees it, and the
// answers back. Each client, which is a source address at the remote, has a stream and a socket here of its own, until it was
// idle for 5 minutes or another one needs its place. When ctx is done it closes the port, and returns once the streams have
// ended, which they do at once.
func (l *Local) ServeReverseUDP(ctx context.Context, port *ReverseUDP, target string) {
	stop := context.AfterFunc(ctx, func() { port.Close() })
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	var flows sync.WaitGroup
	defer flows.Wait()
	defer cancel()
	defer port.Close()
	room := make(places, maxReverseFlows)
	for {
		stream, err := port.next()
		if err != nil {
			return
		}
		if !room.take() {
			stream.Refuse(mux.CodeTooManyStreams, "")
			continue
		}
		flows.Go(func() {
			defer room.leave()
			serveReverseFlow(ctx, stream, target, port.log)
		})
	}
}

// serveReverseFlow joins a client's stream to a socket of its own, which is connected to the target.
func serveReverseFlow(ctx context.Context, stream *mux.Stream, target string, log zerolog.Logger) {
	log = log.With().Str("target", target).Logger()
	conn, err := dialWhileWanted(ctx, stream, func(ctx context.Context) (net.Conn, error) { return dialHere(ctx, "udp", target) })
	if err != nil {
		log.Warn().Err(err).Msg("reverse forward: target not reached")
		stream.Refuse(dialCode(err), "")
		return
	}
	if err := stream.Confirm(); err != nil {
		conn.Close()
		return
	}
	err = relayDatagrams(ctx, stream, conn.(*net.UDPConn))
	log.Debug().Err(err).Msg("reverse forward: client ended")
}
