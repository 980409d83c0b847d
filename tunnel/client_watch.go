package tunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"culvert/tunnel/mux"
)

// errOpenTimeout is the error of openFor when the other end has not answered in time.
var errOpenTimeout = errors.New("the other end did not answer in time")

// openFor calls open for a client that waits for the stream, and sends it what the client has sent
// meanwhile. The context of open ends after openTimeout, and when the client is gone, which is
// errNotWanted. A client that has closed its side and sent nothing may be gone or may only listen:
// it is taken to be gone after closedWait. One that was reset after it had sent data is gone, but
// its data is delivered, and then the reset; then, too, the error is errNotWanted.
func openFor(
	ctx context.Context, client net.Conn, open func(context.Context) (*mux.Stream, error),
) (*mux.Stream, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, openTimeout, errOpenTimeout)
	defer cancel()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	watch := watchClient(client, func() { giveUp(errNotWanted) })
	stream, err := open(ctx)
	early := watch.stop()
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, err
	case context.Cause(ctx) == errNotWanted:
		stream.Reset(mux.CodeAborted)
		return nil, errNotWanted
	}
	if len(early) > 0 {
		if _, err := stream.Write(early); err != nil {
			stream.Reset(mux.CodeAborted)
			return nil, err
		}
	}
	if watch.wasReset {
		stream.CloseWithReset(mux.CodeAborted)
		return nil, errNotWanted
	}
	return stream, nil
}

// clientWatch reads from a client while its stream is being opened, to notice that it left.
type clientWatch struct {
	conn  net.Conn
	gone  func()
	begin *time.Timer
	done  chan struct{}

	// These are valid after done is closed.
	early    []byte      // what the client has sent
	wasReset bool        // after that
	closed   *time.Timer // runs if it sent nothing and closed its side; otherwise nil
}

// watchClient starts a watch, which calls gone when the client is gone. It begins after
// clientWatchDelay. Nothing else may read from the client until stop has returned.
func watchClient(conn net.Conn, gone func()) *clientWatch {
	w := &clientWatch{conn: conn, gone: gone, done: make(chan struct{})}
	w.begin = time.AfterFunc(clientWatchDelay, w.run)
	return w
}

func (w *clientWatch) run() {
	defer close(w.done)
	buffer := make([]byte, maxEarly)
	for len(w.early) < maxEarly {
		n, err := w.conn.Read(buffer[len(w.early):])
		w.early = buffer[:len(w.early)+n]
		switch {
		case err == nil:
			continue
		case errors.Is(err, os.ErrDeadlineExceeded): // stop was called
		case !errors.Is(err, io.EOF) && len(w.early) == 0:
			w.gone()
		case !errors.Is(err, io.EOF):
			w.wasReset = true
		case len(w.early) == 0:
			w.closed = time.AfterFunc(closedWait, w.gone)
		}
		return
	}
}

// stop ends the watch and returns what the client has sent. An end of file is left to be read
// again.
func (w *clientWatch) stop() (early []byte) {
	if w.begin.Stop() {
		return nil
	}
	w.conn.SetReadDeadline(time.Unix(1, 0)) // long past: wakes a blocked read
	<-w.done
	w.conn.SetReadDeadline(time.Time{})
	if w.closed != nil {
		w.closed.Stop()
	}
	return w.early
}
