package mux

import (
	"errors"
	"net"
	"time"

	"culvert/internal/bounds"
	"culvert/internal/rawsock"
	"culvert/internal/stall"
)

// CloseWithReset ends the stream as Close does, but cut short: the peer receives what was written,
// and then a reset with the code in place of an end of file. It is for a stream whose source has
// failed, and does not wait. When the peer takes nothing for lingerTime, the rest is dropped.
func (st *stream) CloseWithReset(code Code) {
	st.session.mu.Lock()
	defer st.session.mu.Unlock()
	st.closeWithResetLocked(code)
}

func (st *stream) closeWithResetLocked(code Code) {
	if st.closed {
		return
	}
	st.releaseLocked()
	st.dropReceivedLocked()
	if st.recv.err == nil {
		st.recv.err = net.ErrClosed
	}
	st.markEndedLocked()
	st.wakeReaderLocked()
	st.send.wake.Broadcast()
	switch h := &st.send; {
	case st.removed || h.err != nil:
	case !st.ours && st.state == opening: // nothing could be written yet
		st.resetLocked(code)
	case h.queue.len == 0 && (!h.fin || h.finSent):
		st.resetLocked(code)
	default:
		h.resetCode = code
		st.discardLocked()
		st.session.wakeSenderLocked(st)
		st.limitStallLocked()
	}
}

// HasLeft reports whether the stream is cut short, which a Read learns only after what was received
// before.
func (st *stream) HasLeft() bool {
	st.session.mu.Lock()
	defer st.session.mu.Unlock()
	return st.ended
}

// limitStallLocked drops what is queued to be sent when none of it leaves for lingerTime.
func (st *stream) limitStallLocked() {
	h := &st.send
	seen := h.sent
	var watch stall.Watch
	watch.Look(true)
	h.stall = time.AfterFunc(stallCheck, func() {
		st.session.mu.Lock()
		defer st.session.mu.Unlock()
		if h.err != nil {
			return
		}
		moved := h.sent != seen || !st.isBlockedLocked()
		seen = h.sent
		if watch.Look(moved) >= lingerTime {
			st.session.cfg.Bounds.Refused(bounds.Linger)
			st.resetLocked(CodeStalled)
			return
		}
		h.stall.Reset(stallCheck)
	})
}

// isBlockedLocked reports whether it is the peer that keeps the stream from sending: it gives no
// credit. On a slow link a stream among many may wait for its turn, and without a carrier the peer
// can take nothing.
func (st *stream) isBlockedLocked() bool {
	return st.send.sent >= st.send.limit && st.session.link != nil
}

// ErrStalled is the error of a stream that was cut short when what was sent before the cut was not
// taken in time: by the peer, in ReadFrom, or by the writer of Deliver and WriteTo.
var ErrStalled = errors.New("the receiver takes nothing")

// sourceWatch looks after the source of ReadFrom while nothing is read from it, because the
// stream's queue is full: a source that was reset in the meantime does not wait for ever. The
// session's mutex guards it.
type sourceWatch struct {
	timer   *time.Timer // made by the first wait
	waiting bool
	sent    uint64      // of the stream, when it was last looked at
	watch   stall.Watch // while the source has gone
}

// watchSourceLocked begins a wait for room.
func (st *Stream) watchSourceLocked(in *blockReader) {
	w := &in.source
	w.waiting = true
	w.watch.Look(true)
	if w.timer == nil {
		w.timer = time.AfterFunc(stallCheck, func() { st.checkSource(in) })
	} else {
		w.timer.Reset(stallCheck)
	}
}

// stop ends the wait.
func (w *sourceWatch) stop() {
	w.waiting = false
	w.timer.Stop()
}

// checkSource looks at a source, and makes ReadFrom fail when it has gone and nothing moves.
func (st *Stream) checkSource(in *blockReader) {
	gone := rawsock.HasFailed(in.raw)
	st.session.mu.Lock()
	defer st.session.mu.Unlock()
	w := &in.source
	if !w.waiting {
		return
	}
	moved := !gone || st.send.sent != w.sent || !st.isBlockedLocked()
	w.sent = st.send.sent
	if w.watch.Look(moved) >= lingerTime {
		st.send.stalled = true
		st.session.cfg.Bounds.Refused(bounds.Linger)
		st.send.wake.Broadcast()
		return
	}
	w.timer.Reset(stallCheck)
}

// handleResetLocked takes the peer's reset. What arrived before stays readable, unless the reset's
// code means that nobody waits for it.
func (st *stream) handleResetLocked(code Code) {
	err := &ResetError{Code: code, Remote: true}
	switch {
	case st.ours && st.state == opening:
		st.refuseOwnLocked(code, "")
	case code == CodeCancelled || code == CodeStalled:
		st.cutLocked(err)
	default:
		st.endLocked(err)
	}
}
