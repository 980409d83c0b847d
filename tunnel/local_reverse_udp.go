package tunnel

import (
	"context"
	"net"
	"sync"

	"culvert/internal/bounds"
	"culvert/tunnel/mux"
	"culvert/tunnel/policy"

	"github.com/rs/zerolog"
)

// ReverseUDP is a UDP port that the remote has bound. It outlives a lost WebSocket together with
// the session; when the session is replaced, it is bound again.
type ReverseUDP struct{ *reverseBind }

// ListenReverseUDP binds a UDP port at the remote. It is as ListenReverse, except that the address
// can't be a path. Datagrams are dropped until ServeReverseUDP serves the port.
func (l *Local) ListenReverseUDP(ctx context.Context, address string) (*ReverseUDP, error) {
	rb, err := l.bindReverse(ctx, policy.UDPPrefix+address, mux.StreamUDP)
	if err != nil {
		return nil, err
	}
	return &ReverseUDP{rb}, nil
}

// ServeReverseUDP carries the datagrams that the remote receives at port to target, a host:port as
// this side sees it, and the answers back. Each client, that is each source address at the remote,
// has its own stream and its own socket here, until it is idle for 5 minutes or another client
// needs its place. When ctx is done, ServeReverseUDP closes the port, and returns once the streams
// have ended, which is at once.
func (l *Local) ServeReverseUDP(ctx context.Context, port *ReverseUDP, target string) {
	stop := context.AfterFunc(ctx, func() { port.Close() })
	defer stop()
	log := forwardLog(port.log, target)
	defer log.close()
	ctx, cancel := context.WithCancel(ctx)
	var flows sync.WaitGroup
	defer flows.Wait()
	defer cancel()
	defer port.Close()
	room := newPlaces(maxReverseFlows)
	for {
		in, err := port.next() // of the bind's kind
		if err != nil {
			return
		}
		if !room.take() {
			l.cfg.Bounds.Refused(bounds.ReverseFlows)
			in.Refuse(mux.CodeTooManyStreams, "")
			continue
		}
		flows.Go(func() {
			defer room.leave()
			l.serveReverseFlow(ctx, in.(*mux.IncomingFlow), port, target, log)
		})
	}
}

// serveReverseFlow joins the flow of a client to a socket that is connected to the target.
func (l *Local) serveReverseFlow(
	ctx context.Context, in *mux.IncomingFlow, port *ReverseUDP, target string, log *limitedLog,
) {
	release := l.reserveMemory(exitMemory) // for its buffer
	if release == nil {
		l.cfg.Bounds.Refused(bounds.Memory)
		in.Refuse(mux.CodeOverload, "no memory for its buffer")
		return
	}
	defer release()
	conn, err := dialWhileWanted(ctx, in, func(ctx context.Context) (net.Conn, error) {
		return l.dialHere(ctx, "udp", target)
	})
	if err != nil {
		log.at(unreachedLevel(ctx, err)).Err(err).Msg("reverse forward: target not reached")
		in.Refuse(dialCode(err), "")
		return
	}
	datagrams, err := in.Confirm()
	if err != nil {
		conn.Close()
		return
	}
	datagrams.SetLabel(port.Addr().String() + "/udp")
	err = relayDatagrams(ctx, newFlow(datagrams), conn)
	log.at(zerolog.DebugLevel).Err(err).Msg("reverse forward: client ended")
}
