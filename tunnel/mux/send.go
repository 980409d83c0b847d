package mux

import (
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// Write queues p for sending and returns once all of it is queued. It blocks while the stream's
// send buffer is full.
func (st *Stream) Write(p []byte) (int, error) {
	s := st.session
	s.mu.Lock()
	defer s.mu.Unlock()
	total := 0
	for {
		room, err := st.awaitRoomLocked()
		if err != nil {
			return total, err
		}
		if len(p) == 0 {
			return total, nil
		}
		n := min(len(p), room)
		st.send.queue.write(p[:n])
		if st.meter != nil {
			st.meter.Reserve(ToPeer, n)
		}
		st.noteStallLocked()
		s.settleMemoryLocked()
		s.wakeSenderLocked(&st.stream)
		total += n
		p = p[n:]
		if len(p) == 0 {
			return total, nil
		}
	}
}

// CopyError is an error of what a stream was copied from or to, as opposed to an error of the
// stream.
type CopyError struct{ Err error }

func (e *CopyError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *CopyError) Unwrap() error { return e.Err }

// ReadFrom sends what it reads from r until its end (then the error is nil) or an error of either:
// that of r is a *CopyError. It saves the copy that Write makes, and holds no buffer while it waits
// for an r that is a socket of package net. It does not end the stream's half: that is CloseWrite.
func (st *Stream) ReadFrom(r io.Reader) (int64, error) {
	var total int64
	in := newBlockReader(r)
	in.memory = &st.session.memory
	defer in.release()
	for {
		room, err := st.waitRoom(in)
		if err != nil {
			return total, err
		}
		in.piece = st.pieceToPeer()
		n, readErr := in.read(room)
		if in.denied {
			continue
		}
		if n > 0 {
			if err = st.enqueue(in, st.reserveToPeer(n)); err != nil {
				return total, err
			}
			total += int64(n)
		}
		switch {
		case errors.Is(readErr, io.EOF):
			return total, nil
		case readErr != nil:
			return total, &CopyError{readErr}
		}
	}
}

// enqueue queues what was read, once that is due. It returns an error when nothing can be sent any
// more.
func (st *Stream) enqueue(in *blockReader, due time.Time) error {
	s := st.session
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.settleMemoryLocked()
	st.awaitMeterLocked(in, due)
	switch {
	case st.send.err != nil:
		in.moveTo(&st.send.queue)
		st.send.unsent.take(&st.send.queue)
		st.send.queue.release()
		return st.send.err
	case st.send.ends():
		return net.ErrClosed
	}
	in.moveTo(&st.send.queue)
	st.noteStallLocked()
	s.wakeSenderLocked(&st.stream)
	return nil
}

// waitRoom waits until the send buffer has room for what in reads, and returns how many bytes.
func (st *Stream) waitRoom(in *blockReader) (int, error) {
	st.session.mu.Lock()
	defer st.session.mu.Unlock()
	full := st.send.queue.len >= st.sendBufferLocked(0)
	if full && in.raw != nil {
		st.watchSourceLocked(in)
		defer in.source.stop()
	}
	return st.awaitRoomLocked()
}

// awaitRoomLocked waits until the send buffer has room, and returns how many bytes. It returns an
// error when nothing can be sent any more. A buffer that was full must have become half empty:
// continuing a little at a time would be expensive.
func (st *stream) awaitRoomLocked() (room int, err error) {
	h := &st.send
	defer st.unpauseLocked()
	for waited := false; ; waited = true {
		limit := st.sendBufferLocked(0)
		switch {
		case h.err != nil:
			return 0, h.err
		case h.ends():
			return 0, net.ErrClosed
		case h.deadline.expired:
			return 0, os.ErrDeadlineExceeded
		case h.stalled:
			return 0, ErrStalled
		case h.queue.len < limit && (!waited || st.mayContinueLocked(limit)):
			return limit - h.queue.len, nil
		}
		if limit < st.session.cfg.SendBuffer {
			st.pauseLocked()
		}
		h.wake.Wait()
	}
}

// mayContinueLocked reports whether a writer that has waited may go on, where limit bytes may wait
// for the scheduler.
func (st *stream) mayContinueLocked(limit int) bool {
	n := st.send.queue.len
	return n < limit && n <= limit/2
}

// halfFull returns the length of a half-full send buffer, in bytes.
func (st *stream) halfFull() int { return st.session.cfg.SendBuffer / 2 }

// CloseWrite ends the sending half after what was written. The peer then reads io.EOF.
func (st *Stream) CloseWrite() error {
	s := st.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.send.err != nil {
		return st.send.err
	}
	if st.closed {
		return net.ErrClosed
	}
	st.send.fin = true
	st.send.wake.Broadcast()
	s.wakeSenderLocked(&st.stream)
	return nil
}

// canSendLocked reports whether the stream has a frame for the writer now: data with credit, its
// end, or a datagram.
func (st *stream) canSendLocked() bool {
	h := &st.send
	if h.err != nil {
		return false
	}
	if st.flow.due() {
		return true
	}
	if h.queue.len > 0 {
		return h.sent < h.limit
	}
	return h.endDue()
}

// ends reports whether nothing more may be queued, because an end follows.
func (h *sendHalf) ends() bool { return h.fin || h.resetCode != 0 }

// endDue reports whether a fin or a reset follows the queue.
func (h *sendHalf) endDue() bool { return (h.fin && !h.finSent) || h.resetCode != 0 }

// appendFramesLocked appends the stream's next data frame, of at most largest bytes, and its end
// when that is due, to a record with room for at least a header and minFill bytes. It must be the
// stream's turn. It respects the stream's deficit, so that streams share to within two quanta.
func (st *stream) appendFramesLocked(p *packer, largest int) {
	h := &st.send
	most := int(min(h.limit-h.sent, uint64(min(p.left()-headerSize, largest))))
	if n := min(h.queue.len, most); n > 0 {
		if !st.adoptBlockLocked(p, largest) {
			n = st.wholeBlocksLocked(min(n, st.turn.deficit), largest)
			p.b = appendHeader(p.b, kindData, st.id, n)
			start := len(p.b)
			p.b = p.b[:start+n]
			h.queue.read(p.b[start:])
			st.countDataLocked(n)
		}
		st.noteStallLocked()
		if h.queue.len <= st.halfFull() {
			h.wake.Broadcast()
		}
	}
	if h.queue.len == 0 && h.endDue() && p.left() >= endSize {
		st.appendEndLocked(p)
	}
}

// Blocks of data that was read from a socket are sent as they are, so that a part of them need not
// be copied, at both ends. A cut through one would move the ends of all that follow.

// isFrameLocked reports whether n bytes of a block, behind before bytes of other data, should be a
// frame by themselves.
func (st *stream) isFrameLocked(n, before, largest int) bool {
	return n >= mergeBelow && n <= largest &&
		uint64(before+n) <= st.send.limit-st.send.sent
}

// wantsRecordLocked reports whether the stream's next frame should begin a record, since what is in
// p leaves room for a part of it only.
func (st *stream) wantsRecordLocked(p *packer, largest int) bool {
	c := st.send.queue.head
	if c == nil || len(p.b) == 0 {
		return false
	}
	n := c.w - c.r
	return n > p.left()-headerSize && st.isFrameLocked(n, 0, largest)
}

// wholeBlocksLocked returns how many of the queue's first n bytes to send together: all, or as many
// as there are before a block that should be a frame and is cut by n.
func (st *stream) wholeBlocksLocked(n, largest int) int {
	before := 0
	for c := st.send.queue.head; c != nil && before < n; c = c.next {
		size := c.w - c.r
		if before > 0 && before+size > n && st.isFrameLocked(size, before, largest) {
			return before
		}
		before += size
	}
	return n
}

// adoptBlockLocked sends the queue's first block as it is, if that should be a frame and p has room
// for it. That may put the stream into debt with the scheduler, which it pays before its next turn.
func (st *stream) adoptBlockLocked(p *packer, largest int) bool {
	q := &st.send.queue
	c := q.head
	n := c.w - c.r
	if !st.isFrameLocked(n, 0, largest) || n > p.left()-headerSize || len(p.b)+headerSize > c.r {
		return false
	}
	q.pop()
	var header [headerSize]byte
	p.adopt(c, appendHeader(header[:0], kindData, st.id, n))
	st.countDataLocked(n)
	return true
}

// countDataLocked counts n bytes that were put into a record.
func (st *stream) countDataLocked(n int) {
	st.send.sent += uint64(n)
	st.session.totals.Payload.Sent += uint64(n)
	st.turn.deficit -= n
}

// endSize is the length of a fin and a reset.
const endSize = 2*headerSize + 2

func (st *stream) appendEndLocked(p *packer) {
	s, h := st.session, &st.send
	if h.fin && !h.finSent {
		h.finSent = true
		if s.out.awaited > 0 {
			s.changed.Broadcast()
		}
		p.b = appendHeader(p.b, kindFin, st.id, 0)
		s.countControlLocked(p, kindFin, st.id, 0)
	}
	code := h.resetCode
	if code == 0 && h.resetAfterFin && !st.recv.fin {
		code = CodeClosed
	}
	if code != 0 {
		p.b = appendFrame(p.b, kindReset, st.id, codePayload(code, ""))
		s.countControlLocked(p, kindReset, st.id, codeSize)
		st.reportOpenLocked(net.ErrClosed)
		st.failSendLocked(net.ErrClosed)
		s.forgetLocked(st)
		return
	}
	st.forgetIfDoneLocked()
}

// handleCreditLocked raises what may be sent. A limit below the present one is ignored.
func (st *stream) handleCreditLocked(limit uint64) {
	if limit > st.send.limit {
		st.send.limit = limit
		st.noteStallLocked()
		st.session.settleMemoryLocked()
		st.unpauseLocked() // it may have more now
		if st.canSendLocked() {
			st.session.wakeSenderLocked(st)
		}
	}
}
