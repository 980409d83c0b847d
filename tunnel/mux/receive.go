package mux

import (
	"errors"
	"io"
	"os"
	"time"
)

// Read reads into p. It returns io.EOF after the peer's fin, and an error that wraps syscall.ECONNRESET when the stream
// was cut short, once what arrived before has been read.
func (st *Stream) Read(p []byte) (int, error) {
	s := st.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := st.awaitReadable(); err != nil {
		return 0, err
	}
	mem := st.recv.queue.mem
	n := st.recv.queue.read(p)
	st.account(mem)
	st.consume(n)
	return n, nil
}

// WriteTo writes what arrives to w until the peer's fin (then the error is nil) or an error. It saves the copy that
// Read makes. Data that w does not take is lost.
func (st *Stream) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		c, err := st.popReceived()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return total, err
		}
		size := c.w - c.r
		n, err := w.Write(c.buf[c.r:c.w])
		c.free()
		total += int64(n)
		if err == nil && n < size {
			err = io.ErrShortWrite
		}
		if err != nil {
			return total, err
		}
		st.session.mu.Lock()
		st.consume(n)
		st.session.mu.Unlock()
	}
}

// popReceived waits for data and returns the first chunk of it, which the caller owns. Its bytes are not consumed yet:
// the peer gets credit for them when they have gone where they should.
func (st *Stream) popReceived() (*chunk, error) {
	s := st.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := st.awaitReadable(); err != nil {
		return nil, err
	}
	mem := st.recv.queue.mem
	c := st.recv.queue.pop()
	st.account(mem)
	return c, nil
}

// awaitReadable waits until data is queued; else it returns why there will be none.
func (st *Stream) awaitReadable() error {
	r := &st.recv
	for {
		switch {
		case st.datagrams != nil:
			return errDatagrams
		case r.deadline.expired:
			return os.ErrDeadlineExceeded
		case r.queue.len > 0:
			return nil
		case r.err != nil:
			return r.err
		case r.fin:
			return io.EOF
		}
		r.wake.Wait()
	}
}

// consume counts n bytes as taken by the user.
func (st *Stream) consume(n int) {
	if !st.closed { // else all is discarded
		st.recv.consumed += uint64(n)
		st.announceCredit()
	}
}

// discard counts all that was received as taken. A closed stream that has still to send goes on so: a peer that writes
// before it reads what is left would wait for ever without credit.
func (st *Stream) discard() {
	st.recv.consumed = st.recv.received
	st.announceCredit()
}

// announceCredit announces credit when a quarter of the window has become free. Less often, the peer would stall at rates
// that the window covers; more often, credit frames would cost.
func (st *Stream) announceCredit() {
	r := &st.recv
	if r.fin || st.removed {
		return
	}
	if next := r.consumed + r.window; next-r.limit >= r.window/4 {
		st.growWindow()
		r.limit = r.consumed + r.window
		st.session.oweCredit(st)
	}
}

// growWindow doubles the window of a stream that is held back by it: when a quarter of it is taken in less than a round
// trip, the peer may run out of credit before more can reach it. The threshold scales with the window, so that growth goes on until
// the window covers the bandwidth-delay product. Called when credit is due.
func (st *Stream) growWindow() {
	s, r := st.session, &st.recv
	now := time.Now()
	took := now.Sub(r.announced)
	first := r.announced.IsZero()
	r.announced = now
	more := min(r.window, uint64(s.cfg.MaxWindow)-min(r.window, uint64(s.cfg.MaxWindow)))
	if first || took >= s.in.leastTrip || more == 0 || s.grown+more > uint64(s.cfg.MaxBuffered)/2 {
		return
	}
	r.window += more
	s.grown += more
}

// dropReceived forgets what was received and not read.
func (st *Stream) dropReceived() {
	mem := st.recv.queue.mem
	st.recv.queue.release()
	st.datagrams.dropReceived()
	st.account(mem)
}

// account updates the session's count of memory after the receive queue has changed; before is what it held.
func (st *Stream) account(before int) {
	s := st.session
	s.buffered += st.recv.queue.mem - before
	if st.removed && st.recv.queue.mem == 0 {
		delete(s.leftovers, st)
	}
}

// handleData files bytes from the peer. Called by the session's reader with the mutex held.
func (st *Stream) handleData(p []byte) error {
	r := &st.recv
	if st.datagrams != nil && len(p) > 0 {
		return protocolErrorf("data on stream %d, which carries datagrams", st.id)
	}
	if r.fin {
		return protocolErrorf("data after fin on stream %d", st.id)
	}
	r.received += uint64(len(p))
	if r.received > r.limit {
		return protocolErrorf("stream %d sent %d bytes with credit for %d", st.id, r.received, r.limit)
	}
	if st.closed {
		st.discard()
		return nil
	}
	mem := r.queue.mem
	r.queue.write(p)
	st.account(mem)
	r.wake.Broadcast()
	return nil
}

// handleFin ends the receiving half cleanly.
func (st *Stream) handleFin() error {
	if st.recv.fin {
		return protocolErrorf("second fin on stream %d", st.id)
	}
	st.recv.fin = true
	st.recv.wake.Broadcast()
	st.forgetIfDone()
	return nil
}

// forgetIfDone removes a stream whose halves have both ended cleanly.
func (st *Stream) forgetIfDone() {
	if st.recv.fin && st.send.finSent {
		st.session.forget(st)
	}
}
