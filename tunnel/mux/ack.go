package mux

import "time"

// ackState is how far what came on a carrier is acknowledged.
type ackState struct {
	position uint64    // the position that the peer was told last, in the hello or in an ack
	recordAt time.Time // when the last record before that ack came
	due      bool      // an ack is to be sent
	timer    *time.Timer
	firesAt  time.Time // zero when the timer is not set
}

func (a *ackState) stop() {
	if a.timer != nil {
		a.timer.Stop()
	}
}

// handleAckLocked takes the peer's acknowledgement. One that is repeated or late changes nothing.
func (l *link) handleAckLocked(position uint64) error {
	o := &l.session.out
	switch {
	case position > o.position:
		return protocolErrorf("ack of %d, at most %d possible", position, o.position)
	case position <= o.acked:
		return nil
	}
	o.acked = position
	o.retained.acknowledge(position)
	l.ackedAt = l.lastRead
	l.pace.OnAck(l.lastRead, position)
	if !l.sample.sentAt.IsZero() && position >= l.sample.position {
		l.onRTTSampleLocked(time.Since(l.sample.sentAt))
		l.sample = rttSample{}
	}
	l.owedSince = time.Time{}
	if position < o.position {
		l.owedSince = l.lastRead // it has just given a sign of life
	}
	l.resend = max(l.resend, position)
	o.wake.Broadcast() // there may be room to retain more
	if o.awaited > 0 {
		l.session.changed.Broadcast()
	}
	return nil
}

// scheduleAckLocked makes an ack due: at once when much was received or the last ack was a while
// ago, else after a delay. It leaves earlier with a record that is sent before.
func (l *link) scheduleAckLocked() {
	pending := l.session.received - l.ack.position
	if pending == 0 || l.ack.due {
		return
	}
	delay := ackDelay
	if pending >= ackSome {
		delay = ackInterval - l.lastRead.Sub(l.ack.recordAt)
	}
	if pending >= ackMuch || delay <= 0 {
		l.ack.due = true
		l.session.out.wake.Broadcast()
		return
	}
	at := l.lastRead.Add(delay)
	switch {
	case l.ack.timer == nil:
		l.ack.timer = time.AfterFunc(delay, l.ackNow)
	case l.ack.firesAt.IsZero() || at.Before(l.ack.firesAt):
		l.ack.timer.Reset(delay)
	default:
		return
	}
	l.ack.firesAt = at
}

// ackNow makes an ack due, unless one has left meanwhile.
func (l *link) ackNow() {
	s := l.session
	s.mu.Lock()
	defer s.mu.Unlock()
	l.ack.firesAt = time.Time{}
	if s.link == l && s.received != l.ack.position {
		l.ack.due = true
		s.out.wake.Broadcast()
	}
}
