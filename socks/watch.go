package socks

import (
	"context"
	"errors"
	"io"
	"os"
	"time"
)

// clientWatch reads from a client while its target is being dialed, to notice that it left. What
// the client sends until then stays in its read buffer; once that is full the watch ends and the
// rest waits in the kernel.
type clientWatch struct {
	c     *clientConn
	begin *time.Timer
	done  chan struct{}

	// mayHalfClose is set when an end of file need not mean that the client is gone.
	mayHalfClose bool

	// These are valid after done is closed.
	gone       error // why the client is gone
	halfClosed bool  // it sends no more, and is not gone
}

// watchClient starts a watch, which calls cancel when the client is gone. It begins after
// watchDelay. Nothing else may read from the client until stop has returned.
func watchClient(c *clientConn, mayHalfClose bool, cancel context.CancelFunc) *clientWatch {
	w := &clientWatch{c: c, mayHalfClose: mayHalfClose, done: make(chan struct{})}
	w.begin = time.AfterFunc(watchDelay, func() { w.run(cancel) })
	return w
}

func (w *clientWatch) run(cancel context.CancelFunc) {
	defer close(w.done)
	in := w.c.in
	for in.Buffered() < in.Size() {
		_, err := in.Peek(in.Buffered() + 1)
		switch {
		case err == nil:
			continue
		case errors.Is(err, os.ErrDeadlineExceeded): // stop was called
		case errors.Is(err, io.EOF) && in.Buffered() > 0:
			// The client sent everything and closed its half: its data and its end of file go to
			// the target.
		case errors.Is(err, io.EOF) && w.mayHalfClose:
			w.halfClosed = true
		default:
			w.gone = err
			cancel()
		}
		return
	}
}

// stop ends the watch and returns why the client is gone, or nil if it is still there as far as the
// watch knows.
func (w *clientWatch) stop() error {
	if w.begin.Stop() {
		return nil
	}
	w.c.SetReadDeadline(time.Unix(1, 0)) // long past: wakes a blocked read
	<-w.done
	w.c.SetReadDeadline(time.Time{})
	return w.gone
}
