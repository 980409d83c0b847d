package tunnel

import (
	"context"
	"net"
	"strings"
	"sync"
	"time"

	"culvert/internal/rawsock"
	"culvert/tunnel/mux"
	"culvert/tunnel/policy"

	"github.com/rs/zerolog"
)

// ReverseListener is a net.Listener whose address is bound by the remote. It outlives a lost
// WebSocket together with the session; when the session is replaced, it is bound again.
type ReverseListener struct{ *reverseBind }

// ListenReverse listens at the remote, on an address as the remote sees it: host:port or
// unix:/path. The host may be an address, localhost, or empty for all addresses; port 0 selects a
// free port. The error is a *mux.OpenError when the remote has refused. Once the remote listens,
// later trouble with the listener is logged and it is bound again.
func (l *Local) ListenReverse(ctx context.Context, address string) (*ReverseListener, error) {
	bind := address
	if !strings.HasPrefix(address, policy.UnixPrefix) {
		bind = policy.TCPPrefix + address
	}
	rb, err := l.bindReverse(ctx, bind, mux.StreamReverse)
	if err != nil {
		return nil, err
	}
	return &ReverseListener{rb}, nil
}

// Accept waits for the next connection.
func (rl *ReverseListener) Accept() (net.Conn, error) {
	for {
		in, err := rl.next() // of the bind's kind
		if err != nil {
			return nil, err
		}
		stream, err := in.(*mux.IncomingStream).Confirm()
		if err == nil { // otherwise the peer is gone already
			return &reverseConn{stream}, nil
		}
	}
}

// ServeReverse joins each connection that the remote accepts to target, a host:port as this side
// sees it or unix:/path. When ctx is done it closes ln, and returns once the connections have
// ended, which happens at the latest when the session ends.
func (l *Local) ServeReverse(ctx context.Context, ln *ReverseListener, target string) {
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	log := forwardLog(ln.log, target)
	defer log.close()
	var conns sync.WaitGroup
	defer conns.Wait()
	defer ln.Close()
	for {
		in, err := ln.next() // of the bind's kind
		if err != nil {
			return
		}
		conns.Go(func() { // the session bounds its streams
			l.serveReverse(ctx, in.(*mux.IncomingStream), ln, target, log)
		})
	}
}

// serveReverse connects to the target and joins the two.
func (l *Local) serveReverse(
	ctx context.Context, in *mux.IncomingStream, ln *ReverseListener, target string,
	log *limitedLog,
) {
	began := time.Now()
	conn, err := dialWhileWanted(ctx, in, func(ctx context.Context) (net.Conn, error) {
		return l.dialHere(ctx, "tcp", target)
	})
	observeDial(l.cfg.Observer, began, err)
	if err != nil {
		log.at(unreachedLevel(ctx, err)).Err(err).Msg("reverse forward: target not reached")
		in.Refuse(dialCode(err), "")
		return
	}
	stream, err := in.Confirm()
	if err != nil {
		abort(conn)
		return
	}
	stream.SetLabel(ln.Addr().String())
	err = l.joinHere(l.relaying, &relayed{stream: stream, conn: conn})
	log.at(zerolog.DebugLevel).Err(err).Msg("reverse forward: connection ended")
}

// DialHere connects to a target from this side, for a proxy whose clients are at the remote.
func (l *Local) DialHere(ctx context.Context, network, address string) (net.Conn, error) {
	if l.clients.Load() >= crowd {
		ctx = policy.WithSmallBuffers(ctx)
	}
	return policy.ConnectHere(policy.WithLookups(ctx, l.names), network, address)
}

// dialHere connects to a target from this side. The network is for a target that is a host and
// port.
func (l *Local) dialHere(ctx context.Context, network, target string) (net.Conn, error) {
	if to := streamTarget(target); to.Kind == mux.StreamUnix {
		network, target = "unix", to.Address
	}
	return l.DialHere(ctx, network, target)
}

// Join copies between a connection that a ReverseListener has accepted and one that DialHere has
// returned, as Relay does. The client may be wrapped by types with NetConn and, when it has sent
// data already, Early.
func (l *Local) Join(ctx context.Context, client, target net.Conn) error {
	r := &relayed{stream: rawsock.Unwrap(client).(*reverseConn).Stream, conn: target}
	if c, ok := client.(interface{ Early() []byte }); ok {
		r.early = c.Early()
	}
	return l.joinHere(ctx, r)
}

// joinHere joins a stream of the remote to a connection to a target on this side, which counts as
// one of a client: strangers may make very many.
func (l *Local) joinHere(ctx context.Context, r *relayed) error {
	if n := l.clients.Add(1); usualClients < n && n <= crowd { // beyond, they begin small
		boundReceiving(r.conn)
	}
	defer l.clients.Add(-1)
	return r.run(ctx)
}

// reverseConn is a connection that the remote has accepted.
type reverseConn struct{ *mux.Stream }

// RemoteAddr returns the address of the peer that connected to the remote.
func (c *reverseConn) RemoteAddr() net.Addr {
	_, peer, _ := strings.Cut(c.Target().Address, " ")
	return mux.Addr{ID: c.ID(), Name: peer}
}
