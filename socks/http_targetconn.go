package socks

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"culvert/internal/rawsock"
)

// targetConn is a connection to a target of forwarded requests. It belongs to one client's
// connection alone, since some servers tie an authentication (NTLM) to theirs.
type targetConn struct {
	net.Conn
	address string
	in      *bufio.Reader // nil while it waits for another request
	reused  bool          // it has carried a request before
	stop    func() bool   // takes back that the end of the client's context closes it

	// bounded is set while nobody can see whether the client has gone.
	bounded atomic.Bool

	watch *idleWatch // while it waits
}

// newTargetConn wraps a connection, which ctx then closes.
func newTargetConn(ctx context.Context, conn net.Conn, address string) *targetConn {
	t := &targetConn{Conn: conn, address: address}
	t.stop = context.AfterFunc(ctx, func() { conn.Close() })
	t.takeReader()
	return t
}

func (t *targetConn) takeReader() {
	t.in = readers.Get().(*bufio.Reader)
	t.in.Reset(t)
}

// Read implements net.Conn. Only when it is sent something does it show that a client has gone that
// had closed its half, or that nobody reads from; so its target may not be silent for ever.
func (t *targetConn) Read(p []byte) (int, error) {
	if t.bounded.Load() {
		t.SetReadDeadline(time.Now().Add(halfClosedTimeout))
	}
	return t.Conn.Read(p)
}

// closeWrite tells the target that the client sends no more, and reports whether that can be
// told.
func (t *targetConn) closeWrite() bool {
	w, ok := t.Conn.(closeWriter)
	if !ok || w.CloseWrite() != nil {
		return false
	}
	t.boundSilence()
	return true
}

// boundSilence notes that nobody sees any more whether the client has gone.
func (t *targetConn) boundSilence() {
	t.bounded.Store(true)
	t.SetReadDeadline(time.Now().Add(halfClosedTimeout)) // of a read that waits
}

// cut closes the connection of a client that has failed, after what it has sent. The target sees
// that it was cut short if that can't overtake the data, which it would on a TCP connection.
func (t *targetConn) cut() {
	if l, ok := t.Conn.(lingerer); ok && rawsock.TCPOf(t.Conn) == nil {
		l.SetLinger(0)
	}
	t.Close()
}

// Close closes the connection.
func (t *targetConn) Close() error {
	t.stop()
	return t.Conn.Close()
}

// release gives up the buffer and returns the connection, which the caller then owns, and what
// was read of it already; nil when the client's context has ended.
func (t *targetConn) release() (conn net.Conn, early []byte) {
	early, _ = t.in.Peek(t.in.Buffered())
	early = slices.Clone(early)
	putReader(t.in)
	if !t.stop() {
		return nil, nil
	}
	return t.Conn, early
}

// idleWatch reads from a connection on which nothing may come, to see it end.
type idleWatch struct {
	woken atomic.Bool
	done  chan struct{}
	alive bool // valid after done is closed
}

// rest begins to wait for another request, for targetIdleTimeout at most.
func (t *targetConn) rest() {
	putReader(t.in)
	t.in = nil
	t.SetReadDeadline(time.Now().Add(targetIdleTimeout))
	w := &idleWatch{done: make(chan struct{})}
	t.watch = w
	go func() {
		defer close(w.done)
		n, err := t.Conn.Read(make([]byte, 1))
		if w.alive = n == 0 && w.woken.Load() && errors.Is(err, os.ErrDeadlineExceeded); !w.alive {
			t.Close()
		}
	}()
}

// wake ends the wait, and reports whether the connection can be used. Otherwise it is closed.
func (t *targetConn) wake() bool {
	t.watch.woken.Store(true)
	t.SetReadDeadline(time.Unix(1, 0)) // long past: wakes a blocked read
	<-t.watch.done
	if !t.watch.alive {
		return false
	}
	t.bounded.Store(false)
	t.SetReadDeadline(time.Time{})
	t.takeReader()
	t.reused = true
	return true
}

// takeTarget returns a waiting connection to address that can be used, or nil.
func (h *httpConn) takeTarget(address string) *targetConn {
	for i, t := range h.idle {
		if t.address == address {
			h.idle = slices.Delete(h.idle, i, i+1)
			if t.wake() {
				return t
			}
			return nil
		}
	}
	return nil
}

// keepTarget lets a connection wait for another request, in place of the one that has waited
// longest if there are too many.
func (h *httpConn) keepTarget(t *targetConn) {
	if len(h.idle) == maxIdleTargets {
		h.idle[0].drop()
		h.idle = slices.Delete(h.idle, 0, 1)
	}
	t.rest()
	h.idle = append(h.idle, t)
}

// drop closes a waiting connection.
func (t *targetConn) drop() {
	t.Close()
	<-t.watch.done
}

// close ends the waiting connections to targets.
func (h *httpConn) close() {
	for _, t := range h.idle {
		t.drop()
	}
	h.idle = nil
}
