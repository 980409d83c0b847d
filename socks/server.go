package socks

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"culvert/internal/bounds"
	"culvert/internal/logburst"
	"culvert/internal/netfault"

	"github.com/rs/zerolog"
)

// protocol is a version of SOCKS, with one request, and so one target, per connection. HTTP, with
// several, is httpConn.
type protocol interface {
	// negotiate consumes everything up to and including the client's request and returns the target
	// as "host:port", or for UDP ASSOCIATE sets clientConn.udp. It is called with the first byte
	// peeked but not consumed, under the connection's negotiation deadline. A *refusal error holds
	// a message for the client; after any other the connection is closed without a reply.
	negotiate(c *clientConn) (address string, err error)

	// reply encodes the answer to the client's request.
	reply(r Reply) []byte
}

// Server serves clients on any number of listeners. Its methods may be called
// concurrently.
type Server struct {
	cfg    Config
	asked  *credentials // nil if clients need no authentication
	socks5 *socks5Protocol
	socks4 *socks4Protocol

	// closing is closed when Shutdown begins.
	closing chan struct{}

	// full gets an event a minute while there are too many connections.
	full zerolog.Logger

	// drops counts the datagrams of associations that were not passed on.
	drops drops

	// listenUDP opens the socket of an association; tests replace it.
	listenUDP func(netip.Addr) (packetConn, error)

	// serving counts the running calls of Serve, each of which waits for its own connections.
	serving sync.WaitGroup

	mu           sync.Mutex                          // guards all below, and clientConn.relaying
	draining     bool                                // closing is closed
	listeners    map[net.Listener]context.CancelFunc // which end their Serve
	conns        map[*clientConn]struct{}
	associations int
}

// New returns a server. It starts nothing.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	asked := newCredentials(cfg.Username, cfg.Password)
	s := &Server{
		cfg:       cfg,
		asked:     asked,
		socks5:    newSOCKS5(asked, cfg.Associate != nil),
		socks4:    &socks4Protocol{refuseAll: asked != nil},
		closing:   make(chan struct{}),
		full:      cfg.Log.Sample(logburst.New(1, time.Minute)),
		drops:     newDrops(cfg.Log),
		listenUDP: listenUDP,
		listeners: make(map[net.Listener]context.CancelFunc),
		conns:     make(map[*clientConn]struct{}),
	}
	// Only digests of the credentials are kept.
	s.cfg.Username, s.cfg.Password = "", ""
	return s, nil
}

// socksFor returns the version of SOCKS for the first byte that a client sends, or nil if there is
// none.
func (s *Server) socksFor(first byte) protocol {
	switch first {
	case socks5Version:
		return s.socks5
	case socks4Version:
		return s.socks4
	}
	return nil
}

// Serve accepts and serves clients on ln, which it takes over and closes. It stops when ctx ends,
// which ends all connections, relays included (their context ends too), when Shutdown is called, or
// when ln fails permanently, and returns when its last connection has ended. Only the failure of ln
// is an error.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ln = netfault.NewListener(ln, netfault.LogPauses(*s.cfg.Log))
	defer ln.Close()
	if !s.addListener(ln, cancel) {
		return nil
	}
	defer s.removeListener(ln)
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()

	var conns sync.WaitGroup
	err := s.acceptLoop(ctx, ln, &conns)
	if err != nil {
		cancel()
	}
	conns.Wait()
	return err
}

// Shutdown stops accepting, closes the connections that are not relaying yet, and waits for the
// relays to end by themselves. If ctx ends first, Shutdown ends them and returns ctx's error. In
// both cases, when Shutdown returns, every connection has ended and every Serve is about to return.
// The server can't be used again.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if !s.draining {
		s.draining = true
		close(s.closing)
	}
	for ln := range s.listeners {
		ln.Close()
	}
	for c := range s.conns {
		if !c.relaying {
			c.cancel()
		}
	}
	s.mu.Unlock()

	drained := make(chan struct{})
	go func() {
		s.serving.Wait()
		close(drained)
	}()
	select {
	case <-drained:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	for _, cancel := range s.listeners {
		cancel()
	}
	s.mu.Unlock()
	<-drained
	return ctx.Err()
}

// acceptLoop starts a goroutine, counted in conns, for each connection of ln. It
// returns nil when ctx ended or Shutdown began.
func (s *Server) acceptLoop(ctx context.Context, ln net.Listener, conns *sync.WaitGroup) error {
	for {
		conn, err := ln.Accept()
		switch {
		case err == nil:
			s.start(ctx, conn, conns)
		case s.stopping(ctx):
			return nil
		default:
			return fmt.Errorf("socks: accept: %w", err)
		}
	}
}

// start serves conn in a new goroutine, or closes it if there are too many.
func (s *Server) start(ctx context.Context, conn net.Conn, conns *sync.WaitGroup) {
	opening, cancel := context.WithCancel(ctx)
	c := newClientConn(conn, cancel)
	if err := s.addConn(c); err != nil {
		cancel()
		defer conn.Close() // then who sees it closed finds it counted
		if errors.Is(err, errTooManyConns) {
			s.cfg.Bounds.Refused(bounds.ProxyConns)
			s.full.Warn().Int("connections", s.cfg.MaxConns).
				Msg("the proxy port has too many connections: others are closed")
		}
		s.cfg.Log.Debug().Err(err).Stringer("client",
			conn.RemoteAddr()).Msg("socks: connection closed")
		return
	}
	conns.Go(func() {
		defer s.removeConn(c)
		s.serveConn(ctx, opening, c)
	})
}

// stopping reports whether the server was told to stop.
func (s *Server) stopping(ctx context.Context) bool {
	select {
	case <-s.closing:
		return true
	case <-ctx.Done():
		return true
	default:
		return false
	}
}

var (
	errDraining     = errors.New("server is shutting down")
	errTooManyConns = errors.New("too many connections")
)

// addListener registers a running Serve, and how to end it. It returns false once Shutdown has
// begun.
func (s *Server) addListener(ln net.Listener, end context.CancelFunc) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return false
	}
	s.serving.Add(1)
	s.listeners[ln] = end
	return true
}

func (s *Server) removeListener(ln net.Listener) {
	s.mu.Lock()
	delete(s.listeners, ln)
	s.mu.Unlock()
	s.serving.Done()
}

// addConn registers c within MaxConns.
func (s *Server) addConn(c *clientConn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return errDraining
	}
	if len(s.conns) >= s.cfg.MaxConns {
		return errTooManyConns
	}
	s.conns[c] = struct{}{}
	return nil
}

// IsFull reports whether there are as many connections as there may be, so that others are closed.
func (s *Server) IsFull() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns) >= s.cfg.MaxConns
}

// removeConn removes c and releases its context.
func (s *Server) removeConn(c *clientConn) {
	c.cancel()
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
}

// beginRelay marks c as relaying, so that Shutdown waits for it. It returns false once Shutdown has
// begun.
func (s *Server) beginRelay(c *clientConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.relaying = !s.draining
	return c.relaying
}

// endRelay marks c as waiting for another request, so that Shutdown ends it. It returns false once
// Shutdown has begun.
func (s *Server) endRelay(c *clientConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.relaying = false
	return !s.draining
}
