// Package clientwatch watches clients that wait for their targets to be dialed, and tells of those
// that have left while nothing is read from them.
//
// The dial for a client that has sent nothing and is gone is no longer wanted. What a client has
// sent before it failed is still for its target, which a client without a proxy would have reached
// directly: the dial goes on, the data follows, and then the failure.
package clientwatch

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// Watch reads from a client, to notice that it leaves. What the client sends stays in its read
// buffer; once that is full the watch ends and the rest waits in the kernel.
type Watch struct {
	conn   net.Conn
	in     *bufio.Reader
	policy Policy
	gone   func(error)
	begin  *time.Timer
	done   chan struct{}

	// These are valid after done is closed.
	end    error
	closed *time.Timer // calls gone for a client that has closed its half; may be nil
}

// Policy is what to do about clients.
type Policy struct {
	// Delay is how long a dial may last before its client is watched.
	Delay time.Duration

	// ClosedWait is how long a client that has sent nothing and closed its half may wait for its
	// target. It looks like one that has gone, but may only want to listen. A negative duration
	// lets it wait as long as the dial lasts.
	ClosedWait time.Duration
}

// Start starts a watch of conn, which in reads from. It calls gone at most once, with the error of
// reading, when the client has sent nothing that is still in the buffer, and is gone. Nothing else
// may read from the client until Stop has returned.
func Start(conn net.Conn, in *bufio.Reader, policy Policy, gone func(error)) *Watch {
	w := &Watch{conn: conn, in: in, policy: policy, gone: gone, done: make(chan struct{})}
	w.begin = time.AfterFunc(policy.Delay, w.run)
	return w
}

func (w *Watch) run() {
	defer close(w.done)
	for w.in.Buffered() < w.in.Size() {
		_, err := w.in.Peek(w.in.Buffered() + 1)
		if err == nil {
			continue
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) { // else Stop was called
			w.ended(err)
		}
		return
	}
}

// ended notes that the client sends no more.
func (w *Watch) ended(err error) {
	w.end = err
	switch {
	case w.in.Buffered() > 0:
	case !errors.Is(err, io.EOF) || w.policy.ClosedWait == 0:
		w.gone(err)
	case w.policy.ClosedWait > 0:
		w.closed = time.AfterFunc(w.policy.ClosedWait, func() { w.gone(err) })
	}
}

// Stop ends the watch. It returns how the client has ended: io.EOF when it closed its half, the
// error of reading when it was reset, nil when it is there as far as the watch knows. A system
// reports that error only once; an end of file, it reports again.
func (w *Watch) Stop() error {
	if w.begin.Stop() {
		return nil
	}
	w.conn.SetReadDeadline(time.Unix(1, 0)) // long past: wakes a blocked read
	<-w.done
	w.conn.SetReadDeadline(time.Time{})
	if w.closed != nil {
		w.closed.Stop()
	}
	return w.end
}
