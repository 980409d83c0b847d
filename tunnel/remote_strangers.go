package tunnel

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
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
	log := netfault.LogPauses(r.cfg.Log)
	return &strangerListener{remote: r, Listener: netfault.NewListener(ln,
		func(err error, pause time.Duration) {
			log(err, pause)
			if netfault.Exhausted(err) {
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
	remote *Remote

	// Of a trusted proxy. Only the reader uses them, and who comes after it has read.
	proxied bool           // the header of the PROXY protocol may follow
	early   *bufio.Reader  // what was read with it comes first
	client  netip.AddrPort // by that header; invalid when there was none
	unknown bool           // there was one, which names no client

	place  atomic.Pointer[fairPlace]
	mu     sync.Mutex // held to change place
	closed bool       // place was left for good
}

func (r *Remote) newStranger(conn net.Conn) *strangerConn {
	addr := peerAddr(conn.RemoteAddr())
	c := &strangerConn{Conn: conn, remote: r, proxied: r.cfg.Proxies.trusts(addr)}
	c.place.Store(r.gate.takeConn(r.sourceOf(addr), func() { abort(conn) }))
	return c
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
	if c.proxied {
		if err := c.readProxyHeader(); err != nil {
			return 0, err
		}
		c.proxied = false
	}
	read := c.Conn.Read
	if c.early != nil && c.early.Buffered() > 0 {
		read = c.early.Read
	}
	n, err := read(p)
	c.touch(n)
	return n, err
}

// Write implements net.Conn.
func (c *strangerConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.touch(n)
	return n, err
}

// touch notes that n bytes have been transferred.
func (c *strangerConn) touch(n int) {
	if n > 0 {
		c.place.Load().touch()
	}
}

// leave gives the connection's place back.
func (c *strangerConn) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.place.Load().leave()
}

// Close implements net.Conn.
func (c *strangerConn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// bare returns the connection without the wrapper if nothing has been read ahead.
func (c *strangerConn) bare() net.Conn {
	if c.early != nil && c.early.Buffered() > 0 {
		return c
	}
	return c.Conn
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

// strangerOf returns the connection of a request, nil if Serve has not accepted it.
func strangerOf(request *http.Request) *strangerConn {
	c, _ := request.Context().Value(strangerKey{}).(*strangerConn)
	return c
}

// leaveStrangers frees the place that the connection of a request holds among the strangers: a
// session is admitted on it, or it is closed.
func leaveStrangers(request *http.Request) {
	if c := strangerOf(request); c != nil {
		c.leave()
	}
}

// bareHijacker is a ResponseWriter whose connection, when it is hijacked, is without the wrapper
// that counts it: a session works with the system's socket.
type bareHijacker struct {
	http.ResponseWriter
	hijacked bool
}

// Hijack implements http.Hijacker.
func (h *bareHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffers, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if h.hijacked = err == nil; !h.hijacked {
		return nil, nil, err
	}
	conn = withoutHead(conn, buffers.Reader)
	if c, ok := conn.(*strangerConn); ok {
		conn = c.bare()
	}
	return conn, buffers, nil
}
