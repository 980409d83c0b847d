package protocol

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"culvert/internal/rawsock"

	"github.com/gorilla/websocket"
)

// wire reads and writes whole messages of a WebSocket, and closes it properly. It owns the socket:
// all reads go through frames, all writes through out. It has no keys: the handshake and then Conn
// use the same wire.
//
// One goroutine reads, one writes, and any may end the connection. The first reason for the end is
// kept, and all later calls return it.
type wire struct {
	conn   net.Conn     // the socket, or TLS over it; closed by end or close
	readMu sync.Mutex   // held while reading from frames and using what was read
	source io.Reader    // conn's, which readMu guards
	frames *frameReader // of conn
	marks  *lowWater    // of conn; nil where there are none
	out    *frameWriter // to conn

	mu       sync.Mutex // guards what follows
	cause    error      // why the connection ended; nil while it lives
	writeErr error      // a write failed, and the peer's reason is being looked for
	ending   bool       // only the end of the connection sets deadlines from now on
	closing  bool       // close is running, and closes the socket at its end

	// exporter is the client's, to authenticate a refusal; nil during the handshake, and without
	// forward secrecy. It is set before w is used concurrently.
	exporter *[keySize]byte

	// lastRead is when bytes of a message last came, in nanoseconds since began; 0 before the
	// first. It is not in Unix time, which the clock of the machine may set back and forth.
	began      time.Time
	lastRead   atomic.Int64
	readBefore int64 // lastRead before the latest read; used by the reader only

	// lastControl is when a control frame was last read, in the same way.
	lastControl atomic.Int64

	// asked is the payload of the latest ping, which isAsked says is to be answered; used by the
	// reader only.
	asked   []byte
	isAsked bool
}

// newWire takes the socket from ws, of which nothing else is used: gorilla/websocket has done the
// upgrade.
func newWire(ws *websocket.Conn, isClient bool) *wire {
	w := &wire{conn: ws.NetConn(), began: time.Now()}
	var early []byte
	if dialed, ok := w.conn.(*dialedConn); ok {
		w.conn, early = dialed.Conn, dialed.behind
	}
	w.source = rawsock.NewReader(w.conn)
	w.frames = newFrameReader(wireSource{w}, !isClient, early)
	if w.marks = newLowWater(w.conn); w.marks != nil {
		w.frames.marker = w.marks
	}
	w.out = newFrameWriter(w.conn, isClient)
	return w
}

// wireSource is what the frames of a wire are read from.
type wireSource struct{ *wire }

func (s wireSource) Read(p []byte) (int, error) {
	if err := s.answerPing(); err != nil {
		return 0, err
	}
	n, err := s.source.Read(p)
	if n > 0 {
		s.readBefore = s.lastRead.Swap(int64(max(1, time.Since(s.began))))
	}
	return n, err
}

// limitMessages sets how large a message may be that is read from now on, in bytes. It must not be
// called concurrently with other methods.
func (w *wire) limitMessages(limit int) { w.frames.limit = limit }

// readMessage reads one message of the given type and passes it to use. The message is in the read
// buffer, and valid until use returns. On an error, of its own or of use, the caller ends the
// connection with readFailed.
func (w *wire) readMessage(messageType int, use func(message []byte) error) error {
	if err := w.err(); err != nil { // no need to wait for linger
		return err
	}
	w.readMu.Lock()
	defer w.readMu.Unlock()
	if err := w.err(); err != nil {
		return err
	}
	got, message, err := w.nextMessage()
	if err != nil {
		return err
	}
	if got != messageType {
		return fmt.Errorf("%w: a text message instead of a binary one, or vice versa",
			ErrBadMessage)
	}
	return use(message)
}

// awaitMessage returns once some of the next message has arrived, or the connection has ended. It
// calls idle before it waits.
func (w *wire) awaitMessage(idle func()) {
	if w.err() != nil { // no need to wait for linger
		return
	}
	w.readMu.Lock()
	defer w.readMu.Unlock()
	if w.err() == nil {
		w.frames.awaitSome(idle)
	}
}

