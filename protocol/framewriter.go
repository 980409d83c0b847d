package protocol

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"culvert/internal/rawsock"

	"github.com/gorilla/websocket"
)

// frameWriter writes WebSocket frames to a connection (RFC 6455, section 5), and is the only writer
// there: of messages, pongs and the close frame. Its methods may be called concurrently; frames
// never interleave.
//
// Nothing follows a write that failed: part of a frame may be on the wire, and a peer would take
// the next bytes for the rest of it. Nothing follows a close frame either (section 5.5.1). All
// later writes return the first error.
type frameWriter struct {
	conn   net.Conn
	writer *rawsock.Writer // to conn; guarded by turn
	masked bool            // this end is the client

	turn chan struct{} // full while a goroutine writes; a lock that can time out
	err  error         // the first failure, or errCloseSent; guarded by turn

	pongOwed  atomic.Bool // a ping is unanswered
	closeSent atomic.Bool // the close frame was written

	mu       sync.Mutex // guards what follows
	deadline time.Time  // of the next message; zero for none
	ping     []byte     // the latest ping's payload
}

// errCloseSent is what a frameWriter returns after it has written the close frame.
var errCloseSent = errors.New("close frame sent")

func newFrameWriter(conn net.Conn, isClient bool) *frameWriter {
	return &frameWriter{
		conn: conn, writer: rawsock.NewWriter(conn), masked: isClient, turn: make(chan struct{}, 1),
	}
}

// writeFrames writes whole frames of messages, and then the pong of a ping that has come in the
// meantime.
func (w *frameWriter) writeFrames(b []byte) error {
	w.turn <- struct{}{}
	err := w.writeLocked(b, w.messageDeadline())
	if err == nil {
		err = w.pongLocked() // a pong must not wait behind the next writer, and the next
	}
	<-w.turn
	if err != nil {
		return err
	}
	return w.flushPong()
}

// pong answers a ping. It does not wait for a writer, which a full queue may block: the pong is
// then left to that writer, and follows the frames of its current write. Only the latest ping is
// answered in that case (RFC 6455, section 5.5.3). The error is that of a pong that this call
// wrote.
func (w *frameWriter) pong(ping []byte) error {
	w.mu.Lock()
	w.ping = append(w.ping[:0], ping...)
	w.mu.Unlock()
	w.pongOwed.Store(true)
	return w.flushPong()
}

// flushPong writes the owed pong unless another goroutine has the turn, which then calls flushPong
// itself.
func (w *frameWriter) flushPong() error {
	for w.pongOwed.Load() {
		select {
		case w.turn <- struct{}{}:
		default:
			return nil
		}
		err := w.pongLocked()
		<-w.turn
		if err != nil {
			return err
		}
	}
	return nil
}

// pongLocked writes the owed pong, if any. It is called with the turn.
func (w *frameWriter) pongLocked() error {
	if !w.pongOwed.Swap(false) || w.err == errCloseSent {
		return nil
	}
	w.mu.Lock()
	frame := appendFrame(nil, websocket.PongMessage, w.ping, w.masked)
	w.mu.Unlock()
	return w.writeLocked(frame, time.Now().Add(pongTimeout))
}

// writeClose writes the close frame, which is the last one. It fails when a writer, or the network,
// holds it up for longer than timeout.
func (w *frameWriter) writeClose(payload []byte, timeout time.Duration) error {
	deadline := time.Now().Add(timeout)
	patience := time.NewTimer(timeout)
	defer patience.Stop()
	select {
	case w.turn <- struct{}{}:
	case <-patience.C:
		return ErrTimeout
	}
	defer func() { <-w.turn }()
	frame := appendFrame(nil, websocket.CloseMessage, payload, w.masked)
	if err := w.writeLocked(frame, deadline); err != nil {
		return err
	}
	w.err = errCloseSent
	w.closeSent.Store(true)
	return nil
}

// writeLocked writes whole frames. It is called with the turn.
func (w *frameWriter) writeLocked(b []byte, deadline time.Time) error {
	if w.err != nil {
		return w.err
	}
	if w.err = w.conn.SetWriteDeadline(deadline); w.err == nil {
		_, w.err = w.writer.Write(b)
	}
	return w.err
}

// setDeadline bounds the writes of messages that begin after it. Control frames have their own
// bounds.
func (w *frameWriter) setDeadline(t time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deadline = t
}

func (w *frameWriter) messageDeadline() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.deadline
}
