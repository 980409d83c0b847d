package mux

import (
	"context"
	"net"
	"sync"
	"time"
)

// Stream is one reliable, ordered, bidirectional byte stream of a session. It implements net.Conn;
// all methods may be called concurrently. It must be ended with Close, CloseWithReset or Reset.
type Stream struct{ stream }

// stream is what a Stream and a Flow have in common: an entry in the session's table, how it was
// opened, what it holds in each direction, and how it ends.
type stream struct {
	session *Session
	id      uint32
	target  Target
	ours    bool  // opened by this side
	flow    *Flow // which the stream is part of; nil when it is part of a Stream

	// All below is guarded by session.mu.

	openResult error       // why the stream was refused; set with state == openRefused
	answered   func(error) // of OpenAtOnce; nil otherwise, and once it was called
	recv       recvHalf
	send       sendHalf
	turn       turn
	state      openState         // of opening it
	creditDue  bool              // in the session's list of streams that owe the peer credit
	closed     bool              // released by its user: closed, reset, refused, or never handed out
	removed    bool              // no longer in the session's table
	ended      bool              // cut short: markEndedLocked was called
	abort      bool              // Close is CloseWithReset
	onEnd      func(unread bool) // of NotifyEnd
	meter      Meter             // of SetMeter, or nil
	label      string            // of SetLabel
	opened     time.Time         // when it was put into the table
}

// openState is the progress of opening a stream.
type openState uint8

const (
	opening openState = iota // open frame sent or received, no answer yet
	openConfirmed
	openRefused
)

// recvHalf is what arrives: filled by the session's reader, emptied by Read.
type recvHalf struct {
	queue     queue
	wake      sync.Cond // data, end, error, deadline or, for the opener, the answer to open
	deadline  deadline
	received  uint64 // bytes received
	consumed  uint64 // bytes the user has taken
	limit     uint64 // credit announced: the offset that received may reach
	window    uint64 // what may be received and not taken
	lent      int    // bytes of memory of blocks that WriteTo is writing
	lentTo    *blockWriter
	lentCount uint64    // how often blocks were lent
	delivery  *delivery // of Deliver, until it ends

	announced time.Time // when credit was last announced
	err       error     // sticky; why the half was cut short. Read returns it once the queue is empty
	retrying  bool      // retryLaterLocked was called, and its timer runs
	refused   bool      // a write of Deliver or WriteTo has failed
	fin       bool      // the peer's fin was received
	rank      int32     // in the session's memory.largest, from 1; 0 for not in it
}

// sendHalf is what leaves: filled by Write, emptied by the session's writer.
type sendHalf struct {
	queue         queue
	metered       int       // bytes of memory of blocks that wait for the meter, to be queued then
	wake          sync.Cond // room, error or deadline
	deadline      deadline
	pausing       place  // among the streams whose writers wait for memory
	sent          uint64 // bytes put into records
	limit         uint64 // the peer's credit: the offset that sent may reach
	fin           bool   // end after the queue
	finSent       bool
	resetAfterFin bool        // closed while the peer sends: tell it to stop once this half has ended
	resetCode     Code        // of CloseWithReset: follows the queue, and the fin if that is due; or 0
	stalled       bool        // the source was reset, and the queue made no progress for lingerTime
	stall         *time.Timer // of CloseWithReset: checks that the queue makes progress
	unsent        unsent
	err           error // sticky
}

func newStream(s *Session, id uint32, target Target, ours bool) *Stream {
	st := new(Stream)
	st.init(s, id, target, ours)
	return st
}

func (st *stream) init(s *Session, id uint32, target Target, ours bool) {
	st.session, st.id, st.target, st.ours = s, id, target, ours
	st.recv.wake.L = &s.mu
	st.send.wake.L = &s.mu
	st.send.queue.sum = &s.memory.queued
	st.recv.window = uint64(s.cfg.Window)
	st.recv.limit = st.recv.window
	st.send.limit = uint64(s.peer.firstCredit)
}

