package mux

import (
	"cmp"
	"errors"
	"io"
	"math"
	"os"
	"time"

	"culvert/internal/rawsock"
	"culvert/tunnel/mux/budget"
)

// Read reads into p. It returns io.EOF after the peer's fin. When the stream was cut short it
// returns an error that wraps syscall.ECONNRESET, once what arrived before has been read.
func (st *Stream) Read(p []byte) (int, error) {
	s := st.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := st.awaitReadableLocked(); err != nil {
		return 0, err
	}
	mem := st.recv.mem()
	n := st.recv.queue.read(p)
	st.accountLocked(mem)
	st.consumeLocked(n)
	return n, nil
}

// WriteTo writes what arrives to w until the peer's fin (then the error is nil) or an error; that
// of w is a *CopyError. It saves the copy that Read makes. Data that w does not take is lost. When
// the stream is cut short and w has a write deadline, WriteTo sets one that has passed, so that
// nothing is held for a w that takes no more; a w that is a Stream keeps its deadline.
func (st *Stream) WriteTo(w io.Writer) (int64, error) {
	out := newBlockWriter(w, rawsock.NewWriter(w))
	defer out.free()
	st.session.mu.Lock()
	defer st.session.mu.Unlock()
	var total int64
	for {
		if err := st.awaitReadableLocked(); err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return total, err
		}
		n, err := st.writeSomeLocked(out)
		total += n
		if err != nil {
			return total, err
		}
	}
}

// writeSomeLocked writes at least some of what is queued, and returns how many bytes were taken. It
// unlocks the mutex while it writes.
func (st *stream) writeSomeLocked(out *blockWriter) (total int64, err error) {
	st.lendLocked(out)
	for again := true; again; again = st.retriesLocked(out, err) {
		if st.mustEndLocked() {
			out.limit()
		}
		st.session.mu.Unlock()
		var n int64
		n, err = out.write()
		st.session.mu.Lock()
		total += n
		st.consumeLocked(int(n))
		out.progress(n)
	}
	st.takeBackLocked(out)
	switch {
	case err == nil:
		return total, nil
	case errors.Is(err, os.ErrDeadlineExceeded) && st.mustEndLocked():
		return total, st.stalledErrorLocked(out)
	}
	st.recv.refused = true
	if st.recv.err != nil {
		return total, st.recv.err
	}
	return total, &CopyError{err}
}

// lendLocked moves blocks from the receiving queue to out. They count as held until they are taken
// back: the peer gets credit for them once they have been written.
func (st *stream) lendLocked(out *blockWriter) {
	q, mem := &st.recv.queue, st.recv.mem()
	left := cmp.Or(out.most, math.MaxInt)
	for n := range out.blocks {
		c := q.popSome(left)
		if c == nil {
			break
		}
		left -= c.w - c.r
		out.blocks[n] = c
		st.recv.lent += cap(c.buf)
	}
	if st.recv.mem() != mem { // popSome has copied
		st.accountLocked(mem)
	}
	st.recv.lentTo = out
	st.recv.lentCount++
}

// takeBackLocked frees the blocks that were lent.
func (st *stream) takeBackLocked(out *blockWriter) {
	mem := st.recv.mem()
	st.recv.lent, st.recv.lentTo = 0, nil
	st.accountLocked(mem)
	for i, c := range out.blocks {
		if c == nil {
			break
		}
		c.free()
		out.blocks[i] = nil
	}
}

// awaitReadableLocked waits until data is queued. It returns an error when there will be none.
func (st *stream) awaitReadableLocked() error {
	for {
		if err := st.readableLocked(); err != errNotYet {
			return err
		}
		st.recv.wake.Wait()
	}
}

// errNotYet means that there is nothing to read yet.
var errNotYet = errors.New("nothing to read")

// readableLocked returns nil when data is queued, errNotYet when there may be some later, and
// otherwise why there will be none.
func (st *stream) readableLocked() error {
	r := &st.recv
	switch {
	case r.deadline.expired:
		return os.ErrDeadlineExceeded
	case r.queue.len > 0:
		return nil
	case r.err != nil:
		return r.err
	case r.fin:
		return io.EOF
	}
	return errNotYet
}

// consumeLocked counts n bytes as taken by the user.
func (st *stream) consumeLocked(n int) {
	if !st.closed { // else all is discarded
		st.recv.consumed += uint64(n)
		st.announceCreditLocked()
	}
}

// discardLocked counts all that was received as taken. A closed stream that has data to send does
// so: without credit, a peer that writes before it reads would wait forever.
func (st *stream) discardLocked() {
	st.recv.consumed = st.recv.received
	st.announceCreditLocked()
}

// announceCreditLocked announces credit when a quarter of the window has become free. With less
// frequent announcements the peer would stall at rates that the window covers; with more frequent
// ones the frames would cost too much. A peer that has hardly credit left hears now and then, too,
// that something was taken: see limitStallLocked.
func (st *stream) announceCreditLocked() {
	r := &st.recv
	if r.fin || st.removed {
		return
	}
	next := r.consumed + r.window
	due := int64(next-r.limit) >= max(int64(r.window/4), 1)
	if !due && next > r.limit && r.limit-r.received < r.window/4 {
		due = time.Since(later(r.announced, st.opened)) >= lingerTime/4
	}
	if due {
		last := r.announced
		r.announced = time.Now()
		if !st.shrinkWindowLocked() {
			st.growWindowLocked(last)
		}
		if next = r.consumed + r.window; next <= r.limit {
			return
		}
		r.limit = r.consumed + r.window
		st.session.queueCreditLocked(st)
	}
}

