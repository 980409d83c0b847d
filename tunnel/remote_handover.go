package tunnel

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"culvert/internal/takeover"
	"culvert/protocol"

	"github.com/gorilla/websocket"
)

// Successor is the process that takes over a remote's listeners, with the same key.
type Successor interface {
	// Claim reports whether a pair is new to the replay cache.
	Claim(pair uint64) bool

	// Route reports that a session has come or gone. It must not wait.
	Route(name string, here bool)
}

// Predecessor is the process from which a remote has taken over its listeners.
type Predecessor interface {
	Owns(route string) bool

	// Routes returns the routes of all sessions, and reports later changes. Report must not wait.
	Routes(report func(name string, here bool)) []string

	// Pass passes on a connection, which it closes.
	Pass(net.Conn, takeover.Conn) error

	// Done is closed once the process has ended.
	Done() <-chan struct{}
}

// remoteMoving is what a remote takes over from another process, and hands over to one.
type remoteMoving struct {
	replay *protocol.ReplayCache
	passed *passedListener // connections that the successor passes back

	mu        sync.Mutex // guards all below
	entrances []*entrance
	handed    bool                  // since HandOver
	released  bool                  // since ReleaseListeners
	newcomers map[net.Conn]struct{} // connections of which no request has been served
	admitting int                   // requests whose client may come to have a session

	// The Remote's mutex guards these.
	predecessor Predecessor // nil for none
	successor   Successor   // nil for none
}

func newRemoteMoving(replay *protocol.ReplayCache, from Predecessor) *remoteMoving {
	if replay == nil {
		replay = protocol.NewReplayCache(protocol.DefaultReplayCapacity)
	}
	return &remoteMoving{
		replay: replay, predecessor: from, newcomers: make(map[net.Conn]struct{}),
		passed: &passedListener{conns: make(chan net.Conn), closed: make(chan struct{})},
	}
}

// HandOver stops accepting, for another process to do so, and returns what that has to know. From
// now on the replay cache and the list of sessions follow that process. ReleaseListeners or
// TakeBack has to follow.
func (r *Remote) HandOver(to Successor) takeover.State {
	m := r.moving
	m.mu.Lock()
	m.handed = true
	for _, e := range m.entrances {
		e.pause()
	}
	m.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	m.successor = to
	state := takeover.State{Replay: m.replay.HandOver(to.Claim)}
	for name := range r.routes {
		if name != "" {
			state.Routes = append(state.Routes, name)
		}
	}
	if m.predecessor != nil {
		state.Routes = append(state.Routes, m.predecessor.Routes(to.Route)...)
	}
	return state
}

// TakeBack accepts again: the other process has not accepted anything.
func (r *Remote) TakeBack() {
	m := r.moving
	m.replay.TakeBack()
	r.mu.Lock()
	m.successor = nil
	if m.predecessor != nil {
		m.predecessor.Routes(nil)
	}
	r.mu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.handed = false
	for _, e := range m.entrances {
		e.resume()
	}
}

// ReleaseListeners closes the listeners, which the other process has. Serve goes on for the
// connections that were accepted, and for those that ServePassed gets.
func (r *Remote) ReleaseListeners() {
	r.moving.mu.Lock()
	defer r.moving.mu.Unlock()
	r.moving.released = true
	for _, e := range r.moving.entrances {
		e.leave()
	}
}

// AwaitNewcomers waits until the clients whose connections were accepted have a session or have
// left, for newcomerWait at most, or until ctx is done: once the remote drains it takes no more.
func (r *Remote) AwaitNewcomers(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, newcomerWait)
	defer cancel()
	for r.moving.hasNewcomers() {
		if !sleep(ctx, newcomerPoll) {
			return
		}
	}
}

func (m *remoteMoving) hasNewcomers() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.newcomers)+m.admitting > 0
}

// noteConn is told the states of http.Server.ConnState.
func (m *remoteMoving) noteConn(conn net.Conn, state http.ConnState) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch state {
	case http.StateNew, http.StateActive:
		m.newcomers[conn] = struct{}{}
	default:
		delete(m.newcomers, conn)
	}
}

