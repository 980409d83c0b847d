package tunnel

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"culvert/internal/netfault"
)

// strangerListener accepts the connections of a remote's clients. Each holds a place among the
// strangers until a session is admitted on it.
type strangerListener struct {
	*netfault.Listener
	remote *Remote
}

// listenForStrangers returns a listener that takes its connections from ln.
func (r *Remote) listenForStrangers(ln net.Listener) *strangerListener {
	log := sampled(r.cfg.Log)
	return &strangerListener{remote: r, Listener: netfault.NewListener(ln,
		func(err error, pause time.Duration) {
			log.Warn().Err(err).Dur("pause", pause).Msg("accept")
			if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
				r.gate.conns.free() // for a client that may have a key
			}
		})}
}

// Accept implements net.Listener.
func (l *strangerListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.remote.newStranger(conn), nil
}

// strangerConn is a connection of a client that may not have been admitted yet.
type strangerConn struct {
	net.Conn
	place *fairPlace
}

func (r *Remote) newStranger(conn net.Conn) *strangerConn {
	from := sourceOf(peerAddr(conn.RemoteAddr()))
	place := r.gate.takeConn(from, func() { abort(conn) })
	return &strangerConn{Conn: conn, place: place}
}

// peerAddr returns the IP address of a peer, invalid if it has none.
func peerAddr(peer net.Addr) netip.Addr {
	if tcp, ok := peer.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// Read implements net.Conn.
func (c *strangerConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.place.touch()
	}
	return n, err
}

// Write implements net.Conn.
func (c *strangerConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if n > 0 {
		c.place.touch()
	}
	return n, err
}

// Close implements net.Conn.
func (c *strangerConn) Close() error {
	c.place.leave()
	return c.Conn.Close()
}

// CloseWrite is for http.Server, which waits after that until the client has read its answer.
func (c *strangerConn) CloseWrite() error { return closeWrite(c.Conn) }

// NetConn returns the connection that was accepted.
func (c *strangerConn) NetConn() net.Conn { return c.Conn }

// strangerKey is the key of a request's strangerConn in its context.
type strangerKey struct{}

// withStranger is http.Server.ConnContext.
func withStranger(ctx context.Context, conn net.Conn) context.Context {
	for {
		if c, ok := conn.(*strangerConn); ok {
			return context.WithValue(ctx, strangerKey{}, c)
		}
		outer, ok := conn.(interface{ NetConn() net.Conn }) // TLS
		if !ok {
			return ctx
		}
		conn = outer.NetConn()
	}
}

// leaveStrangers frees the place that the connection of a request holds among the strangers: a
// session is admitted on it, or it is closed.
func leaveStrangers(request *http.Request) {
	if c, ok := request.Context().Value(strangerKey{}).(*strangerConn); ok {
		c.place.leave()
	}
}

// bareHijacker is a ResponseWriter whose connection, when it is hijacked, is without the wrapper
// that counts it: a session works with the system's socket.
type bareHijacker struct{ http.ResponseWriter }

// Hijack implements http.Hijacker.
func (h bareHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffers, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if c, ok := conn.(*strangerConn); ok {
		conn = c.Conn
	}
	return conn, buffers, err
}
