package protocol

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"culvert/internal/bounds"

	"github.com/gorilla/websocket"
)

// Conn is the secure context: sealed records over a WebSocket whose handshake is done.
//
// One goroutine may call ReadRecord and another WriteRecords at the same time; the other methods
// may be called concurrently. A record that does not open, a text message, a passed deadline or a
// broken transport ends the connection: the socket is closed, and every later call returns the
// first reason.
type Conn struct {
	wire   *wire
	state  State
	sealer sealer // used by the writer only
	opener opener // used by the reader only

	exporter *[keySize]byte // nil without forward secrecy; never changes

	maxMessage int // of a payload, in bytes
	overhead   int // of a record, in bytes

	sendBuffer sendBuffer // of the socket

	// mayWrite is false on a server until it has opened a record. The reference's client drops
	// whatever arrives within about 20 ms after its ClientReady, and one dropped record
	// desynchronises the counters for good.
	mayWrite atomic.Bool
}

// State describes a connection. It does not change.
type State struct {
	Version int
	// Suite names the record cipher: "xsalsa20-poly1305", or the extension's "aes-256-gcm" or
	// "chacha20-poly1305".
	Suite string
	// ForwardSecrecy reports whether recorded traffic stays secret when both long-term keys become
	// known.
	ForwardSecrecy bool
	Peer           Peer
}

// newConn starts the secure context. isClient reports whether this end may write first.
func newConn(w *wire, o outcome, maxMessage int, isClient bool) *Conn {
	c := &Conn{
		wire: w,
		state: State{
			Version:        o.who.Version,
			Suite:          o.suite,
			ForwardSecrecy: o.exporter != nil,
			Peer:           o.who,
		},
		sealer:     o.sealer,
		opener:     o.opener,
		exporter:   o.exporter,
		maxMessage: maxMessage,
		overhead:   o.overhead,
	}
	c.mayWrite.Store(isClient)
	if isClient {
		w.exporter = o.exporter
	}
	w.limitMessages(maxMessage + o.overhead)
	w.frames.parts = nil // the handshake's messages may have been larger than any record
	return c
}

// Export derives n bytes that only the two ends of this connection know, for use outside of its
// records: for example, to prove later that one was an end of it. Different labels and contexts
// give independent results; both ends get the same. Without forward secrecy it returns
// ErrNoExporter.
func (c *Conn) Export(label string, context []byte, n int) ([]byte, error) {
	if c.exporter == nil {
		return nil, ErrNoExporter
	}
	return export(*c.exporter, label, context, n)
}

// LastRead returns when bytes last arrived, including those of an incomplete record. WebSocket
// pings and pongs don't count: a proxy may send its own. Setting the machine's clock has no effect
// on how it compares with the present time.
func (c *Conn) LastRead() time.Time {
	last := c.wire.began.Add(time.Duration(c.wire.lastRead.Load()))
	_, isTLS := c.wire.conn.(*tls.Conn) // which reads parts of its own records, and doesn't tell
	if isTLS || c.wire.marks.marked() { // what has arrived since then may not have been read
		if arrived := c.lastArrival(); arrived.After(last) && arrived.After(c.lastControl()) {
			return arrived
		}
	}
	return last
}

// lastControl returns until when what has arrived may have been a control frame.
func (c *Conn) lastControl() time.Time {
	read := c.wire.lastControl.Load()
	if read == 0 {
		return time.Time{}
	}
	return c.wire.began.Add(time.Duration(read) + arrivalResolution)
}

// NetConn returns the connection that carries the WebSocket, for what its socket knows.
func (c *Conn) NetConn() net.Conn { return c.wire.conn }

// State returns what the handshake agreed on.
func (c *Conn) State() State { return c.state }

// ReadRecord returns the payload of the next record, which may be empty. It uses buf's array if
// that is large enough, otherwise a new one; either way the caller owns it.
//
// It blocks until a record has arrived, the read deadline passes, or the connection ends.
//
// The error is a *RefusedError or *PeerClosedError if the peer closed properly, and wraps
// io.ErrUnexpectedEOF if the connection just ended, ErrTimeout after a deadline, and ErrClosed if
// this end closed.
func (c *Conn) ReadRecord(buf []byte) ([]byte, error) {
	var payload []byte
	err := c.wire.readMessage(websocket.BinaryMessage, func(record []byte) (err error) {
		payload, err = c.opener.open(buf[:0], record)
		return err
	})
	if err != nil {
		return nil, c.readFailed(err)
	}
	if payload == nil {
		payload = []byte{} // an empty record is not a missing one
	}
	if !c.mayWrite.Load() {
		c.mayWrite.Store(true)
	}
	return payload, nil
}

