package mux

import "time"

// sendObserver is a carrier that knows how much of what was written has left. On a slow link a
// record takes seconds, and the peer can't acknowledge a part of it.
type sendObserver interface {
	// TransportSent returns how many bytes the transport's peer has acknowledged so far, how many
	// that were written it has not, and when its last acknowledgement came. The peer may be a proxy.
	// It returns false when nothing is known. It must not block: it is called with the session's
	// mutex held.
	TransportSent() (acked, pending uint64, last time.Time, ok bool)
}

// sendWatch watches how what a link writes leaves.
type sendWatch struct {
	observer sendObserver // the carrier; nil if it knows nothing
	writing  bool         // the writer is in a call of WriteRecords
	calls    uint64       // of WriteRecords so far, with that one
	progress sendProgress
}

// sendProgress is what the transport has shown of the bytes that the peer must get before it can
// give a sign of life: those that were written when half of the patience was over. The wait for it
// is extended while they leave. What is written later doesn't count: a proxy may take it although
// the peer is gone.
type sendProgress struct {
	began   time.Time // when the transport was first asked about these bytes; zero for never
	askedAt time.Time // when it was last asked
	end     uint64    // of these bytes, as the transport counts
	acked   uint64    // by the transport's peer
	movedAt time.Time // when it last acknowledged any
	left    bool      // it has acknowledged all

	// end is final once settled. Until then a call of the writer still hands some of the bytes to the
	// transport: the one with this number, 0 while that is not known.
	settled bool
	call    uint64
}

// wait is for a sign of life that the peer owes. The zero wait is for none.
type wait struct {
	since    time.Time
	patience time.Duration
}

// overdueLocked returns when the patience with a wait is over, the zero time for none. Each
// acknowledgement of the transport's peer renews it; the last one leaves time for an answer.
func (l *link) overdueLocked(w wait) time.Time {
	if w.since.IsZero() {
		return time.Time{}
	}
	at := w.since.Add(w.patience)
	p := &l.sending.progress
	if p.began.Before(w.since) {
		return at
	}
	extra := w.patience
	if p.left {
		extra = min(max(probePatience, 4*l.rtt.smoothed), extra/2)
	}
	if extended := p.movedAt.Add(extra); extended.After(at) {
		return extended
	}
	return at
}

// askAtLocked returns when to ask the transport because of a wait, the zero time for never. That is
// whenever half of the patience has passed, and at its end.
func (l *link) askAtLocked(w wait) time.Time {
	p := &l.sending.progress
	switch {
	case l.sending.observer == nil || w.since.IsZero():
		return time.Time{}
	case p.began.Before(w.since):
		return w.since.Add(w.patience / 2)
	case p.left:
		return time.Time{}
	}
	return earliest(p.askedAt.Add(w.patience/2), l.overdueLocked(w))
}

// observeSendingLocked asks the transport if one of the waits wants that.
func (l *link) observeSendingLocked(now time.Time, waits [2]wait) {
	p := &l.sending.progress
	due, first := false, false
	for _, w := range waits {
		if at := l.askAtLocked(w); !at.IsZero() && !now.Before(at) {
			due = true
			first = first || p.began.Before(w.since)
		}
	}
	if !due {
		return
	}
	acked, pending, last, ok := l.sending.observer.TransportSent()
	if !ok {
		l.sending.observer = nil
		return
	}
	if first {
		*p = sendProgress{began: now, acked: acked, movedAt: last}
	}
	p.askedAt = now
	if acked > p.acked {
		p.acked, p.movedAt = acked, last
	}
	if !p.settled {
		p.end = acked + pending
		p.settled = l.isWrittenLocked()
	}
	p.left = p.settled && acked >= p.end
}

// isWrittenLocked reports whether the transport has all that was to be written when it was first
// asked: a ping that was queued, and the rest of what the writer was writing.
func (l *link) isWrittenLocked() bool {
	w := &l.sending
	if l.ping.due || !w.writing {
		return !l.ping.due
	}
	if w.progress.call == 0 {
		w.progress.call = w.calls
	}
	return w.calls > w.progress.call
}

// earliest returns the earlier of two times, of which the zero time is none.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}