// admits adds n to the number of requests whose client may come to have a session.
func (m *remoteMoving) admits(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.admitting += n
}

// enter returns the entrance for a listener of Serve.
func (m *remoteMoving) enter(ln net.Listener) *entrance {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := newEntrance(ln)
	if m.handed { // before it was served
		e.pause()
	}
	if m.released {
		e.leave()
	}
	m.entrances = append(m.entrances, e)
	return e
}

// leadsBack returns the process that has the session of a request, nil for this one or none.
// Called with the mutex held.
func (r *Remote) leadsBack(route string, request *http.Request) Predecessor {
	from := r.moving.predecessor
	if from == nil || route == "" || !websocket.IsWebSocketUpgrade(request) || !from.Owns(route) {
		return nil
	}
	return from
}

// passOn passes the connection of a request on to the process that has its session.
func (r *Remote) passOn(to Predecessor, w http.ResponseWriter, request *http.Request) {
	conn, buffers, err := http.NewResponseController(w).Hijack()
	if err != nil {
		refuseBusy(w)
		return
	}
	conn = withoutHead(conn, buffers.Reader)
	conn.SetDeadline(time.Time{})
	read := headOf(request)
	early, _ := buffers.Reader.Peek(buffers.Reader.Buffered())
	c := takeover.Conn{Read: append(read, early...)}
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		c.Peer = tcp.AddrPort()
	}
	if stranger := strangerOf(request); stranger != nil {
		c.Client, c.Unknown = stranger.client, stranger.unknown
		stranger.leave()
	}
	if stranger, ok := conn.(*strangerConn); ok {
		if stranger.early != nil {
			early, _ := stranger.early.Peek(stranger.early.Buffered())
			c.Read = append(c.Read, early...)
		}
		conn = stranger.Conn
	}
	if err := to.Pass(conn, c); err != nil {
		r.cfg.Log.Debug().Err(err).Msg("a connection was not passed to the process before")
	}
}

// headOf returns a request that has no body as its client sent it, except for the order of fields.
func headOf(request *http.Request) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", request.Method, request.RequestURI,
		request.Host)
	request.Header.Write(&b)
	b.WriteString("\r\n")
	return b.Bytes()
}

// ServePassed serves a connection that the successor has passed back. It doesn't wait.
func (r *Remote) ServePassed(conn net.Conn, from takeover.Conn) {
	if _, ok := conn.(*net.UnixConn); ok && from.Peer.IsValid() {
		conn = &relayedConn{conn, net.TCPAddrFromAddrPort(from.Peer)}
	}
	c := r.newStranger(conn)
	c.proxied = false
	c.early = bufio.NewReaderSize(bytes.NewReader(from.Read), len(from.Read))
	c.early.Peek(len(from.Read)) // which buffers it all
	c.unknown = from.Unknown
	if from.Client.IsValid() {
		c.client = from.Client
		c.move(r.sourceOf(from.Client.Addr()))
	}
	r.moving.passed.offer(c)
}

// relayedConn is a connection to the successor, which relays what its client sends.
type relayedConn struct {
	net.Conn
	peer net.Addr
}

// RemoteAddr returns the client's address.
func (c *relayedConn) RemoteAddr() net.Addr { return c.peer }

// CloseWrite ends what the client receives.
func (c *relayedConn) CloseWrite() error { return closeWrite(c.Conn) }

// passedListener accepts the connections that the successor passes back.
type passedListener struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

// offer hands over a connection to Accept, or closes it.
func (l *passedListener) offer(conn net.Conn) {
	select {
	case l.conns <- conn:
	case <-l.closed:
		conn.Close()
	}
}

// Accept implements net.Listener.
func (l *passedListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *passedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *passedListener) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }

// awaitPredecessor waits until the process before has ended or ctx is done: its sessions are
// reached through this one.
func (r *Remote) awaitPredecessor(ctx context.Context) {
	r.mu.Lock()
	from := r.moving.predecessor
	r.mu.Unlock()
	if from == nil {
		return
	}
	select {
	case <-from.Done():
	case <-ctx.Done():
	}
}
