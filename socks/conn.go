package socks

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// clientConn is an accepted connection. Its goroutine, serveConn, owns it; only
// cancel and relaying are touched from outside.
type clientConn struct {
	net.Conn

	// cancel ends the connection's context: at once in a negotiation, through
	// the Relay afterwards.
	cancel context.CancelFunc

	// relaying is set when the target is reached. The server's mu guards it.
	relaying bool

	// in buffers what the client sends until the relay begins; then it is nil,
	// so that an idle connection holds no buffer. All reading goes through it.
	in *bufio.Reader
}

func newClientConn(conn net.Conn, cancel context.CancelFunc) *clientConn {
	return &clientConn{Conn: conn, cancel: cancel, in: bufio.NewReaderSize(conn, readBufferSize)}
}

// refusal is the error of a negotiation or dial that the client is told about.
type refusal struct {
	message []byte // the last words to the client; empty when they are written already
	err     error  // the reason, for the log
}

func (r *refusal) Error() string { return r.err.Error() }

var (
	errUnknownProtocol = errors.New("first byte of no protocol spoken here")
	errClientGone      = errors.New("client left while its target was dialed")
)

// serveConn runs a connection through all its steps. Whatever happens, it is
// closed in the end.
func (s *Server) serveConn(ctx context.Context, c *clientConn) {
	defer c.Close()
	stopReset := context.AfterFunc(ctx, c.reset)
	defer stopReset()

	began := time.Now()
	address, target, err := s.open(ctx, c)
	if err == nil {
		defer target.Close()
		// From here on the end of ctx is the Relay's affair.
		if stopReset() {
			err = s.relay(ctx, c, target)
		} else {
			err = errDraining
		}
	} else if r, ok := errors.AsType[*refusal](err); ok {
		c.refuse(r.message)
	}
	s.cfg.Log.Debug().Err(err).Stringer("client", c.RemoteAddr()).Str("target", address).
		Dur("duration", time.Since(began)).Msg("socks: connection closed")
}

// open negotiates, dials, and tells the client of success. The address is for
// the log and empty if it is not known.
func (s *Server) open(ctx context.Context, c *clientConn) (address string, target net.Conn, err error) {
	c.SetDeadline(time.Now().Add(s.cfg.NegotiationTimeout))
	first, err := c.in.Peek(1)
	if err != nil {
		return "", nil, err
	}
	p := s.protocolFor(first[0])
	if p == nil {
		return "", nil, errUnknownProtocol
	}
	if address, err = p.negotiate(c); err != nil {
		return "", nil, err
	}
	c.SetDeadline(time.Time{})
	if target, err = s.dial(ctx, c, address, p); err != nil {
		return address, nil, err
	}
	// The connection counts as relaying before the client learns of success, so
	// that Shutdown never takes back what was just promised.
	if !s.beginRelay(c) {
		target.Close()
		return address, nil, errDraining
	}
	c.SetWriteDeadline(time.Now().Add(s.cfg.NegotiationTimeout))
	if _, err = c.Write(p.reply(ReplySucceeded)); err != nil {
		target.Close()
		return address, nil, err
	}
	c.SetWriteDeadline(time.Time{})
	return address, target, nil
}

// dial opens the connection to address while it watches the client. A failure is
// a refusal, unless nobody is there to be told.
func (s *Server) dial(ctx context.Context, c *clientConn, address string, p protocol) (net.Conn, error) {
	dialCtx, cancel := context.WithTimeout(ctx, s.cfg.DialTimeout)
	defer cancel()
	watch := watchClient(c, cancel)
	target, err := s.cfg.Dial(dialCtx, "tcp", address)
	gone := watch.stop()
	if ctx.Err() != nil {
		gone = errDraining
	} else if gone != nil {
		gone = fmt.Errorf("%w: %w", errClientGone, gone)
	}
	switch {
	case gone == nil && err == nil:
		return target, nil
	case gone == nil:
		return nil, &refusal{p.reply(s.classify(err)), err}
	case err == nil:
		target.Close()
	}
	return nil, gone
}

// classify is Config.Classify, held to codes that are failures.
func (s *Server) classify(err error) Reply {
	if r := s.cfg.Classify(err); r > ReplySucceeded && r <= ReplyAddressTypeNotSupported {
		return r
	}
	return ReplyGeneralFailure
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

// reset closes the connection so that the client sees an error rather than an
// end of file, where the kind of connection can do that.
func (c *clientConn) reset() {
	if l, ok := c.Conn.(lingerer); ok {
		l.SetLinger(0)
	}
	c.Close()
}

// release gives up the read buffer and returns the connection to relay from.
func (c *clientConn) release() net.Conn {
	early, _ := c.in.Peek(c.in.Buffered())
	c.in = nil
	if len(early) == 0 {
		return c.Conn
	}
	conn := &earlyConn{Conn: c.Conn, early: bytes.Clone(early)}
	if w, ok := c.Conn.(closeWriter); ok {
		return earlyHalfConn{conn, w}
	}
	return conn
}

// refuse says the last words and waits, within bounds, for the client to close,
// so that unread input does not turn the close into a reset that overtakes them.
func (c *clientConn) refuse(message []byte) {
	c.SetDeadline(time.Now().Add(lingerTimeout))
	if len(message) > 0 {
		if _, err := c.Write(message); err != nil {
			return
		}
	}
	// Without CloseWrite only the close itself tells the client to go.
	if w, ok := c.Conn.(closeWriter); ok && w.CloseWrite() == nil {
		io.CopyN(io.Discard, c.in, lingerBytes)
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

// earlyConn is a client connection that sent data ahead of the reply. It embeds
// the interface, not the accepted type, so that nothing reads past the early
// data through another method such as WriteTo.
type earlyConn struct {
	net.Conn
	early []byte
}

// Read yields the early data first.
func (c *earlyConn) Read(p []byte) (int, error) {
	if len(c.early) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.early)
	if c.early = c.early[n:]; len(c.early) == 0 {
		c.early = nil
	}
	return n, nil
}

// SetLinger is that of the accepted connection. One that can't be reset, such as
// a Unix socket, ignores it.
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
