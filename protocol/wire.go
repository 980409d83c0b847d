package protocol

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// wire moves whole messages over a WebSocket and ends it properly. It knows no keys: the handshake and then Conn use
// the same one.
//
// One goroutine reads, one writes, and any may end the connection. The reason for the end is kept, the first wins, and
// all later calls return it.
type wire struct {
	ws     *websocket.Conn
	conn   net.Conn // below ws
	masked bool     // this end is the client, which masks what it sends

	readMu  sync.Mutex    // held by whoever reads from ws
	writing chan struct{} // full while somebody writes; a lock that can be waited for with a timeout

	pongOwed atomic.Bool // pong is to be sent

	mu            sync.Mutex // guards what follows
	cause         error      // why the connection ended; nil while it lives
	writeErr      error      // a write failed, and the reason is still being looked for
	ending        bool       // deadlines are set by whoever ends the connection only
	closing       bool       // close is at work, and closes the socket when it is done
	writeDeadline time.Time
	pong          []byte // the latest ping's payload

	// lastRead is when bytes of a message last came, in nanoseconds of Unix time; 0 before the first.
	lastRead atomic.Int64
}

func newWire(ws *websocket.Conn, isClient bool) *wire {
	w := &wire{ws: ws, conn: ws.NetConn(), masked: isClient, writing: make(chan struct{}, 1)}
	ws.SetPingHandler(w.ping)
	return w
}

// readMessage reads one message of the given type and of at most limit bytes into buf's array, or into a larger one,
// and returns it. It does not end the connection when that fails: fail does.
//
// gorilla's own read limit is not used, since it answers with a close code of its own before the caller could give the
// reason. Reading here stops one byte after the limit.
func (w *wire) readMessage(messageType int, buf []byte, limit int) ([]byte, error) {
	w.readMu.Lock()
	defer w.readMu.Unlock()
	if err := w.err(); err != nil {
		return buf, err
	}
	got, r, err := w.ws.NextReader()
	if err != nil {
		return buf, err
	}
	if got != messageType {
		return buf, fmt.Errorf("%w: a text message in place of a binary one, or the other way round", ErrBadMessage)
	}
	buf = buf[:0]
	for {
		if len(buf) == cap(buf) {
			// Growth is by what has arrived, never by what a header announces.
			grown := make([]byte, len(buf), min(max(2*cap(buf), usualRecord), limit+1))
			copy(grown, buf)
			buf = grown
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if n > 0 {
			w.lastRead.Store(time.Now().UnixNano())
		}
		switch {
		case len(buf) > limit:
			return buf[:0], ErrTooLarge
		case err == io.EOF:
			return buf, nil
		case err != nil:
			return buf[:0], err
		}
	}
}

// writeMessage writes one message as one frame. Its error is final: the connection has ended.
func (w *wire) writeMessage(messageType int, message []byte) error {
	return w.writeFrames(appendFrame(nil, messageType, message, w.masked))
}

// writeFrames writes whole frames. Its error is final: the connection has ended.
func (w *wire) writeFrames(b []byte) error {
	w.writing <- struct{}{}
	err := w.writeLocked(b)
	<-w.writing
	w.flushPong()
	if err != nil {
		return w.writeFailed(err)
	}
	return nil
}

func (w *wire) writeLocked(b []byte) error {
	w.mu.Lock()
	err := w.cause
	if err == nil {
		err = w.conn.SetWriteDeadline(w.writeDeadline) // that of the last pong stands there
	}
	w.mu.Unlock()
	if err == nil {
		_, err = w.conn.Write(b)
	}
	return err
}

// ping answers a ping. gorilla's own handler would wait for a writer that is stuck in a full queue, and end the
// connection after a second; here the pong is left to the writer, who is busy showing that this end is alive. Only the
// latest ping is answered then (RFC 6455, section 5.5.3).
func (w *wire) ping(payload string) error {
	w.mu.Lock()
	w.pong = append(w.pong[:0], payload...)
	w.mu.Unlock()
	w.pongOwed.Store(true)
	w.flushPong()
	return nil
}

// flushPong sends the owed pong unless somebody is writing, who then calls flushPong in turn. A pong that fails makes
// gorilla refuse all later writes, and the next one reports it.
func (w *wire) flushPong() {
	for w.pongOwed.Load() {
		select {
		case w.writing <- struct{}{}:
		default:
			return
		}
		if w.pongOwed.Swap(false) {
			w.mu.Lock()
			payload := append([]byte(nil), w.pong...)
			w.mu.Unlock()
			_ = w.ws.WriteControl(websocket.PongMessage, payload, time.Now().Add(pongTimeout))
		}
		<-w.writing
	}
}

// err returns why the connection ended, or nil.
func (w *wire) err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cause
}

// end makes cause the reason unless there is one, closes the socket and returns the reason. While close is at work, the
// socket is left to it: the peer has yet to read the close frame.
func (w *wire) end(cause error) error {
	w.mu.Lock()
	if w.cause == nil {
		w.cause = cause
	}
	w.ending = true
	cause, closing := w.cause, w.closing
	w.mu.Unlock()
	if !closing {
		_ = w.ws.Close()
	}
	return cause
}