// growWindowLocked doubles the window of a stream that is held back by it: when a quarter of it is
// consumed in less than a round trip, the peer may run out of credit before more can reach it. The
// threshold scales with the window, so that growth continues until the window covers the
// bandwidth-delay product. Credit is due, and was announced last at a time, zero for never.
func (st *stream) growWindowLocked(last time.Time) {
	s, r := st.session, &st.recv
	took, first := r.announced.Sub(last), last.IsZero()
	more := min(r.window, uint64(s.cfg.MaxWindow)-min(r.window, uint64(s.cfg.MaxWindow)))
	quick := !first && s.link != nil && took < s.link.rtt.least
	if !quick || more == 0 || int64(more) > s.growthLeftLocked() ||
		s.memory.pressure() > budget.Low {
		return
	}
	r.window += more
	s.memory.grown += int64(more)
}

// growthLeftLocked returns by how many bytes the windows may still grow. If all readers stall at
// once, what their streams hold should fit into MaxBuffered, so that none is reset: data takes up
// to largeBlock/adoptFrom as much memory until a quarter of MaxBuffered is held, and hardly more
// than itself then. Windows that have not grown count as well, but idle streams don't keep a busy
// one from growing at all.
func (s *Session) growthLeftLocked() int64 {
	limit := int64(s.cfg.MaxBuffered)
	first := int64(len(s.streams.byID)) * int64(s.cfg.Window)
	return max(min(limit/2, limit*5/8-first), limit/16) - s.memory.grown
}

// shrinkWindowLocked halves the window, while the session's client exceeds its share of the
// memory, and reports whether it has. Some is left, so that the stream still moves.
func (st *stream) shrinkWindowLocked() bool {
	s, r := st.session, &st.recv
	if s.memory.pressure() < budget.Exceeded {
		return false
	}
	less := r.window - max(r.window/2, min(r.window, leastWindow))
	r.window -= less
	s.memory.grown -= int64(less)
	return true
}

// mem returns the memory that the half holds, in bytes.
func (r *recvHalf) mem() int { return r.queue.mem + r.lent }

// dropReceivedLocked drops what was received and not read.
func (st *stream) dropReceivedLocked() {
	mem := st.recv.mem()
	st.recv.queue.release()
	st.flow.receivedDroppedLocked()
	if out := st.recv.lentTo; out != nil {
		st.recv.lent, st.recv.lentTo = 0, nil
		out.interrupt() // and it frees them
	}
	st.accountLocked(mem)
}

// accountLocked updates the session's count of memory after the receive queue has changed. before
// is what the queue held.
func (st *stream) accountLocked(before int) {
	s := st.session
	s.memory.buffered += st.recv.mem() - before
	if s.memory.largest != nil {
		s.memory.largest.update(st)
	}
	s.settleMemoryLocked()
	if st.removed && st.recv.mem() == 0 {
		delete(s.streams.leftovers, st)
		s.changed.Broadcast()
	}
}

// handleDataLocked takes bytes from the peer, which end the present frame of the record in.
func (st *stream) handleDataLocked(p []byte, in *recordInput) error {
	r := &st.recv
	if st.flow != nil && len(p) > 0 {
		return protocolErrorf("data on stream %d, which carries datagrams", st.id)
	}
	if r.fin {
		return protocolErrorf("data after fin on stream %d", st.id)
	}
	r.received += uint64(len(p))
	st.session.totals.Payload.Received += uint64(len(p))
	if r.received > r.limit {
		return protocolErrorf("stream %d sent %d bytes with credit for %d", st.id, r.received, r.limit)
	}
	if st.closed {
		st.discardLocked()
		return nil
	}
	mem := r.mem()
	// growthLeftLocked counts on this.
	scarce := st.session.memory.buffered > st.session.cfg.MaxBuffered/4
	if in.block != nil && len(p) >= adoptFrom && !scarce {
		c := in.block
		in.block = nil
		c.r, c.w = in.end-len(p), in.end
		c.seal() // the rest of the record follows
		r.queue.push(c)
	} else {
		r.queue.write(p)
	}
	st.accountLocked(mem)
	st.retryLaterLocked()
	st.wakeReaderLocked()
	return nil
}

// handleFinLocked ends the receiving half cleanly. An end before the answer would be that of a
// stream which was never opened.
func (st *stream) handleFinLocked() error {
	switch {
	case st.ours && st.state == opening:
		return protocolErrorf("fin on stream %d, which waits for an answer", st.id)
	case st.recv.fin:
		return protocolErrorf("second fin on stream %d", st.id)
	}
	st.recv.fin = true
	st.wakeReaderLocked()
	st.forgetIfDoneLocked()
	return nil
}

// forgetIfDoneLocked removes a stream whose halves have both ended cleanly.
func (st *stream) forgetIfDoneLocked() {
	if st.recv.fin && st.send.finSent {
		st.session.forgetLocked(st)
	}
}
