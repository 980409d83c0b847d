package mux

// scheduler orders the streams that have something to send: deficit round-robin with a list of
// fresh streams that is served before the backlog (RFC 8290, section 4.2). A stream that wakes with
// little to send is served at once. One that keeps waking can't starve the backlog, because a fresh
// stream that empties moves to the backlog for one more round.
//
// The scheduler is guarded by the session's mutex.
type scheduler struct {
	fresh, backlog streamList
}

// turn is a stream's place in the scheduler.
type turn struct {
	list       *streamList // nil while not scheduled
	prev, next *stream
	deficit    int // bytes the stream may still send in this round
	little     int // how many times in a row the stream had little to send
}

// sent takes that n bytes of the stream were sent and whether it has more, and reports whether
// somebody seems to wait for what it sends.
func (t *turn) sent(n int, more bool) (interactive bool) {
	if more || n > littleData {
		t.little = 0
	} else if n > 0 {
		t.little++
	}
	return n > 0 && t.little >= littleTurns
}

// wake schedules a stream that has something to send, with quantum bytes for its first turn. It is
// a no-op for one that is scheduled already.
func (d *scheduler) wake(st *stream, quantum int) {
	if st.turn.list != nil {
		return
	}
	st.turn.deficit = quantum
	d.fresh.pushBack(st)
}

// next returns the stream whose turn it is, or nil when none can send. A stream may send quantum
// bytes in a round.
func (d *scheduler) next(quantum int) *stream {
	for {
		st := d.fresh.head
		if st == nil {
			st = d.backlog.head
		}
		if st == nil {
			return nil
		}
		if !st.canSendLocked() {
			d.yield(st)
			continue
		}
		if st.turn.deficit <= 0 {
			st.turn.deficit += quantum
			d.backlog.pushBack(st)
			continue
		}
		return st
	}
}

// yield takes away the turn of a stream that has nothing to send now.
func (d *scheduler) yield(st *stream) {
	if st.turn.list == &d.fresh {
		d.backlog.pushBack(st)
		return
	}
	d.remove(st)
}

// remove takes a stream out of the scheduler.
func (d *scheduler) remove(st *stream) {
	if st.turn.list != nil {
		st.turn.list.remove(st)
	}
}

// empty reports whether no stream is scheduled. One that is may still have nothing to send.
func (d *scheduler) empty() bool { return d.fresh.head == nil && d.backlog.head == nil }

// streamList is a doubly linked list through the streams' turns. A stream is in at most one list.
type streamList struct{ head, tail *stream }

func (l *streamList) pushBack(st *stream) {
	if st.turn.list != nil {
		st.turn.list.remove(st)
	}
	st.turn.list, st.turn.prev, st.turn.next = l, l.tail, nil
	if l.tail == nil {
		l.head = st
	} else {
		l.tail.turn.next = st
	}
	l.tail = st
}

func (l *streamList) remove(st *stream) {
	if st.turn.prev == nil {
		l.head = st.turn.next
	} else {
		st.turn.prev.turn.next = st.turn.next
	}
	if st.turn.next == nil {
		l.tail = st.turn.prev
	} else {
		st.turn.next.turn.prev = st.turn.prev
	}
	st.turn.list, st.turn.prev, st.turn.next = nil, nil, nil
}