// nextMessage returns the next message, and answers the control frames before it: of the pings that
// came with one read, the latest (RFC 6455, section 5.5.3). It is called with readMu held, and the
// message is valid for as long.
func (w *wire) nextMessage() (messageType int, message []byte, err error) {
	for {
		opcode, payload, err := w.frames.next()
		switch {
		case err != nil:
			w.answerEnd(err)
			return 0, nil, err
		case opcode == websocket.BinaryMessage || opcode == websocket.TextMessage:
			return opcode, payload, w.answerPing()
		}
		// a control frame may be a proxy's, and is no sign of life of the peer
		w.lastRead.Store(w.readBefore)
		w.lastControl.Store(int64(max(1, time.Since(w.began))))
		if opcode == websocket.PingMessage {
			w.asked, w.isAsked = append(w.asked[:0], payload...), true
		}
	}
}

// answerEnd answers a close frame with one of the same code (RFC 6455, section 5.5.1).
func (w *wire) answerEnd(err error) {
	var closed *websocket.CloseError
	if errors.As(err, &closed) {
		_ = w.out.writeClose(websocket.FormatCloseMessage(closed.Code, ""), closeTimeout)
	}
}

// answerPing sends the pong that is owed, if any, or leaves it to a writer. A pong that could not
// be written whole ends the connection. If it failed because the peer has closed, the reader goes
// on for a while: the peer's reason may be about to arrive.
func (w *wire) answerPing() error {
	if !w.isAsked {
		return nil
	}
	w.isAsked = false
	err := w.out.pong(w.asked)
	if err == nil {
		return nil
	}
	if cause, final := w.noteWriteFailure(err); final {
		return cause
	}
	return nil
}

// writeMessage writes one message as one frame. Its error is final: the connection has ended.
func (w *wire) writeMessage(messageType int, message []byte) error {
	return w.writeFrames(appendFrame(nil, messageType, message, w.out.masked))
}

// writeFrames writes whole frames. Its error is final: the connection has ended.
func (w *wire) writeFrames(b []byte) error {
	err := w.err()
	if err == nil {
		err = w.out.writeFrames(b)
	}
	if err != nil {
		return w.writeFailed(err)
	}
	return nil
}

// err returns why the connection ended, or nil.
func (w *wire) err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cause
}

// end makes cause the reason unless there is one, closes the socket and returns the reason. While
// close is running, it leaves the socket to close: the peer has yet to read the close frame.
func (w *wire) end(cause error) error {
	w.mu.Lock()
	if w.cause == nil {
		w.cause = cause
	}
	w.ending = true
	cause, closing := w.cause, w.closing
	w.mu.Unlock()
	if !closing {
		w.closeSocket()
	}
	return cause
}

// readFailed ends the connection after a read returned err, and returns the reason. A violation of
// RFC 6455 is named in the close frame (section 7.4.1).
func (w *wire) readFailed(err error) error {
	cause := w.transportError("read", err)
	if malformed, ok := errors.AsType[frameError](err); ok {
		w.close(websocket.CloseProtocolError, string(malformed), cause)
		return w.err()
	}
	w.mu.Lock()
	if w.writeErr != nil && !peerSaidWhy(cause) {
		cause = w.writeErr
	}
	w.mu.Unlock()
	return w.end(cause)
}

// writeFailed ends the connection after a write returned err, and returns the reason. If the peer
// has closed, writes often fail before its close frame has been read. That frame holds the reason,
// so it is looked for first.
func (w *wire) writeFailed(err error) error {
	if cause, final := w.noteWriteFailure(err); final {
		return w.end(cause)
	}
	w.readMu.Lock() // a reader that is waiting returns by the deadline
	defer w.readMu.Unlock()
	if err := w.err(); err != nil {
		return w.end(err)
	}
	for {
		if _, _, err := w.nextMessage(); err != nil {
			return w.readFailed(err)
		}
	}
}

