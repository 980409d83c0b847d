package tunnel

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"culvert/certs"
	"culvert/tunnel/mux"
	"culvert/tunnel/policy"

	"github.com/rs/zerolog"
)

// onceListener is a listener for several who close it: the address is free when any call of Close returns. That of package
// net waits for the descriptor to be closed in the first call only.
type onceListener struct {
	net.Listener
	once sync.Once
	err  error
}

// Close closes the listener.
func (l *onceListener) Close() error {
	l.once.Do(func() { l.err = l.Listener.Close() })
	return l.err
}

// oncePackets is a UDP socket for several who close it, as onceListener is a listener.
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

// remoteBind is a listener, or a UDP port, of the remote for one of its clients. It lives as long as the stream that asked for
// it, and so outlives a lost WebSocket with its session.
type remoteBind struct {
	client  certs.PublicKey
	session *mux.Session
	control *mux.Stream
	bind    policy.Bind        // with the port that was bound
	ln      net.Listener       // nil for a UDP port
	packets *oncePackets       // of a UDP port, else nil
	end     context.CancelFunc // has it closed
	freed   chan struct{}      // closed when it is
}

// address is the address that was really bound, for people.
func (e *remoteBind) address() string {
	switch {
	case e.bind.Socket != "":
		return policy.UnixPrefix + e.bind.Socket
	case e.packets != nil:
		return e.packets.LocalAddr().String()
	}
	return e.ln.Addr().String()
}

// streamAddress is the target of a stream for a connection, or for datagrams, from an address.
func (e *remoteBind) streamAddress(from fmt.Stringer) string {
	return fmt.Sprintf("%d %s", e.control.ID(), from)
}

// listen binds an address.
func (e *remoteBind) listen(bind policy.Bind) error {
	e.bind = bind
	if bind.UDP {
		conn, err := bind.ListenUDP()
		if err != nil {
			return err
		}
		e.packets = &oncePackets{UDPConn: conn}
		e.bind.Addr = conn.LocalAddr().(*net.UDPAddr).AddrPort()
		return nil
	}
	ln, err := bind.Listen()
	if err != nil {
		return err
	}
	e.ln = &onceListener{Listener: ln}
	if tcp, ok := ln.Addr().(*net.TCPAddr); ok {
		e.bind.Addr = tcp.AddrPort()
	}
	return nil
}

func (e *remoteBind) close() {
	if e.packets != nil {
		e.packets.Close()
	} else {
		e.ln.Close()
	}
}

// forward joins a connection to a stream to the local. One that the local doesn't take is reset.
func (e *remoteBind) forward(ctx context.Context, conn net.Conn, log zerolog.Logger) {
	opening, cancel := context.WithTimeout(ctx, dialTimeout+openWait)
	stream, err := e.session.Open(opening, mux.Target{Kind: mux.StreamReverse, Address: e.streamAddress(conn.RemoteAddr())})
	cancel()
	if err != nil {
		log.Debug().Err(err).Msg("connection not taken")
		abort(conn)
		return
	}
	err = relay(ctx, stream, conn)
	log.Debug().Err(err).Msg("stream ended")
}

// servePackets carries the datagrams that the remoteBind's socket gets to the local, a stream for each client, and the answers
// back, until ctx is done, which ends the streams too.
func (e *remoteBind) servePackets(ctx context.Context, log zerolog.Logger) error {
	f := newUDPForward(e.packets, log, func(client netip.AddrPort) (*mux.Stream, error) {
		return openDatagrams(e.session, e.streamAddress(client))
	})
	f.refusal = zerolog.DebugLevel // the local tells why
	return f.serve(ctx)
}