// Target returns where the stream leads.
func (st *stream) Target() Target { return st.target }

// ID returns the stream's id, which is unique in its session.
func (st *stream) ID() uint32 { return st.id }

// NotifyEnd registers f to be called once the stream is cut short: reset by either side, refused,
// or lost with its session. If it already was, f is called at once. A clean end does not count.
// unread reports whether data that arrived before is still to be read. f must neither wait nor call
// a method of the stream or its session. There is one such f at a time; nil removes it.
func (st *stream) NotifyEnd(f func(unread bool)) {
	st.session.mu.Lock()
	defer st.session.mu.Unlock()
	st.onEnd = f
	if f != nil && st.ended {
		f(st.recv.queue.len > 0)
	}
}

// SetLinger is as for *net.TCPConn, but only 0 has an effect: it makes Close reset the stream,
// after what was written.
func (st *Stream) SetLinger(seconds int) error {
	st.session.mu.Lock()
	defer st.session.mu.Unlock()
	st.abort = seconds == 0
	return nil
}

// Close ends the stream: what was written is still sent, what was not read is dropped. A peer that
// continues to send sees a reset. After SetLinger(0), Close is CloseWithReset. Close does not wait.
func (st *stream) Close() error {
	s := st.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.closed {
		return nil
	}
	if st.abort {
		st.closeWithResetLocked(CodeAborted)
		return nil
	}
	st.releaseLocked()
	st.dropReceivedLocked()
	if st.recv.err == nil {
		st.recv.err = net.ErrClosed
	}
	st.wakeReaderLocked()
	st.send.wake.Broadcast()
	if st.removed || st.send.err != nil {
		return nil
	}
	switch {
	case st.state == opening:
		st.failSendLocked(net.ErrClosed)
		st.resetLocked(CodeCancelled)
	case st.send.finSent: // only to say that this side reads no more
		st.failSendLocked(net.ErrClosed)
		st.resetLocked(CodeClosed)
	default:
		st.send.fin = true
		st.send.resetAfterFin = !st.recv.fin
		st.discardLocked()
		s.wakeSenderLocked(st)
	}
	return nil
}

// AwaitSent waits, after CloseWrite, until the peer's session has all that was written and its end.
// It doesn't wait for more than a reset of the stream by either side. It returns an error when ctx
// is done or, a *SessionError, when the session has ended before.
func (st *Stream) AwaitSent(ctx context.Context) error {
	s := st.session
	defer s.awaitAcks()()
	var end uint64 // a position behind the stream's end, once that is known
	isSent := func() bool {
		if end == 0 && st.send.finSent {
			end = s.out.streamsEnd
		}
		return end > 0 && s.out.acked >= end
	}
	err := s.await(ctx, func() bool { return isSent() || end == 0 && st.send.err != nil })
	if err == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if isSent() { // and then the session has ended, or ctx
		return nil
	}
	return err
}

// releaseLocked ends the user's hold on the stream. A stream that the peer opened counts against
// MaxStreams until then: otherwise a peer could make this side work on any number of streams by
// resetting each at once.
func (st *stream) releaseLocked() {
	if st.closed {
		return
	}
	st.closed = true
	st.recv.deadline.clear()
	st.send.deadline.clear()
	if st.removed && !st.ours {
		st.session.streams.theirs--
	}
}

// Reset cuts the stream short at once: the peer's reads and writes fail, and what is queued in
// either direction is dropped. CloseWithReset still sends what was written.
func (st *stream) Reset(code Code) {
	s := st.session
	s.mu.Lock()
	defer s.mu.Unlock()
	st.releaseLocked()
	st.resetLocked(code)
}

// resetLocked cuts the stream short and tells the peer.
func (st *stream) resetLocked(code Code) {
	if !st.removed && st.session.err == nil {
		st.session.queueControlLocked(kindReset, st.id, codePayload(code, ""))
	}
	st.cutLocked(&ResetError{Code: code})
}

