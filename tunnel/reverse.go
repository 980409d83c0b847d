package tunnel

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"culvert/tunnel/mux"

	"github.com/rs/zerolog"
)

// RemoteListener is a listener at the remote. It outlives a lost WebSocket together with the session, and when the session is
// replaced it is established anew. It is a net.Listener.
type RemoteListener struct {
	local    *Local
	bind     string // as ListenRemote has it
	log      zerolog.Logger
	ctx      context.Context // ends when it is closed
	cancel   context.CancelFunc
	keeping  sync.WaitGroup
	incoming chan *mux.Stream // connections that wait for Accept

	mu     sync.Mutex // guards all below
	bound  string     // what the remote has bound
	closed bool
}

// reverseID names a listener's stream among those of all sessions of a local.
type reverseID struct {
	session *mux.Session
	stream  uint32
}

// ListenRemote has the remote listen on an address as the remote sees it: host:port, where the host is an address, localhost,
// or empty for all and port 0 takes a free one, or unix:/path. LocalConfig.Reverse must be set. The error is a *mux.OpenError
// when the remote has refused. Once it listens, it is re-established by itself; trouble with that is logged.
func (l *Local) ListenRemote(ctx context.Context, address string) (*RemoteListener, error) {
	bind := address
	if !strings.HasPrefix(address, socketPrefix) {
		bind = tcpPrefix + address
	}
	rl := &RemoteListener{
		local:    l,
		bind:     bind,
		log:      l.cfg.Log.With().Str("bind", address).Logger(),
		incoming: make(chan *mux.Stream, maxWaitingReverse),
	}
	rl.ctx, rl.cancel = context.WithCancel(context.Background())
	control, err := rl.listen(ctx, bind)
	if err != nil {
		rl.cancel()
		return nil, err
	}
	rl.keeping.Go(func() { rl.keep(control) })
	return rl, nil
}

// control is the stream whose life is the listener's at the remote.
type control struct {
	*mux.Stream
	in *bufio.Reader
	id reverseID
}

// listen waits for a session and asks for the listener in it.
func (rl *RemoteListener) listen(ctx context.Context, bind string) (*control, error) {
	for {
		conn, err := rl.local.wait(ctx)
		if err != nil {
			return nil, err
		}
		var c *control
		if err = conn.session.AwaitCarrier(ctx); err == nil {
			c, err = rl.listenIn(ctx, conn.session, bind)
		}
		var lost *mux.SessionError
		if !errors.As(err, &lost) {
			return c, err
		}
	}
}

// listenIn asks for the listener in a session, and tells the remote once it is known here which connections are its.
func (rl *RemoteListener) listenIn(ctx context.Context, session *mux.Session, bind string) (*control, error) {
	ctx, cancel := context.WithTimeout(ctx, listenTimeout)
	defer cancel()
	stream, err := session.Open(ctx, mux.Target{Kind: mux.StreamListen, Address: bind})
	if err != nil {
		return nil, err
	}
	c := &control{stream, bufio.NewReaderSize(stream, maxBoundAddress), reverseID{session, stream.ID()}}
	stop := context.AfterFunc(ctx, func() { stream.Close() })
	line, err := c.in.ReadSlice('\n')
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		stream.Close()
		return nil, err
	}
	bound := strings.TrimSuffix(string(line), "\n")
	rl.mu.Lock()
	rl.bound = bound
	rl.mu.Unlock()
	rl.local.setReverse(c.id, rl)
	if _, err := stream.Write([]byte("\n")); err != nil {
		rl.local.setReverse(c.id, nil)
		stream.Close()
		return nil, err
	}
	rl.log.Info().Str("listen", bound).Msg("listening at the remote")
	return c, nil
}

// keep has the listener established anew whenever it has ended, until it is closed or the local has ended.
func (rl *RemoteListener) keep(c *control) {
	var pause backoff
	for c != nil {
		began := time.Now()
		stop := context.AfterFunc(rl.ctx, func() { c.Close() })
		io.Copy(io.Discard, c.in) // its error only says how the stream ended
		stop()
		c.Close()
		rl.local.setReverse(c.id, nil)
		if rl.ctx.Err() != nil {
			return
		}
		pause.after(time.Since(began), true)
		c = rl.relisten(&pause)
	}
}

// relisten tries until the listener is established anew; it returns nil when it is closed or the local has ended.
func (rl *RemoteListener) relisten(pause *backoff) *control {
	for {
		timer := time.NewTimer(pause.next())
		select {
		case <-timer.C:
		case <-rl.ctx.Done():
			timer.Stop()
			return nil
		}
		c, err := rl.listen(rl.ctx, rl.same())
		if isAddressInUse(err) && rl.same() != rl.bind {
			c, err = rl.listen(rl.ctx, rl.bind)
		}
		switch {
		case err == nil:
			return c
		case rl.ctx.Err() != nil || rl.local.hasEnded():
			return nil
		}
		rl.log.Warn().Err(err).Dur("retry_within", time.Duration(*pause)).Msg("can't listen at the remote")
	}
}

// same is the address to ask for once more: where any port was good enough, the one that it became.
func (rl *RemoteListener) same() string {
	rl.mu.Lock()
	defer rl.mu.Unlock()
	if host, isTCP := strings.CutSuffix(rl.bind, ":0"); isTCP && strings.HasPrefix(rl.bind, tcpPrefix) {
		if _, port, err := net.SplitHostPort(rl.bound); err == nil {
			return host + ":" + port
		}
	}
	return rl.bind
}

