package mux

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
)

// A write to what Deliver or WriteTo writes to waits as long as it takes while the stream lives,
// and for lingerTime without progress once the stream was cut short. Progress is hard to see:
// Linux wakes a writer only when a third of the socket's buffer is free, for which a slow reader
// of a large buffer needs minutes. So such writes are tried again every writeSlice, where that
// can't repeat bytes.

// resumesWrites reports whether a write that its deadline has ended tells how much was taken, so
// that the rest can be written again. Windows doesn't: a part of a write that is cancelled may have
// been taken all the same (https://go.dev/issue/24727). A variable for the tests.
var resumesWrites = runtime.GOOS != "windows"

// mustEndLocked reports whether the stream, or its session, has ended, so that writes are limited.
func (st *stream) mustEndLocked() bool { return st.ended || st.session.err != nil }

// retriesLocked reports whether a write that has failed with err is to be tried again.
func (st *stream) retriesLocked(out *blockWriter, err error) bool {
	switch {
	case !errors.Is(err, os.ErrDeadlineExceeded) || out.interrupted || !resumesWrites:
		return false
	case st.mustEndLocked():
		return out.limited && out.stalled < lingerTime
	case st.recv.delivery == nil: // the deadline isn't ours
		return false
	}
	out.deadline.SetWriteDeadline(time.Time{})
	return true
}

// retryLaterLocked makes a write that is under way while the queue grows start again after one to
// two times writeSlice, and every later one that takes as long.
func (st *stream) retryLaterLocked() {
	r := &st.recv
	switch {
	case !resumesWrites, r.retrying, r.delivery == nil, r.lentTo == nil, r.queue.len < retryBacklog:
		return
	}
	r.retrying = true
	seen := r.lentCount
	var timer *time.Timer
	timer = time.AfterFunc(writeSlice, func() {
		st.session.mu.Lock()
		defer st.session.mu.Unlock()
		out := r.lentTo
		if out == nil || out.deadline == nil || st.mustEndLocked() {
			r.retrying = false
			return
		}
		if r.lentCount == seen {
			out.deadline.SetWriteDeadline(time.Now())
		}
		seen = r.lentCount
		timer.Reset(writeSlice)
	})
}

// limitDeliveryLocked limits a write that is under way when the stream or its session ends.
func (st *stream) limitDeliveryLocked() {
	if out := st.recv.lentTo; out != nil {
		out.limit()
	}
}

// stalledErrorLocked returns the error of a write that was given up, or interrupted.
func (st *stream) stalledErrorLocked(out *blockWriter) error {
	cause := st.recv.err
	if cause == nil {
		cause = st.send.err
	}
	if cause == nil {
		cause = &SessionError{st.session.err}
	}
	if out.interrupted {
		return cause
	}
	return fmt.Errorf("%w: %w", ErrStalled, cause)
}

// WriteFailed reports whether a write of Deliver or WriteTo has failed, or may be about to, since
// one is under way. A system reports a reset to one call only, so a read that ends at that time may
// see an end of file instead.
func (st *Stream) WriteFailed() bool {
	st.session.mu.Lock()
	defer st.session.mu.Unlock()
	return st.recv.refused || st.recv.lentTo != nil
}

// limit makes the next write, or the one that is under way, wait for writeSlice at most, after
// which it is tried again, or for lingerTime where it can't be.
func (b *blockWriter) limit() {
	if b.deadline == nil || b.interrupted {
		return
	}
	if !b.limited {
		b.limited = true
		b.watch.Look(true)
	}
	wait := writeSlice
	if !resumesWrites {
		wait = lingerTime
	}
	b.deadline.SetWriteDeadline(time.Now().Add(wait))
}

// progress notes that a write took n bytes. It looks at the clock only where writes are limited.
func (b *blockWriter) progress(n int64) {
	if b.limited {
		b.stalled = b.watch.Look(n > 0)
	}
}
