package tunnel

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"sync"

	"culvert/certs"
	"culvert/internal/netfault"
	"culvert/tunnel/mux"
	"culvert/tunnel/policy"

	"github.com/rs/zerolog"
)

// remoteBind is a listener, or a UDP port, of the remote for one of its clients. It lives as long
// as the stream that asked for it, and so outlives a lost WebSocket with its session.
type remoteBind struct {
	remote  *Remote
	client  certs.PublicKey
	places  places // those for listeners of the client, of which it holds one
	session *mux.Session
	control mux.Incoming // the stream that asked for it
	log     zerolog.Logger
	bind    policy.Bind        // with the port that was bound
	ln      *netfault.Listener // nil for a UDP port
	packets *oncePackets       // of a UDP port, else nil
	end     context.CancelFunc // closes the listener or port
	freed   chan struct{}      // closed once it is closed
	release func()             // gives the memory of a UDP port back

	called int // streams for connections and flows; the remote's mutex guards it
}

// oncePackets is a UDP socket that several goroutines may close: its port is free when any call of
// Close returns. For *net.UDPConn that holds for the first call only.
type oncePackets struct {
	*net.UDPConn
	once sync.Once
	err  error
}

// Close closes the socket.
func (c *oncePackets) Close() error {
	c.once.Do(func() { c.err = c.UDPConn.Close() })
	return c.err
}

// listen binds an address.
func (b *remoteBind) listen(bind policy.Bind) error {
	b.bind = bind
	if bind.UDP {
		conn, err := bind.ListenUDP()
		if err != nil {
			return err
		}
		b.packets = &oncePackets{UDPConn: conn}
		b.bind.Addr = conn.LocalAddr().(*net.UDPAddr).AddrPort()
		return nil
	}
	ln, err := bind.Listen()
	if err != nil {
		return err
	}
	setBacklog(ln, earlyCallers)
	b.ln = retrying(ln, b.log)
	if tcp, ok := ln.Addr().(*net.TCPAddr); ok {
		b.bind.Addr = tcp.AddrPort()
	}
	return nil
}

func (b *remoteBind) close() {
	if b.packets != nil {
		b.packets.Close()
	} else {
		b.ln.Close()
	}
}

// address is the address that was bound, for people.
func (b *remoteBind) address() string {
	switch {
	case b.bind.Socket != "":
		return policy.UnixPrefix + b.bind.Socket
	case b.packets != nil:
		return b.packets.LocalAddr().String()
	}
	return b.ln.Addr().String()
}

// streamAddress is the target of a stream for a connection, or for datagrams, from an address.
func (b *remoteBind) streamAddress(from fmt.Stringer) string {
	return fmt.Sprintf("%d %s", b.control.ID(), from)
}

// serve opens streams for connections or datagrams until listening is done or the listener fails.
// Connections outlive the listener: they end with the session, or at once when all is done.
// Datagrams end with listening.
func (b *remoteBind) serve(all, session, listening context.Context) {
	defer b.end()
	var err error
	if b.packets != nil {
		err = b.servePackets(listening)
	} else {
		setBacklog(b.ln.Listener, math.MaxInt32) // of which the system takes its most
		err = serveConns(listening, b.ln, maxListenerConns, func(conn net.Conn) {
			b.forward(all, session, conn)
		})
	}
	if err != nil && !errors.Is(err, net.ErrClosed) {
		b.log.Warn().Err(err).Msg("a reverse forward broke")
	}
}

// servePackets carries the datagrams that the socket receives to the local, with a stream for each
// client, and the answers back, until ctx is done, which ends the streams too.
func (b *remoteBind) servePackets(ctx context.Context) error {
	f := newUDPForward(b.packets, b.log, b.openFlow)
	f.bounds = b.remote.cfg.Bounds
	f.refusal = zerolog.DebugLevel // the local logs why
	return f.serve(ctx)
}

// openFlow opens a flow for a client of the port.
func (b *remoteBind) openFlow(from netip.AddrPort) (*flow, func(), error) {
	owner, ok := b.remote.takeCaller(b, source{}) // the port shares its flows out by source
	if !ok {
		return nil, nil, &mux.OpenError{Code: mux.CodeTooManyStreams}
	}
	leave := func() { b.remote.leaveCaller(b, owner, source{}) }
	client, refusal := b.remote.takeStream(b.session)
	if refusal != nil {
		leave()
		return nil, nil, refusal
	}
	leaveAll := func() {
		b.remote.leaveStream(client.remoteClient)
		leave()
	}
	datagrams, err := openFlow(b.session, b.streamAddress(from))
	if err != nil {
		leaveAll()
		return nil, nil, err
	}
	datagrams.SetLabel(b.address() + "/udp")
	opened := newFlow(datagrams)
	opened.meter = client.meter
	stop := context.AfterFunc(client.meter.lifetime(b.remote.ctx), func() { datagrams.Close() })
	return opened, func() {
		stop()
		leaveAll()
	}, nil
}

// forward joins a connection to a stream to the local. One that the local doesn't take, or that the
// client's share has no room for, or that is one too many for takeCaller, is reset.
func (b *remoteBind) forward(all, session context.Context, conn net.Conn) {
	from := sourceOf(peerAddr(conn.RemoteAddr()))
	owner, ok := b.remote.takeCaller(b, from)
	if !ok {
		abort(conn)
		return
	}
	defer b.remote.leaveCaller(b, owner, from)
	client, refusal := b.remote.takeStream(b.session)
	if refusal != nil {
		abort(conn)
		return
	}
	defer b.remote.leaveStream(client.remoteClient)
	policy.BoundBuffers(conn, client.crowded)
	target := mux.Target{Kind: mux.StreamReverse, Address: b.streamAddress(conn.RemoteAddr())}
	stream, err := openFor(session, conn, func(ctx context.Context) (*mux.Stream, error) {
		stream, err := b.session.Open(ctx, target)
		if err == nil {
			stream.SetMeter(client.meter) // also for what the connection has sent meanwhile
		}
		return stream, err
	})
	if err != nil {
		b.log.Debug().Err(err).Msg("connection not taken")
		abort(conn)
		return
	}
	stream.SetLabel(b.address())
	err = relay(client.meter.lifetime(all), stream, conn)
	b.log.Debug().Err(err).Msg("stream ended")
}