// noteWriteFailure keeps the error of a failed write, the last one. final reports whether looking
// for the peer's reason is pointless: time ran out, or the connection has ended. Otherwise reads
// end within closeTimeout.
func (w *wire) noteWriteFailure(err error) (cause error, final bool) {
	cause = w.transportError("write", err)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.cause != nil || errors.Is(cause, ErrTimeout):
		return cause, true
	case w.writeErr == nil: // a peer that goes on pinging doesn't lengthen the wait
		w.writeErr = cause
		w.ending = true
		_ = w.conn.SetReadDeadline(time.Now().Add(closeTimeout))
	}
	return cause, false
}

// close sends the close frame, makes cause the reason, and closes the socket. It does nothing if
// the connection has ended. It takes at most twice closeTimeout, and makes pending reads and writes
// return.
func (w *wire) close(code int, text string, cause error) {
	w.mu.Lock()
	if w.cause != nil {
		w.mu.Unlock()
		return
	}
	w.cause = cause
	w.ending, w.closing = true, true
	w.mu.Unlock()

	message := websocket.FormatCloseMessage(code, truncate(text, maxCloseReason))
	if w.out.writeClose(message, closeTimeout) == nil {
		w.linger()
	}
	w.closeSocket()
}

// closeSocket closes the socket. TLS may take five seconds for its own end where nothing can be
// written, so that is left out unless the close frame could be.
func (w *wire) closeSocket() {
	conn := w.conn
	if secure, ok := conn.(*tls.Conn); ok && !w.out.closeSent.Load() {
		conn = secure.NetConn()
	}
	_ = conn.Close()
}

// linger waits until the peer has closed its side, and discards what arrives until then. Closing a
// socket with unread data resets the connection (RFC 1122, section 4.2.2.13), and the reset may
// overtake the close frame, and with it the reason.
func (w *wire) linger() {
	_ = w.conn.SetReadDeadline(time.Unix(1, 0)) // a reader that is waiting returns
	w.readMu.Lock()                             // and no other one reads, since there is a cause
	_ = closeWrite(w.conn)
	_ = w.conn.SetReadDeadline(time.Now().Add(closeTimeout))
	w.readMu.Unlock()
	_, _ = io.Copy(io.Discard, w.conn)
}

// closeWrite half-closes conn if its type supports that.
func closeWrite(conn net.Conn) error {
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}

// setReadDeadline bounds the current and later reads. A read that exceeds it ends the connection.
func (w *wire) setReadDeadline(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ending {
		return ErrClosed
	}
	return w.conn.SetReadDeadline(t)
}

// setWriteDeadline bounds the writes that begin after it. A write that exceeds it ends the
// connection.
func (w *wire) setWriteDeadline(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ending {
		return ErrClosed
	}
	w.out.setDeadline(t)
	return nil
}

// limitTo makes reads and writes fail once the timeout has passed or ctx is done. stop removes both
// bounds; if ctx is done, it returns ctx's cause, and the connection is closed.
func (w *wire) limitTo(ctx context.Context, timeout time.Duration) (stop func() error) {
	deadline := time.Now().Add(timeout)
	_ = w.setReadDeadline(deadline)
	_ = w.setWriteDeadline(deadline)
	closed := make(chan struct{})
	release := context.AfterFunc(ctx, func() {
		defer close(closed)
		w.closeSocket()
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

// transportError is the function of the same name, and authenticates a refusal.
func (w *wire) transportError(verb string, err error) error {
	err = transportError(verb, err)
	if refused, ok := errors.AsType[*RefusedError](err); ok && w.exporter != nil {
		refused.authenticate(*w.exporter)
	}
	return err
}

// peerSaidWhy reports whether cause comes from a close frame.
func peerSaidWhy(cause error) bool {
	var refused *RefusedError
	var closed *PeerClosedError
	return errors.As(cause, &refused) || errors.As(cause, &closed)
}

// transportError turns an error of the frames or of the network into one of this package's. Errors
// of this package stay.
func transportError(verb string, err error) error {
	var closed *websocket.CloseError
	var timeout net.Error
	switch {
	case errors.As(err, &closed) && CloseCode(closed.Code).ours():
		return &RefusedError{Code: CloseCode(closed.Code), Reason: closed.Text}
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
