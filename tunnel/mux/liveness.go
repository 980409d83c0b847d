package mux

import (
	"context"
	"time"
)

// pingState is the newest ping on a carrier.
type pingState struct {
	token    uint64    // 0 before the first; tokens ascend over all carriers of a session
	due      bool      // it is to be sent
	answered bool      // its pong has come
	queuedAt time.Time // when it became due
}

// pongState is the answer that a carrier's peer waits for. Only the newest ping is answered, as
// RFC 6455, section 5.5.3 allows.
type pongState struct {
	due   bool
	token uint64
}

// Ping measures the round trip to the peer. One call at a time.
func (s *Session) Ping(ctx context.Context) (time.Duration, error) {
	s.mu.Lock()
	if s.link == nil {
		s.rtt.issued++ // the next link sends a ping that answers for this one
	} else {
		s.link.queuePingLocked()
		s.link.scheduleCheckLocked()
	}
	token := s.rtt.issued
	s.mu.Unlock()
	var rtt time.Duration
	err := s.await(ctx, func() bool {
		rtt = s.rtt.lastPing
		return s.rtt.answered >= token
	})
	return rtt, err
}

// queuePingLocked queues a new ping.
func (l *link) queuePingLocked() {
	s := l.session
	s.rtt.issued++
	l.ping = pingState{token: s.rtt.issued, due: true, queuedAt: time.Now()}
	s.out.wake.Broadcast()
}

// handlePingLocked queues the answer to a ping.
func (l *link) handlePingLocked(token uint64) {
	l.pong = pongState{due: true, token: token}
	l.session.out.wake.Broadcast()
}

// handlePongLocked takes the answer to the newest ping. One that repeats it, or answers an earlier
// ping, of this carrier or one before, does no harm; one to a ping that was never sent is an error.
func (l *link) handlePongLocked(token uint64) error {
	s := l.session
	switch {
	case token == 0, token > s.rtt.issued, token == l.ping.token && l.ping.due:
		return protocolErrorf("pong without a ping")
	case token != l.ping.token, l.ping.answered:
		return nil
	}
	l.ping.answered = true
	s.rtt.answered = token
	s.rtt.lastPing = max(time.Since(l.ping.queuedAt), 1)
	l.onRTTSampleLocked(s.rtt.lastPing)
	s.changed.Broadcast()
	return nil
}

// onRTTSampleLocked takes a sample of the round trip.
func (l *link) onRTTSampleLocked(rtt time.Duration) {
	rtt = max(rtt, 1)
	l.pace.OnRTTSample(l.lastRead, rtt)
	e := &l.session.rtt
	if e.smoothed == 0 {
		e.smoothed = rtt
	} else {
		e.smoothed += (rtt - e.smoothed) / 8 // RFC 6298, section 2
	}
	if e.least == 0 || rtt < e.least {
		e.least = rtt
	}
}

// readObserver is a carrier that knows when bytes last came. A record on a slow link arrives over
// seconds, and every byte of it is a sign of life.
type readObserver interface{ LastRead() time.Time }

// lastLifeLocked returns when the peer last gave a sign of life.
func (l *link) lastLifeLocked() time.Time {
	last := l.lastRead
	if o, ok := l.carrier.(readObserver); ok {
		if t := o.LastRead(); t.After(last) {
			last = t
		}
	}
	return last
}

// waitingSinceLocked returns since when the peer owes a sign of life: it has to acknowledge what
// was sent, and to answer a ping. Whatever came after a ping is as good as its answer. The zero
// time means that the peer owes nothing.
func (l *link) waitingSinceLocked(lastLife time.Time) time.Time {
	since := l.owedSince
	pinged := l.ping.token != 0 && !l.ping.answered
	if pinged && l.ping.queuedAt.After(lastLife) && since.IsZero() {
		since = l.ping.queuedAt
	}
	if !since.IsZero() && lastLife.After(since) {
		since = lastLife
	}
	return since
}

// patienceLocked returns how long the peer may owe a sign of life: long against the round trip,
// even one that a full queue has stretched.
func (s *Session) patienceLocked() time.Duration {
	return max(s.cfg.Patience, 4*s.rtt.smoothed)
}

// keepalive returns how long the carrier may be idle.
func (s *Session) keepalive() time.Duration {
	if s.cfg.Keepalive < 0 {
		return 1 << 62 // never, in practice
	}
	return s.cfg.Keepalive
}

// checkTimer calls checkLiveness.
type checkTimer struct {
	timer *time.Timer // nil before it is first set
	at    time.Time   // when it fires; zero when it is not set
}

func (c *checkTimer) stop() {
	if c.timer != nil {
		c.timer.Stop()
	}
}

// scheduleCheckLocked sets the timer of checkLiveness to when that may have something to do: when
// the peer's time for a sign of life is over, or when a keepalive is due. It only ever brings the
// check forward; a check that comes early does nothing.
func (l *link) scheduleCheckLocked() {
	s := l.session
	due := s.keepalive()
	if !l.waitingSinceLocked(l.lastRead).IsZero() {
		due = min(due, s.patienceLocked())
	}
	at := time.Now().Add(due)
	switch {
	case l.check.timer == nil:
		l.check.timer = time.AfterFunc(due, l.checkLiveness)
	case l.check.at.IsZero() || at.Before(l.check.at):
		l.check.timer.Reset(due)
	default:
		return
	}
	l.check.at = at
}

// checkLiveness pings a carrier that was idle in a direction for too long, and ends one that has
// gone silent.
func (l *link) checkLiveness() {
	s := l.session
	s.mu.Lock()
	if s.link != l {
		s.mu.Unlock()
		return
	}
	now := time.Now()
	l.check.at = time.Time{}
	last := l.lastLifeLocked()
	idleSince := last
	if l.lastSent.Before(idleSince) {
		idleSince = l.lastSent
	}
	next := s.keepalive()
	silent := false
	if since := l.waitingSinceLocked(last); !since.IsZero() {
		left := s.patienceLocked() - now.Sub(since)
		silent = left <= 0
		next = min(next, left)
	} else if idle := now.Sub(idleSince); idle >= s.keepalive() {
		l.queuePingLocked()
		next = min(next, s.patienceLocked())
	} else {
		next = s.keepalive() - idle
	}
	if !silent {
		l.check.timer.Reset(next)
		l.check.at = now.Add(next)
	}
	s.mu.Unlock()
	if silent {
		l.end(ErrPeerSilent)
	}
}
