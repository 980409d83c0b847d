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

// reserveToPeer counts n bytes that were read, and returns when they may be sent, the zero time for
// at once.
func (st *stream) reserveToPeer(n int) (due time.Time) {
	if st.meter == nil {
		return time.Time{}
	}
	if wait := st.meter.Reserve(ToPeer, n); wait > 0 {
		return time.Now().Add(wait)
	}
	return time.Time{}
}

// awaitMeterLocked waits until what in has read is due to be sent, or until nothing can be sent any
// more. Meanwhile its blocks count as waiting to be sent; afterwards they don't, which the caller
// has to settle once it has queued or freed them.
func (st *stream) awaitMeterLocked(in *blockReader, due time.Time) {
	s, h := st.session, &st.send
	if due.IsZero() || h.err != nil || h.ends() {
		return
	}
	held := in.mem()
	h.metered += held
	s.memory.metered += held
	s.settleMemoryLocked()
	in.giveBack()
	timer := time.AfterFunc(time.Until(due), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		h.wake.Broadcast()
	})
	defer timer.Stop()
	for h.err == nil && !h.ends() && time.Now().Before(due) {
		h.wake.Wait()
	}
	if h.err == nil { // else failSendLocked has subtracted it
		h.metered -= held
		s.memory.metered -= held
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
