package socks

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"culvert/internal/bounds"
	"culvert/internal/clientwatch"
)

// clientConn is an accepted connection. Its goroutine, serveConn, owns it; only cancel, relaying
// and answered are used by other goroutines.
type clientConn struct {
	net.Conn

	// cancel ends the connection's context, and so the connection, until a Relay has it.
	cancel context.CancelFunc

	// stopReset keeps the end of the context from ending the connection. It returns false if that
	// has happened already.
	stopReset func() bool

	// relaying is set once the target is reached. The server's mu guards it.
	relaying bool

	// answered is set while the client has got all that it is to get. The end of the context then
	// doesn't reset the connection: the system may still have the end of that to send.
	answered atomic.Bool

	// udp is set by a negotiation that ended with UDP ASSOCIATE.
	udp *udpRequest

	// in buffers what the client sends until the relay begins; then it is nil, so that an idle
	// connection holds no buffer. All reads go through it, and so through Read.
	in *bufio.Reader

	// failure is the first error of a read or write that means that the client has failed, such as
	// a reset; nil before. The system reports a reset to one call: later reads would end with an
	// end of file.
	failure atomic.Pointer[error]
}

func newClientConn(conn net.Conn, cancel context.CancelFunc) *clientConn {
	c := &clientConn{Conn: conn, cancel: cancel, in: readers.Get().(*bufio.Reader)}
	c.in.Reset(c)
	return c
}

// Read reads from the client. After what a client has sent before it failed comes the failure.
func (c *clientConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if failure := c.failure.Load(); failure != nil && errors.Is(err, io.EOF) {
		return n, *failure
	}
	c.note(err)
	return n, err
}

// Write writes to the client.
func (c *clientConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.note(err)
	return n, err
}

// note keeps the error of a call if it means that the client has failed.
func (c *clientConn) note(err error) {
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.failure.CompareAndSwap(nil, &err)
	}
}

// readers recycles the buffers of connections whose relay has begun.
var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readBufferSize) }}

// refusal is the error of a connection that ends with a message to its client.
type refusal struct {
	message []byte // the last message to the client; empty if already written
	err     error  // the reason, for the log
}

func (r *refusal) Error() string { return r.err.Error() }

// Unwrap returns why.
func (r *refusal) Unwrap() error { return r.err }

var (
	errUnknownProtocol = errors.New("first byte of no protocol spoken here")
	errClientGone      = errors.New("client left while its target was dialed")
)

// serveConn runs a connection through all its steps, and closes it. The second context is the
// connection's own. It is released before the relay, which has that of Serve: with one of its own,
// each would take half a kilobyte more for as long as it lasts.
func (s *Server) serveConn(ctx, opening context.Context, c *clientConn) {
	defer c.Close()
	began := time.Now()
	address, target, err := s.openGuarded(opening, c)
	if target != nil {
		defer target.Close()
		err = s.relay(ctx, c, target)
	}
	s.cfg.Bounds.Note(err)
	s.cfg.Log.Debug().Err(err).Stringer("client", c.RemoteAddr()).Str("target", address).
		Dur("duration", time.Since(began)).Msg("socks: connection closed")
}

// openGuarded is open for a client whose connection ends with ctx, and that gets the message of a
// refusal. When it returns a target, it has released ctx.
func (s *Server) openGuarded(
	ctx context.Context, c *clientConn,
) (address string, target net.Conn, err error) {
	c.stopReset = context.AfterFunc(ctx, c.abandon)
	defer func() {
		c.stopReset()
		c.stopReset = nil
	}()
	address, target, err = s.open(ctx, c)
	if target != nil {
		if !c.stopReset() {
			target.Close()
			return address, nil, errDraining
		}
		c.cancel()
		return address, target, nil
	}
	if r, ok := errors.AsType[*refusal](err); ok {
		c.hangUp(r.message)
	} else if address == "" && errors.Is(err, os.ErrDeadlineExceeded) {
		s.cfg.Bounds.Refused(bounds.Negotiation)
	}
	return address, nil, err
}