// cutLocked ends both halves with err and drops what was received: what is left is incomplete, so
// it must not end with a clean end of file, even if the peer's fin has come.
func (st *stream) cutLocked(err error) {
	st.dropReceivedLocked()
	if st.recv.err == nil {
		st.recv.err = err
	}
	st.endLocked(err)
}

// endLocked ends both halves with err and removes the stream from the table. What was received
// before stays readable, and a half that has ended cleanly stays clean: its data is complete.
func (st *stream) endLocked(err error) {
	st.markEndedLocked()
	st.reportOpenLocked(st.causeLocked(err))
	st.failSendLocked(err)
	if st.recv.err == nil && !st.recv.fin {
		st.recv.err = err
	}
	st.limitDeliveryLocked()
	st.wakeReaderLocked()
	st.session.forgetLocked(st)
}

// markEndedLocked notes, and reports once, that the stream is cut short.
func (st *stream) markEndedLocked() {
	if st.ended {
		return
	}
	st.ended = true
	if st.onEnd != nil {
		st.onEnd(st.recv.queue.len > 0)
	}
}

// failSendLocked drops what is queued to be sent, except for Unsent, and makes every later Write
// fail with err.
func (st *stream) failSendLocked(err error) {
	if st.send.err == nil {
		st.keepUnsentLocked()
		st.send.err = err
	}
	st.send.queue.release()
	st.session.memory.metered -= st.send.metered // which is about to be freed
	st.send.metered = 0
	if st.send.stall != nil {
		st.send.stall.Stop()
	}
	st.flow.dropQueuedLocked()
	st.session.sched.remove(st)
	st.session.settleMemoryLocked()
	st.unpauseLocked()
	st.send.wake.Broadcast()
}

// LocalAddr returns an address that names the stream.
func (st *Stream) LocalAddr() net.Addr { return Addr{st.id, "local"} }

// RemoteAddr returns the stream's target as an address.
func (st *Stream) RemoteAddr() net.Addr { return Addr{st.id, st.target.Address} }

// Addr is the address of an end of a stream.
type Addr struct {
	ID   uint32
	Name string
}

// Network returns "mux".
func (Addr) Network() string { return "mux" }

func (a Addr) String() string { return a.Name }

// SetDeadline sets both deadlines.
func (st *Stream) SetDeadline(t time.Time) error {
	if err := st.SetReadDeadline(t); err != nil {
		return err
	}
	return st.SetWriteDeadline(t)
}

// SetReadDeadline makes pending and later reads fail with os.ErrDeadlineExceeded at t. The zero
// time means never.
func (st *stream) SetReadDeadline(t time.Time) error {
	return st.setDeadline(&st.recv.deadline, &st.recv.wake, t)
}

// SetWriteDeadline makes pending and later writes fail with os.ErrDeadlineExceeded at t. The zero
// time means never.
func (st *Stream) SetWriteDeadline(t time.Time) error {
	return st.setDeadline(&st.send.deadline, &st.send.wake, t)
}

func (st *stream) setDeadline(d *deadline, wake *sync.Cond, t time.Time) error {
	st.session.mu.Lock()
	defer st.session.mu.Unlock()
	if st.closed {
		return net.ErrClosed
	}
	d.set(t, wake)
	return nil
}

// deadline is the deadline of one half, guarded by the lock of the condition that it wakes.
type deadline struct {
	timer   *time.Timer
	expired bool
}

func (d *deadline) set(t time.Time, wake *sync.Cond) {
	d.clear()
	if t.IsZero() {
		return
	}
	left := time.Until(t)
	if left <= 0 {
		d.expired = true
		wake.Broadcast()
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(left, func() {
		wake.L.Lock()
		defer wake.L.Unlock()
		if d.timer == timer { // otherwise it was set again meanwhile
			d.expired = true
			wake.Broadcast()
		}
	})
	d.timer = timer
}

func (d *deadline) clear() {
	d.expired = false
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}