func isAddressInUse(err error) bool {
	var refused *mux.OpenError
	return errors.As(err, &refused) && refused.Code == mux.CodeAddressInUse
}

// Accept waits for the next connection.
func (rl *RemoteListener) Accept() (net.Conn, error) {
	for {
		stream, err := rl.next()
		if err != nil {
			return nil, err
		}
		if err := stream.Confirm(); err == nil { // else the peer has gone already
			return &reverseConn{Stream: stream}, nil
		}
	}
}

// next waits for the next connection, which is still to be answered.
func (rl *RemoteListener) next() (*mux.Stream, error) {
	select {
	case stream := <-rl.incoming:
		return stream, nil
	case <-rl.ctx.Done():
		return nil, net.ErrClosed
	}
}

// offer hands a new connection to Accept, or refuses it.
func (rl *RemoteListener) offer(stream *mux.Stream) {
	rl.mu.Lock()
	defer rl.mu.Unlock()
	if rl.closed {
		stream.Refuse(mux.CodeRefused, "")
		return
	}
	select {
	case rl.incoming <- stream:
	default:
		stream.Refuse(mux.CodeTooManyStreams, "")
	}
}

// Close has the remote close the listener, and refuses what was not accepted. Connections that were are left alone.
func (rl *RemoteListener) Close() error {
	rl.cancel()
	rl.mu.Lock()
	rl.closed = true
	rl.mu.Unlock()
	rl.keeping.Wait()
	for {
		select {
		case stream := <-rl.incoming:
			stream.Refuse(mux.CodeRefused, "")
		default:
			return nil
		}
	}
}

// Addr returns what the remote has bound, host:port or unix:/path.
func (rl *RemoteListener) Addr() net.Addr {
	rl.mu.Lock()
	defer rl.mu.Unlock()
	return mux.Addr{Name: rl.bound}
}

// ServeReverse joins each connection that the remote accepts to target, a host:port as this side sees it or unix:/path. When
// ctx is done it closes ln, and returns once the connections have ended, which they do with the session at the latest.
func (l *Local) ServeReverse(ctx context.Context, ln *RemoteListener, target string) {
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	var conns sync.WaitGroup
	defer conns.Wait()
	defer ln.Close()
	for {
		stream, err := ln.next()
		if err != nil {
			return
		}
		conns.Go(func() { serveReverse(ctx, stream, target, ln.log) }) // the session bounds its streams
	}
}

// serveReverse reaches the target and joins the two.
func serveReverse(ctx context.Context, stream *mux.Stream, target string, log zerolog.Logger) {
	log = log.With().Str("target", target).Logger()
	conn, err := dialWhileWanted(ctx, stream, func(ctx context.Context) (net.Conn, error) { return dialHere(ctx, target) })
	if err != nil {
		log.Warn().Err(err).Msg("reverse forward: target not reached")
		stream.Refuse(dialCode(err), "")
		return
	}
	if err := stream.Confirm(); err != nil {
		abort(conn)
		return
	}
	err = relay(context.Background(), stream, conn)
	log.Debug().Err(err).Msg("reverse forward: connection ended")
}

// dialHere reaches a target from this side.
func dialHere(ctx context.Context, target string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var dialer net.Dialer
	if to := streamTarget(target); to.Kind == mux.StreamUnix {
		return dialer.DialContext(ctx, "unix", to.Address)
	}
	return dialer.DialContext(ctx, "tcp", target)
}

// setReverse makes a session's stream that of a listener, or of none.
func (l *Local) setReverse(id reverseID, rl *RemoteListener) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if rl == nil {
		delete(l.reverse, id)
		return
	}
	l.reverse[id] = rl
}

// hasEnded says that there will be no session any more.
func (l *Local) hasEnded() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err != nil
}

// acceptReverse takes up the streams that the remote opens, until the session ends. Those of no listener are refused.
func (l *Local) acceptReverse(session *mux.Session) {
	for {
		stream, err := session.Accept(context.Background())
		if err != nil {
			return
		}
		target := stream.Target()
		id, _, _ := strings.Cut(target.Address, " ")
		n, err := strconv.ParseUint(id, 10, 32)
		l.mu.Lock()
		rl := l.reverse[reverseID{session, uint32(n)}]
		l.mu.Unlock()
		if target.Kind != mux.StreamReverse || err != nil || rl == nil {
			stream.Refuse(mux.CodeNotAllowed, "")
			continue
		}
		rl.offer(stream)
	}
}

// reverseConn is a connection that the remote has accepted, as one of package net: its Close is a reset after SetLinger(0).
type reverseConn struct {
	*mux.Stream
	mu    sync.Mutex
	abort bool
}

// SetLinger is that of a *net.TCPConn, as far as 0 goes.
func (c *reverseConn) SetLinger(seconds int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.abort = seconds == 0
	return nil
}

// Close ends the stream, cut short after SetLinger(0).
func (c *reverseConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.abort {
		c.Reset(mux.CodeAborted)
		return nil
	}
	return c.Stream.Close()
}

// RemoteAddr returns the address of the connection's peer, as the remote has told it.
func (c *reverseConn) RemoteAddr() net.Addr {
	_, peer, _ := strings.Cut(c.Target().Address, " ")
	return mux.Addr{ID: c.ID(), Name: peer}
}
