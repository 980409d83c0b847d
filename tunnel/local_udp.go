package tunnel

import (
	"context"
	"net"
	"net/netip"

	"culvert/tunnel/mux"
)

// ServeForwardUDP carries the datagrams that conn receives to target, a host:port as the remote
// sees it, and the answers back. Each client, that is each source address, has its own stream and
// its own socket at the remote, until it is idle for 5 minutes or another client needs its place.
// While there is no session, datagrams are dropped. When ctx is done, ServeForwardUDP closes conn
// and ends the streams. It returns an error only when conn fails.
func (l *Local) ServeForwardUDP(ctx context.Context, conn *net.UDPConn, target string) error {
	return l.serveForwardUDP(ctx, conn, target)
}

func (l *Local) serveForwardUDP(ctx context.Context, conn packetConn, target string) error {
	log := l.cfg.Log.With().Str("target", target).Logger()
	label := ""
	if udp, ok := conn.(*net.UDPConn); ok {
		label = udp.LocalAddr().String() + "/udp"
	}
	f := newUDPForward(conn, log, func(netip.AddrPort) (*flow, func(), error) {
		datagrams, err := l.openFlow(target)
		if err != nil {
			return nil, nil, err
		}
		datagrams.SetLabel(label)
		return newFlow(datagrams), func() {}, nil
	})
	f.bounds = l.cfg.Bounds
	return f.serve(ctx)
}

// openFlow opens a flow to a target if there is a session. It never waits.
func (l *Local) openFlow(target string) (*mux.Flow, error) {
	l.mu.Lock()
	conn, err := l.current, l.err
	l.mu.Unlock()
	switch {
	case err != nil:
		return nil, err
	case conn == nil:
		return nil, ErrNoSession
	}
	return openFlow(conn.session, target)
}
