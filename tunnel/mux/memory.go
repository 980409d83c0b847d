package mux

import (
	"sync/atomic"

	"culvert/internal/bounds"
	"culvert/tunnel/mux/budget"
)

// memory counts what a session holds, and what it has promised to hold. The session's mutex guards
// it, except for the atomic fields and member, which is set once.
type memory struct {
	member   *budget.Member // nil without a budget
	client   string         // whose share of the budget it is
	left     bool           // member has left the budget
	expelled bool           // member was expelled, which is dealt with once
	buffered int            // bytes of memory that received and unread data holds
	queued   int            // bytes of memory that holds what waits to be sent
	stalled  int            // likewise, where the peer has given no credit for any of it
	metered  int            // bytes of blocks that wait for a meter before they are queued
	grown    int64          // bytes by which the windows of all streams have grown together

	paused map[*stream]struct{} // streams whose writers wait for memory

	sending atomic.Int64 // queued, metered and retained bytes, without those that are stalled
	reading atomic.Int64 // bytes of blocks that are being read into, and not counted elsewhere yet
	recheck atomic.Bool  // streams are paused, maybe only because of reading
}

// joinBudgetLocked makes the session a member of its budget.
func (s *Session) joinBudgetLocked() {
	s.memory.member = s.cfg.Memory.Join(s.memory.client, s.memoryChanged)
}

// ReserveMemory takes n bytes of the session's budget for its client, unless the client holds its
// share already, for what is kept for the session elsewhere. What it returns gives them back; it is
// nil when they were not taken.
func (s *Session) ReserveMemory(n int) (release func()) {
	return s.cfg.Memory.Reserve(s.memory.client, n)
}

// settleMemoryLocked tells the budget what the session holds. It is called after every change.
func (s *Session) settleMemoryLocked() {
	m := &s.memory
	if m.member == nil || m.left {
		return
	}
	sending := m.queued + m.metered + s.out.retained.mem
	before := m.sending.Swap(int64(sending))
	if before >= leastSending && sending < leastSending && len(m.paused) > 0 && s.err == nil {
		m.member.Recheck()
	}
	held := sending + m.stalled + m.buffered
	if held == 0 && s.err != nil {
		m.left = true
		m.member.Leave()
		return
	}
	m.member.Hold(held)
}

// pressure returns how much of its share of the memory the session's client holds.
func (m *memory) pressure() budget.Pressure { return m.member.Pressure(m.reading.Load()) }

// reserve counts n bytes that are about to be read into, and reports whether there is memory for
// them. It needs no lock. The caller subtracts them from reading in the end.
func (m *memory) reserve(n int64) bool {
	before := m.reading.Add(n) - n
	if m.member.Pressure(before) < budget.Exceeded || m.sending.Load()+before < leastSending {
		return true
	}
	m.giveBack(n)
	return false
}

// giveBack ends what reserve has begun: the blocks are free, or counted elsewhere. It needs no lock.
func (m *memory) giveBack(n int64) {
	m.reading.Add(-n)
	if m.recheck.Load() && m.recheck.Swap(false) {
		m.member.Recheck()
	}
}

// sendingBlocked reports whether nothing more may be queued to be sent.
func (m *memory) sendingBlocked() bool {
	return m.pressure() == budget.Exceeded && m.sending.Load() >= leastSending
}

// sendBufferLocked returns how much of the stream's outgoing data may wait for the scheduler, in
// bytes: all of SendBuffer, unless the client holds much of its share of the memory. Past half of
// that, a stream to which the peer gives no credit gets little. Past all of it none gets more, but
// for leastSending; then it is for streams that have nothing else to send, and no more than they
// have credit for, so that it is soon free again. extra is memory that is about to be used.
func (st *stream) sendBufferLocked(extra int64) int {
	s, h := st.session, &st.send
	m := &s.memory
	extra += m.reading.Load()
	credit := h.sent+uint64(h.queue.len) < h.limit
	switch pressure := m.member.Pressure(extra); {
	case pressure == budget.Low, pressure == budget.High && credit:
		return s.cfg.SendBuffer
	case pressure == budget.High:
		return min(s.cfg.SendBuffer, maxData)
	case credit && h.queue.len == 0 && m.sending.Load()+extra < leastSending:
		return int(min(uint64(s.cfg.SendBuffer), maxData, h.limit-h.sent))
	}
	return 0
}

// noteStallLocked counts what the stream has to send as stalled when the peer has given no credit
// for it, and as queued otherwise. It is called when the credit or the queue has changed.
func (st *stream) noteStallLocked() {
	h, m := &st.send, &st.session.memory
	if h.queue.len > 0 && h.sent >= h.limit {
		h.queue.countIn(&m.stalled)
	} else {
		h.queue.countIn(&m.queued)
	}
}

// pauseLocked notes that a writer of the stream waits for memory.
func (st *stream) pauseLocked() {
	m := &st.session.memory
	if m.paused == nil {
		m.paused = make(map[*stream]struct{})
	}
	m.paused[st] = struct{}{}
	m.recheck.Store(true)
	m.member.Recheck() // what kept it waiting may have been given back before that
}

// unpauseLocked lets the writers of a stream that wait for memory look whether there is some.
func (st *stream) unpauseLocked() {
	m := &st.session.memory
	if len(m.paused) == 0 {
		return
	}
	if _, paused := m.paused[st]; paused {
		delete(m.paused, st)
		st.send.wake.Broadcast()
	}
}

// memoryChanged is called by the budget when memory was freed, or when the session has to end.
func (s *Session) memoryChanged() {
	s.mu.Lock()
	m := &s.memory
	expelled := m.member.Expelled() && !m.expelled
	if expelled {
		m.expelled = true
		s.expelLocked()
	}
	s.resumePausedLocked()
	s.mu.Unlock()
	if expelled {
		m.member.Yielded()
	}
}

// resumePausedLocked wakes as many of the streams that wait for memory as there is memory for.
func (s *Session) resumePausedLocked() {
	m := &s.memory
	if s.err != nil || len(m.paused) == 0 {
		return
	}
	m.recheck.Store(true) // ahead of the looks
	extra := int64(0)
	for st := range m.paused {
		if st.mayContinueLocked(st.sendBufferLocked(extra)) {
			st.unpauseLocked()
			extra += largeBlock
		} else if m.member.Pressure(extra) == budget.Exceeded && m.sending.Load() >= leastSending {
			break
		}
	}
	if len(m.paused) > 0 {
		m.member.Await(m.member.Pressure(extra))
	} else {
		m.recheck.Store(false)
	}
}

// expelLocked ends the session, and frees at once what it holds for its streams. They fail as in
// every session that ends.
func (s *Session) expelLocked() {
	s.cfg.Bounds.Refused(bounds.Memory)
	s.beginCloseLocked(ErrMemory, CodeMemory, "")
	err := &SessionError{ErrMemory}
	for _, st := range s.streams.byID {
		st.cutLocked(err)
	}
	for st := range s.streams.leftovers { // which had ended cleanly
		st.cutLocked(err)
	}
	// What the peer may still lack matters no more: a session that ends is not resumed. Nothing but
	// the close frame may follow what isn't sent again.
	if l := s.link; l != nil && l.resend != s.out.position {
		l.resend = s.out.position
		s.out.control.release()
		s.out.queued, s.out.credit = controlLoad{}, nil
	}
	s.out.retained.release()
	s.settleMemoryLocked()
}