// open serves the client up to where there is a target to relay to, and has told the client so. The
// target is nil when there is nothing to relay, because of err or because HTTP's requests are all
// answered or the association has ended. The address is for the log and empty if it is not known.
func (s *Server) open(
	ctx context.Context, c *clientConn,
) (address string, target net.Conn, err error) {
	c.SetDeadline(time.Now().Add(s.cfg.NegotiationTimeout))
	first, err := c.in.Peek(1)
	if err != nil {
		return "", nil, err
	}
	if p := s.socksFor(first[0]); p != nil {
		return s.openSOCKS(ctx, c, p)
	}
	if beginsHTTP(first[0]) {
		h := newHTTPConn(s, c)
		defer h.close()
		return h.serve(ctx)
	}
	return "", nil, errUnknownProtocol
}

func (s *Server) openSOCKS(
	ctx context.Context, c *clientConn, p protocol,
) (address string, target net.Conn, err error) {
	if address, err = p.negotiate(c); err != nil {
		return "", nil, err
	}
	c.SetDeadline(time.Time{})
	if c.udp != nil {
		return address, nil, s.associate(ctx, c)
	}
	target, err = s.dialWatched(ctx, c, address)
	if failed, ok := errors.AsType[*dialError](err); ok {
		return address, nil, &refusal{p.reply(failed.reply), failed.err}
	}
	if err != nil {
		return address, nil, err
	}
	if err := s.promise(c, target, p.reply(ReplySucceeded)); err != nil {
		return address, nil, err
	}
	return address, target, nil
}

// promise sends the client the reply that its target is reached. It closes the target on error. A
// client that has failed is no error: what it has sent is still to go to its target, and then the
// failure.
func (s *Server) promise(c *clientConn, target net.Conn, message []byte) error {
	// The connection counts as relaying before the client gets the reply, so that Shutdown never
	// breaks a promise just made.
	if !s.beginRelay(c) {
		target.Close()
		return errDraining
	}
	c.SetWriteDeadline(time.Now().Add(s.cfg.NegotiationTimeout))
	if _, err := c.Write(message); errors.Is(err, os.ErrDeadlineExceeded) {
		target.Close()
		return err
	}
	c.SetWriteDeadline(time.Time{})
	return nil
}

// dialError is a failed dial whose reply goes to the client.
type dialError struct {
	reply Reply // a failure
	err   error
}

func (e *dialError) Error() string { return e.err.Error() }

// Unwrap returns the Dialer's error.
func (e *dialError) Unwrap() error { return e.err }

func (s *Server) newDialError(err error) *dialError {
	return &dialError{s.cfg.Classify(err).failure(), err}
}

// reach opens the connection to address before ctx ends. An error is a *dialError.
func (s *Server) reach(ctx context.Context, address string) (net.Conn, error) {
	target, err := s.cfg.Dial(ctx, "tcp", address)
	if err != nil {
		return nil, s.newDialError(err)
	}
	return target, nil
}

// dialWatched is reach with a watch on the client. If the client is gone and has sent nothing, the
// error is not a *dialError.
func (s *Server) dialWatched(
	ctx context.Context, c *clientConn, address string,
) (target net.Conn, err error) {
	err = s.watched(ctx, c, func(ctx context.Context) error {
		target, err = s.reach(ctx, address)
		return err
	})
	if err != nil && target != nil {
		target.Close()
		target = nil
	}
	return target, err
}

// watched calls open with a watch on the client. Its context ends after Config.DialTimeout, and
// when the client is gone and has sent nothing. Then, or if the server stops, the error is not that
// of open.
func (s *Server) watched(
	ctx context.Context, c *clientConn, open func(context.Context) error,
) error {
	_, err := s.watchedClient(ctx, c, 0, open)
	return err
}

// watchedClient is watched for clients that may wait for closedWait after they have closed their
// half (see clientwatch.Policy). It reports whether the client has done that and sent nothing.
func (s *Server) watchedClient(
	ctx context.Context, c *clientConn, closedWait time.Duration, open func(context.Context) error,
) (halfClosed bool, err error) {
	openCtx, cancel := context.WithTimeout(ctx, s.cfg.DialTimeout)
	defer cancel()
	openCtx, giveUp := context.WithCancelCause(openCtx)
	defer giveUp(nil)
	policy := clientwatch.Policy{Delay: watchDelay, ClosedWait: closedWait}
	watch := clientwatch.Start(c.Conn, c.in, policy, func(err error) {
		giveUp(fmt.Errorf("%w: %w", errClientGone, err))
	})
	err = open(openCtx)
	end := watch.Stop()
	if err != nil && errors.Is(openCtx.Err(), context.DeadlineExceeded) {
		s.cfg.Bounds.Refused(bounds.ProxyDial)
	}
	switch gone := context.Cause(openCtx); {
	case ctx.Err() != nil:
		return false, errDraining
	case errors.Is(gone, errClientGone):
		return false, gone
	}
	return errors.Is(end, io.EOF) && c.in.Buffered() == 0, err
}

