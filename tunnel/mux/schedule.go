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
	place       // whose list is nil while the stream is not scheduled
	deficit int // bytes the stream may still send in this round
	little  int // how many times in a row the stream had little to send
}

// sent notes that n bytes of the stream were sent and whether it has more, and reports whether
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

// streamList is a doubly linked list of streams: through their turns, or through their places among
// the paused ones. A stream is in at most one list of each sort.
type streamList struct {
	head, tail *stream
	paused     bool // it is of the second sort
}

// place is a stream's place in a list.
type place struct {
	list       *streamList // nil for none
	prev, next *stream
}

// placeOf returns the stream's place in lists of this sort.
func (l *streamList) placeOf(st *stream) *place {
	if l.paused {
		return &st.send.pausing
	}
	return &st.turn.place
}

func (l *streamList) pushBack(st *stream) {
	p := l.placeOf(st)
	if p.list != nil {
		p.list.remove(st)
	}
	*p = place{list: l, prev: l.tail}
	if l.tail == nil {
		l.head = st
	} else {
		l.placeOf(l.tail).next = st
	}
	l.tail = st
}

func (l *streamList) remove(st *stream) {
	p := l.placeOf(st)
	if p.prev == nil {
		l.head = p.next
	} else {
		l.placeOf(p.prev).next = p.next
	}
	if p.next == nil {
		l.tail = p.prev
	} else {
		l.placeOf(p.next).prev = p.prev
	}
	*p = place{}
}
