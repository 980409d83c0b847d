package mux

import "time"

// Direction is where the bytes of a stream go.
type Direction int

// The directions.
const (
	ToPeer Direction = iota
	FromPeer
)

// Meter decides how fast streams carry data. Its methods may be called concurrently, and with a
// session locked: they must not wait, and must not call methods of sessions and their streams.
type Meter interface {
	// Piece returns how many bytes may be carried at once, 0 when that doesn't matter.
	Piece(Direction) int

	// Reserve counts n bytes, and returns after how long they may be carried.
	Reserve(d Direction, n int) time.Duration
}

// SetMeter lets a meter decide how fast ReadFrom and Deliver carry data. It must be called before
// they are. What Write sends counts too, but doesn't wait: later data does.
func (st *Stream) SetMeter(m Meter) {
	st.session.mu.Lock()
	defer st.session.mu.Unlock()
	st.meter = m
}

// pieceToPeer returns how many bytes ReadFrom should read at once, 0 when that doesn't matter.
func (st *stream) pieceToPeer() int {
	if st.meter == nil {
		return 0
	}
	return st.meter.Piece(ToPeer)
}

// awaitMeter waits until n bytes that were read may be sent, or until nothing can be sent any more.
func (st *stream) awaitMeter(n int) {
	if st.meter == nil {
		return
	}
	wait := st.meter.Reserve(ToPeer, n)
	if wait <= 0 {
		return
	}
	due := time.Now().Add(wait)
	mu := &st.session.mu
	timer := time.AfterFunc(wait, func() {
		mu.Lock()
		defer mu.Unlock()
		st.send.wake.Broadcast()
	})
	defer timer.Stop()
	mu.Lock()
	defer mu.Unlock()
	for st.send.err == nil && !st.send.ends() && time.Now().Before(due) {
		st.send.wake.Wait()
	}
}

// pauseDeliveryLocked pauses a delivery that has something to write until it may, and reports
// whether it has. Then deliver is called again.
func (st *stream) pauseDeliveryLocked(d *delivery, out *blockWriter) bool {
	if st.meter == nil {
		return false
	}
	if d.paid > 0 { // the pause is over
		out.most = d.paid
		return false
	}
	out.most = 0
	d.paid = st.recv.queue.leading(len(out.blocks))
	if piece := st.meter.Piece(FromPeer); piece > 0 {
		d.paid = min(d.paid, piece)
		out.most = d.paid
	}
	wait := st.meter.Reserve(FromPeer, d.paid)
	if wait > 0 {
		d.pause = time.AfterFunc(wait, func() { st.deliver(d) })
	}
	return wait > 0
}

// settleDeliveryLocked counts what a delivery that needn't wait has written beyond what it has
// counted before: more may have come.
func (st *stream) settleDeliveryLocked(d *delivery, written int64) {
	if more := int(written) - d.paid; st.meter != nil && more > 0 {
		st.meter.Reserve(FromPeer, more)
	}
	d.paid = 0
}

// leading returns how many bytes are in the first blocks of the queue.
func (q *queue) leading(blocks int) (n int) {
	for c := q.head; c != nil && blocks > 0; c = c.next {
		n += c.w - c.r
		blocks--
	}
	return n
}