// relay hands both connections to Config.Relay. After an error the client is
// closed with a reset.
func (s *Server) relay(ctx context.Context, c *clientConn, target net.Conn) error {
	err := s.cfg.Relay(ctx, c.release(), target)
	if err != nil {
		c.reset()
	}
	return err
}

// reset closes the connection so that the client sees an error rather than an end of file, if the
// type of connection supports that.
func (c *clientConn) reset() {
	if l, ok := c.Conn.(lingerer); ok {
		l.SetLinger(0)
	}
	c.Close()
}

// abandon ends the connection of a client that is not served any more: with a reset if it waits for
// something.
func (c *clientConn) abandon() {
	if c.answered.Load() {
		c.Close()
		return
	}
	c.reset()
}

// release releases the read buffer and returns the connection to relay from.
func (c *clientConn) release() net.Conn {
	early, _ := c.in.Peek(c.in.Buffered())
	early = bytes.Clone(early)
	putReader(c.in)
	c.in = nil
	if len(early) == 0 && c.failure.Load() == nil {
		return c.Conn
	}
	conn := &earlyConn{Conn: c.Conn, client: c, early: early}
	if w, ok := c.Conn.(closeWriter); ok {
		return earlyHalfConn{conn, w}
	}
	return conn
}

// hangUp writes the last message, if any, and waits, within bounds, for the client to close, so
// that unread input does not turn the close into a reset that overtakes the message.
func (c *clientConn) hangUp(message []byte) {
	c.linger(message, lingerTimeout, lingerTimeout, lingerBytes)
}

// linger is hangUp with the caller's bounds: on the client's silence, the whole time, and the bytes
// that are read.
func (c *clientConn) linger(message []byte, idle, total time.Duration, most int64) {
	c.SetDeadline(time.Now().Add(idle))
	if len(message) > 0 {
		if _, err := c.Write(message); err != nil {
			return
		}
	}
	c.answered.Store(true)
	// Without CloseWrite only the close itself signals the end to the client.
	if w, ok := c.Conn.(closeWriter); !ok || w.CloseWrite() != nil {
		return
	}
	end := time.Now().Add(total)
	for n := int64(0); n < most; {
		deadline := time.Now().Add(idle)
		if end.Before(deadline) {
			deadline = end
		}
		c.SetReadDeadline(deadline)
		if _, err := c.in.Peek(1); err != nil {
			return
		}
		discarded, _ := c.in.Discard(c.in.Buffered())
		n += int64(discarded)
	}
}

// closeWriter is a connection that can be half-closed.
type closeWriter interface {
	CloseWrite() error
}

// lingerer is a connection whose Close can be made a reset.
type lingerer interface {
	SetLinger(seconds int) error
}

// earlyConn is a client connection that sent data ahead of the reply, or has failed. It embeds
// the interface, not the accepted type, so that nothing reads past the early data through another
// method such as WriteTo.
type earlyConn struct {
	net.Conn
	client *clientConn
	early  []byte
}

// Read yields the early data first, and the failure last.
func (c *earlyConn) Read(p []byte) (int, error) {
	if len(c.early) == 0 {
		return c.client.Read(p)
	}
	n := copy(p, c.early)
	if c.early = c.early[n:]; len(c.early) == 0 {
		c.early = nil
	}
	return n, nil
}

// Early returns what the client has sent, and Read no longer yields it.
func (c *earlyConn) Early() []byte {
	early := c.early
	c.early = nil
	return early
}

// NetConn returns the accepted connection.
func (c *earlyConn) NetConn() net.Conn { return c.Conn }

// SetLinger is that of the accepted connection. A connection that can't be reset, such as a Unix
// socket, ignores it.
func (c *earlyConn) SetLinger(seconds int) error {
	if l, ok := c.Conn.(lingerer); ok {
		return l.SetLinger(seconds)
	}
	return nil
}

// earlyHalfConn is an earlyConn over a connection that can be half-closed.
type earlyHalfConn struct {
	*earlyConn
	closeWriter
}