// AwaitRecord waits until some of the next record has arrived, or ReadRecord fails, so that its
// caller needs no buffer while nothing comes. It calls idle before it waits, and belongs to the
// goroutine that calls ReadRecord.
func (c *Conn) AwaitRecord(idle func()) { c.wire.awaitMessage(idle) }

// readFailed ends the connection and returns the reason. A peer that is at fault gets a close code.
func (c *Conn) readFailed(err error) error {
	code := faultCode(err)
	if code == 0 {
		return c.wire.readFailed(err)
	}
	if errors.Is(err, ErrTooLarge) {
		err = &bounds.Error{Bound: bounds.Message, Err: err}
	}
	c.wire.close(int(code), code.String(), fmt.Errorf("protocol: record: %w", err))
	return c.wire.err()
}

// faultCode returns the close code for err, or 0 if err is the transport's.
func faultCode(err error) CloseCode {
	switch {
	case errors.Is(err, ErrBadMessage):
		return CloseBadMessage
	case errors.Is(err, ErrTooLarge):
		return CloseTooLarge
	case errors.Is(err, ErrNotOpened):
		return CloseNotOpened
	case errors.Is(err, ErrCounterExhausted):
		return CloseInternal
	default:
		return 0
	}
}

// WriteRecords seals each payload as one record and sends it as one WebSocket message, which is one
// frame. Records that fit into the buffer together are written with one system call. It blocks
// until the network has taken the records, the write deadline passes, or the connection ends. It
// does not retain the payloads.
//
// On a server it returns ErrServerSpeaksSecond, and does nothing, before a record has been read. If
// a payload exceeds MaxMessage it returns ErrTooLarge, and nothing is sent.
func (c *Conn) WriteRecords(payloads ...[]byte) error {
	if !c.mayWrite.Load() {
		if err := c.wire.err(); err != nil {
			return err
		}
		return ErrServerSpeaksSecond
	}
	for _, p := range payloads {
		if len(p) > c.maxMessage {
			return fmt.Errorf("protocol: write: %w: %d bytes", ErrTooLarge, len(p))
		}
	}
	batch := batches.Get().(*[batchSize]byte)
	defer batches.Put(batch)
	frames := batch[:0]
	for _, p := range payloads {
		if len(frames)+maxFrameHeader+len(p)+c.overhead > batchSize && len(frames) > 0 {
			if err := c.wire.writeFrames(frames); err != nil {
				return err
			}
			frames = batch[:0]
		}
		var err error
		if frames, err = c.appendRecord(frames, p); err != nil {
			c.wire.close(int(CloseInternal), CloseInternal.String(),
				fmt.Errorf("protocol: write: %w", err))
			return c.wire.err()
		}
	}
	return c.wire.writeFrames(frames)
}

// appendRecord appends a frame with a record.
//
// A client's frame has a mask key of zeros, which changes nothing and costs nothing at either end.
// RFC 6455, section 5.3, requires an unpredictable key, so this departs from its letter. Section
// 10.3 gives the purpose: a web page must not choose the bytes that a proxy sees, since a proxy may
// take them for HTTP and cache a forged response. The bytes of a record are ciphertext under a key
// that the author of the data does not know, so nobody can choose them, masked or not. A mask would
// only protect, in the absence of TLS, from a server that gives such a page the key. To proxies the
// frame is well-formed. The messages of the handshake are not ciphertext, and have random keys.
func (c *Conn) appendRecord(b, p []byte) ([]byte, error) {
	var key *maskKey
	if c.wire.out.masked {
		key = &maskKey{}
	}
	return c.sealer.seal(appendFrameHeader(b, websocket.BinaryMessage, len(p)+c.overhead, key), p)
}

// SetReadDeadline bounds the current and all later reads; the zero time removes the bound. A read
// that exceeds it ends the connection.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.wire.setReadDeadline(t) }

// SetWriteDeadline bounds the writes that begin after it; the zero time removes the bound. A write
// that exceeds it ends the connection.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.wire.setWriteDeadline(t) }

// Close ends the connection as planned (WebSocket code 1000). Pending reads and writes return
// ErrClosed. It waits for the peer to close its side, for about two seconds at most, so that what
// was written arrives. Further calls do nothing.
func (c *Conn) Close() error {
	c.wire.close(websocket.CloseNormalClosure, "", ErrClosed)
	return nil
}

// CloseWith is Close with a reason: the peer gets a *RefusedError. An empty reason is replaced by
// the code's own text; a reason longer than 123 bytes is truncated.
func (c *Conn) CloseWith(code CloseCode, reason string) error {
	if !code.ours() {
		return fmt.Errorf("protocol: close: %d is not a close code of this protocol", int(code))
	}
	if reason == "" {
		reason = code.String()
	}
	c.wire.close(int(code), reason, ErrClosed)
	return nil
}
