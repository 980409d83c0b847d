package tunnel

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"culvert/internal/sendqueue"
	"culvert/tunnel/mux"
)

// relay copies between a stream and a connection until both directions have ended, and closes both.
// It passes an end of file on as a half-close, so that the other direction continues. When one side
// is cut short it cuts the other short too, once that has received what came before: a truncated
// download must be seen as truncated, and no more than it was. When ctx ends, both are cut short at
// once. It returns nil when both directions ended with an end of file.
func relay(ctx context.Context, stream *mux.Stream, conn net.Conn) error {
	r := &relayed{stream: stream, conn: conn}
	return r.run(ctx)
}

// relayed is a stream and a connection that a relay has joined.
type relayed struct {
	stream *mux.Stream
	conn   net.Conn
	early  []byte // what was read from the stream already, for conn

	delivered result // of the direction from the stream to the connection

	// movable makes run leave conn open, and return an *unsentError, where that may be joined to
	// another stream.
	movable bool

	refused  bool        // conn has not taken early
	sent     atomic.Bool // all of conn, to its end, has gone into the stream
	watching atomic.Bool // awaitReset reads from conn, and delivered ends that
}

// unsentError is the result of a relay whose stream has ended before anything was sent, and whose
// connection goes on.
type unsentError struct {
	data []byte // what the connection has sent so far
	err  error
}

func (e *unsentError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *unsentError) Unwrap() error { return e.err }

// errCutShort is the result of a direction that ended because the other was cut short.
var errCutShort = errors.New("the other direction was cut short")

func (r *relayed) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { r.cut(context.Cause(ctx)) })
	defer stop()
	r.stream.NotifyEnd(func(bool) { stopReading(r.conn) })
	r.deliver()
	outward := r.send()
	inward := r.awaitDelivery(outward == nil)
	if outward == nil && inward == nil {
		r.stream.Close()
		r.conn.Close()
		return nil
	}
	if data, ok := r.moves(outward); ok && ctx.Err() == nil {
		r.stream.Close()
		return &unsentError{data, inward}
	}
	r.stream.CloseWithReset(mux.CodeAborted)
	if !errors.Is(inward, mux.ErrStalled) {
		sendqueue.Await(ctx, r.conn)
	}
	abort(r.conn)
	if outward == nil || (outward == errCutShort && inward != nil) {
		return inward
	}
	return outward
}

// moves reports whether conn can be joined to another stream, and returns what it has sent so far.
// outward is how the direction from there has ended. A connection that is watched for a reset can't
// be: the end of that may come later.
func (r *relayed) moves(outward error) (data []byte, ok bool) {
	_, gone := errors.AsType[*mux.CopyError](outward)
	if !r.movable || gone || r.watching.Load() || len(r.early) > 0 {
		return nil, false
	}
	if data, ok = r.stream.Unsent(); ok {
		r.conn.SetReadDeadline(time.Time{}) // after stopReading
	}
	return data, ok
}

// cut cuts both sides short at once.
func (r *relayed) cut(cause error) {
	code := mux.CodeAborted
	if errors.Is(cause, errQuota) {
		code = mux.CodeQuota
	}
	r.stream.Reset(code)
	abort(r.conn)
}

// deliver begins to copy from the stream to conn.
func (r *relayed) deliver() {
	if len(r.early) > 0 {
		if _, err := r.conn.Write(r.early); err != nil {
			r.refused = true
			r.delivered.set(err)
			return
		}
	}
	r.stream.Deliver(r.conn, r.deliveryEnded)
}

// deliveryEnded is called when nothing more goes from the stream to conn. When conn accepts no more
// data, it is left alone: its other direction ends soon by itself and may still bring data.
func (r *relayed) deliveryEnded(err error) {
	if err == nil && !r.sent.Load() { // otherwise relay closes conn at once
		err = closeWrite(r.conn)
	}
	r.delivered.set(err)
	if r.watching.Load() {
		stopReading(r.conn)
	}
}

// send copies from conn to the stream, and passes the end on: an end of file, or a reset after all
// that was read. A stream that has ended itself is left alone: it may have data to deliver.
func (r *relayed) send() error {
	_, err := r.stream.ReadFrom(r.conn)
	// A delivery that ends cleanly meanwhile shuts conn down in both directions, which looks like a
	// reset, but then it has not failed any more.
	if err == nil && r.deliveryFailed() && wasReset(r.conn) && r.deliveryFailed() {
		err = &mux.CopyError{Err: syscall.ECONNRESET}
	}
	_, ours := errors.AsType[*mux.CopyError](err)
	switch {
	case err == nil:
		err = r.stream.CloseWrite()
		r.sent.Store(err == nil)
	case errors.Is(err, mux.ErrStalled):
		r.stream.Reset(mux.CodeStalled)
	case errors.Is(err, os.ErrDeadlineExceeded): // by stopReading
		return errCutShort
	case ours:
		r.stream.CloseWithReset(mux.CodeAborted)
	}
	return err
}

// deliveryFailed reports whether conn has refused some of what comes from the stream, or is being
// given some that it may refuse.
func (r *relayed) deliveryFailed() bool { return r.refused || r.stream.WriteFailed() }

// awaitDelivery waits until nothing more goes from the stream to conn. After the end of conn's own
// data nobody reads from it, so that a reset would go unnoticed as long as the stream is idle.
func (r *relayed) awaitDelivery(sent bool) error {
	known := r.delivered.known()
	if sent {
		timer := time.NewTimer(resetWatchDelay)
		defer timer.Stop()
		select {
		case <-known:
		case <-timer.C:
			r.watchReset(known)
		}
	}
	<-known
	return r.delivered.err
}

// watchReset resets the stream if conn is reset before the delivery has ended.
func (r *relayed) watchReset(delivered <-chan struct{}) {
	r.watching.Store(true)
	select {
	case <-delivered:
		return
	default:
	}
	if awaitReset(r.conn) {
		r.stream.CloseWithReset(mux.CodeAborted)
	}
}

// result is an error, or none, that is set once. Its channel exists only once somebody waits, so
// that idle streams, where nobody does, have none.
type result struct {
	mu      sync.Mutex // guards all below
	isKnown bool
	err     error
	wake    chan struct{}
}

// set sets the result.
func (r *result) set(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.isKnown, r.err = true, err
	if r.wake != nil {
		close(r.wake)
	}
}

// known returns a channel that is closed once the result is set. From then on err may be read.
func (r *result) known() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wake == nil {
		r.wake = make(chan struct{})
		if r.isKnown {
			close(r.wake)
		}
	}
	return r.wake
}

// closeWrite half-closes a connection that can be half-closed, and closes any other: its peer
// could not learn of the end in any other way.
func closeWrite(conn net.Conn) error {
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return conn.Close()
}

// abort closes a connection at once so that its peer sees it cut short: with a TCP reset where it
// is TCP. What the peer's system has not acknowledged is lost; see sendqueue.Await.
func abort(conn net.Conn) {
	if c, ok := conn.(interface{ SetLinger(int) error }); ok {
		c.SetLinger(0)
	}
	conn.Close()
}

// stopReading makes reads from a connection fail.
func stopReading(conn net.Conn) { conn.SetReadDeadline(time.Unix(1, 0)) }