// readFailed ends the connection after a read returned err, and returns the reason.
func (w *wire) readFailed(err error) error {
	cause := transportError("read", err)
	w.mu.Lock()
	if w.writeErr != nil && !peerSaidWhy(cause) {
		cause = w.writeErr
	}
	w.mu.Unlock()
	return w.end(cause)
}

// writeFailed ends the connection after a write returned err, and returns the reason. When the peer has closed, the
// write often fails before the close frame has been read; the frame holds the reason, so it is looked for first.
func (w *wire) writeFailed(err error) error {
	cause := transportError("write", err)
	w.mu.Lock()
	if w.cause != nil || errors.Is(cause, ErrTimeout) {
		w.mu.Unlock()
		return w.end(cause)
	}
	w.writeErr = cause
	w.ending = true
	_ = w.conn.SetReadDeadline(time.Now().Add(closeTimeout))
	w.mu.Unlock()

	w.readMu.Lock() // a reader that is waiting returns by the deadline
	defer w.readMu.Unlock()
	if err := w.err(); err != nil {
		return w.end(err)
	}
	for {
		if _, _, err := w.ws.NextReader(); err != nil {
			return w.readFailed(err)
		}
	}
}

// close tells the peer why, makes cause the reason, and closes the socket. It does nothing when the connection has
// ended already. It takes at most twice closeTimeout, and makes waiting reads and writes return.
func (w *wire) close(code int, text string, cause error) {
	w.mu.Lock()
	if w.cause != nil {
		w.mu.Unlock()
		return
	}
	w.cause = cause
	w.ending, w.closing = true, true
	w.mu.Unlock()

	if w.sayWhy(websocket.FormatCloseMessage(code, truncate(text, maxCloseReason))) {
		w.linger()
	}
	_ = w.ws.Close()
}

// sayWhy writes the close frame, unless a writer is stuck.
func (w *wire) sayWhy(message []byte) bool {
	timeout := time.NewTimer(closeTimeout)
	defer timeout.Stop()
	select {
	case w.writing <- struct{}{}:
		defer func() { <-w.writing }()
		return w.ws.WriteControl(websocket.CloseMessage, message, time.Now().Add(closeTimeout)) == nil
	case <-timeout.C:
		return false
	}
}

// linger waits until the peer has closed its side, reading and dropping what is still on the way. Closing a socket with
// unread data resets the connection (RFC 1122, section 4.2.2.13), and a reset may overtake the close frame: the peer
// would not learn the reason.
func (w *wire) linger() {
	_ = w.conn.SetReadDeadline(time.Unix(1, 0)) // a reader that is waiting returns
	w.readMu.Lock()
	defer w.readMu.Unlock()
	_ = closeWrite(w.conn)
	_ = w.conn.SetReadDeadline(time.Now().Add(closeTimeout))
	_, _ = io.Copy(io.Discard, onlyReader{w.conn})
}

// setReadDeadline bounds the current and later reads. A read that passes its deadline ends the connection.
func (w *wire) setReadDeadline(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ending {
		return ErrClosed
	}
	return w.conn.SetReadDeadline(t)
}

// setWriteDeadline bounds the writes that begin after it. A write that passes its deadline ends the connection.
func (w *wire) setWriteDeadline(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ending {
		return ErrClosed
	}
	w.writeDeadline = t
	return nil
}

// limitTo makes reads and writes fail when the timeout has passed or ctx is done. Afterwards stop lifts that again and
// returns ctx's error if ctx was done by then; the connection is closed in that case.
func (w *wire) limitTo(ctx context.Context, timeout time.Duration) (stop func() error) {
	deadline := time.Now().Add(timeout)
	_ = w.setReadDeadline(deadline)
	_ = w.setWriteDeadline(deadline)
	closed := make(chan struct{})
	release := context.AfterFunc(ctx, func() {
		defer close(closed)
		_ = w.conn.Close()
	})
	return func() error {
		if !release() {
			<-closed
			return context.Cause(ctx)
		}
		_ = w.setReadDeadline(time.Time{})
		_ = w.setWriteDeadline(time.Time{})
		return nil
	}
}

// peerSaidWhy reports whether cause comes from a close frame.
func peerSaidWhy(cause error) bool {
	var refused *RefusedError
	var closed *PeerClosedError
	return errors.As(cause, &refused) || errors.As(cause, &closed)
}

// transportError turns an error of gorilla or of the network into one of this package's. Errors of this package stay.
func transportError(verb string, err error) error {
	var closed *websocket.CloseError
	var timeout net.Error
	switch {
	case errors.As(err, &closed) && CloseCode(closed.Code).ours():
		return &RefusedError{Code: CloseCode(closed.Code), Reason: closed.Text}
	case errors.As(err, &closed) && closed.Code == websocket.CloseAbnormalClosure, err == io.EOF:
		// gorilla's word for a TCP connection that ended without a close frame.
		return fmt.Errorf("protocol: %s: %w", verb, io.ErrUnexpectedEOF)
	case errors.As(err, &closed):
		return &PeerClosedError{Code: closed.Code, Reason: closed.Text}
	case errors.Is(err, ErrTimeout):
		return err
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("protocol: %s: %w", verb, ErrTimeout)
	default:
		return fmt.Errorf("protocol: %s: %w", verb, err)
	}
}

// truncate shortens s to at most n bytes without cutting a character in two.
func truncate(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "")
}
