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
	largest  largest        // whose data buffered is; nil far below MaxBuffered
	grown    int64          // bytes by which the windows of all streams have grown together

	// paused is the streams whose writers wait for memory, by the worst pressure at which they go on:
	// see readmittedAtLocked. Those that have waited for longest come first.
	paused [budget.Exceeded + 1]streamList

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
	if before >= leastSending && sending < leastSending && m.anyPaused() && s.err == nil {
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

// giveBack ends what reserve has begun: the blocks are free, or counted elsewhere. It needs no
// lock.
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
	return st.sendBufferAtLocked(st.session.memory.scarcity(extra))
}

// scarcity returns the pressure with extra bytes that are about to be used, and reports whether
// leastSending is used up, too.
func (m *memory) scarcity(extra int64) (pressure budget.Pressure, nothingLeft bool) {
	extra += m.reading.Load()
	return m.member.Pressure(extra), m.sending.Load()+extra >= leastSending
}

// sendBufferAtLocked is sendBufferLocked at a scarcity.
func (st *stream) sendBufferAtLocked(pressure budget.Pressure, nothingLeft bool) int {
	h, most := &st.send, st.session.cfg.SendBuffer
	credit := h.sent+uint64(h.queue.len) < h.limit
	switch {
	case pressure == budget.Low, pressure == budget.High && credit:
		return most
	case pressure == budget.High:
		return min(most, maxData)
	case credit && h.queue.len == 0 && !nothingLeft:
		return int(min(uint64(most), maxData, h.limit-h.sent))
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

// anyPaused reports whether a writer waits for memory.
func (m *memory) anyPaused() bool {
	for pressure := range m.paused {
		if m.paused[pressure].head != nil {
			return true
		}
	}
	return false
}

// readmittedAtLocked returns the worst pressure at which a writer of the stream that has waited may
// go on. It is false for one that may not at any: the queue must become shorter first.
//
// A better pressure never keeps it from going on. Nor does it get better by itself: when there is
// credit, or the queue has become so short that more is admitted, the writer is woken and looks.
func (st *stream) readmittedAtLocked() (worst budget.Pressure, ok bool) {
	for worst = budget.Exceeded; worst >= budget.Low; worst-- {
		if st.mayContinueLocked(st.sendBufferAtLocked(worst, false)) {
			return worst, true
		}
	}
	return 0, false
}

// listPausedLocked lists the stream as paused where it belongs now, and reports whether that is
// anywhere.
func (st *stream) listPausedLocked() bool {
	worst, ok := st.readmittedAtLocked()
	switch list := &st.session.memory.paused[worst]; {
	case !ok && st.send.pausing.list != nil:
		st.send.pausing.list.remove(st)
	case ok && st.send.pausing.list != list: // else it keeps its place
		list.pushBack(st)
	}
	return ok
}

// pauseLocked notes that a writer of the stream waits for memory.
func (st *stream) pauseLocked() {
	if m := &st.session.memory; st.listPausedLocked() {
		m.recheck.Store(true)
		m.member.Recheck() // what kept it waiting may have been given back before that
	}
}

// unpauseLocked lets the writers of a stream that wait for memory look whether there is some.
func (st *stream) unpauseLocked() {
	if st.send.pausing.list != nil {
		st.send.pausing.list.remove(st)
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

// resumePausedLocked wakes as many of the streams that wait for memory as there is memory for, and
// returns how many it has looked at: no others, unless their queues have grown since they paused.
func (s *Session) resumePausedLocked() (looks int) {
	m := &s.memory
	if s.err != nil || !m.anyPaused() {
		return 0
	}
	m.recheck.Store(true) // ahead of the looks
	extra := int64(0)
	for worst := budget.Exceeded; worst >= budget.Low; worst-- {
		for list := &m.paused[worst]; list.head != nil; looks++ {
			pressure, nothingLeft := m.scarcity(extra)
			if pressure > worst || (pressure == budget.Exceeded && nothingLeft) {
				break
			}
			st := list.head
			if st.mayContinueLocked(st.sendBufferAtLocked(pressure, nothingLeft)) {
				st.unpauseLocked()
				extra += largeBlock
			} else {
				st.listPausedLocked() // for a better pressure
			}
		}
	}
	if m.anyPaused() {
		m.member.Await(m.member.Pressure(extra))
	} else {
		m.recheck.Store(false)
	}
	return looks
}

// expelLocked ends the session, and frees at once what it holds for its streams. They fail as in
// every session that ends.
func (s *Session) expelLocked() {
	s.cfg.Bounds.Refused(bounds.Memory)
	s.beginCloseLocked(ErrMemory, CodeMemory, "")
	err := &SessionError{ErrMemory}
	s.streams.cut += len(s.streams.byID) + len(s.streams.leftovers)
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
