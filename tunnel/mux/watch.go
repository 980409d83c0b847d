package mux

import (
	"time"
)

// sendPing queues a new ping. Called with the mutex held.
func (s *Session) sendPing() {
	s.out.pingToken++
	s.queuePing()
}

// queuePing queues the newest ping, again after a resumption.
func (s *Session) queuePing() {
	s.out.pingSent = time.Now()
	s.out.pingDue = true
	s.out.wake.Broadcast()
}

// life is a carrier that knows when bytes last came. A record on a slow link arrives over seconds, and every byte of it is
// a sign of life.
type life interface{ LastRead() time.Time }

// lastLife returns when the peer last gave a sign of life. Called with the mutex held.
func (s *Session) lastLife() time.Time {
	last := s.in.last
	if l, ok := s.link.carrier.(life); ok {
		if t := l.LastRead(); t.After(last) {
			last = t
		}
	}
	return last
}

// waiting says since when the peer owes a sign of life: it has to acknowledge what was sent, and to answer a ping. Whatever
// came after a ping is as good as its answer. The zero time means that the peer owes nothing.
func (s *Session) waiting(lastLife time.Time) time.Time {
	since := s.out.owedSince
	if s.in.pongToken < s.out.pingToken && s.out.pingSent.After(lastLife) && since.IsZero() {
		since = s.out.pingSent
	}
	if !since.IsZero() && lastLife.After(since) {
		since = lastLife
	}
	return since
}

// patience is how long the peer may owe a sign of life: long against the round trip, also one that a full queue has
// stretched.
func (s *Session) patience() time.Duration {
	return max(s.cfg.Patience, 4*s.in.smoothedTrip)
}

// keepalive is how long the carrier may be idle.
func (s *Session) keepalive() time.Duration {
	if s.cfg.Keepalive < 0 {
		return 1 << 62 // never, in practice
	}
	return s.cfg.Keepalive
}

// watch has the session look at its carrier when that may be due: when the peer's time for a sign of life is over, or when
// a keepalive is. It only ever brings the look forward; one that comes early does nothing. Called with the mutex held.
func (s *Session) watch() {
	due := s.keepalive()
	if !s.waiting(s.in.last).IsZero() {
		due = min(due, s.patience())
	}
	at := time.Now().Add(due)
	switch {
	case s.watcher == nil:
		s.watcher = time.AfterFunc(due, s.look)
	case s.lookAt.IsZero() || at.Before(s.lookAt):
		s.watcher.Reset(due)
	default:
		return
	}
	s.lookAt = at
}

// look pings a carrier that was idle in a direction for too long, and replaces one that has gone silent.
func (s *Session) look() {
	s.mu.Lock()
	l := s.link
	if s.err != nil || l == nil {
		s.mu.Unlock()
		return
	}
	now := time.Now()
	s.lookAt = time.Time{}
	last := s.lastLife()
	idleSince := last
	if s.out.last.Before(idleSince) {
		idleSince = s.out.last
	}
	next := s.keepalive()
	silent := false
	if since := s.waiting(last); !since.IsZero() {
		left := s.patience() - now.Sub(since)
		silent = left <= 0
		next = min(next, left)
	} else if idle := now.Sub(idleSince); idle >= s.keepalive() {
		s.sendPing()
		next = min(next, s.patience())
	} else {
		next = s.keepalive() - idle
	}
	if !silent {
		s.watcher.Reset(next)
		s.lookAt = now.Add(next)
	}
	s.mu.Unlock()
	if silent {
		l.lose(ErrPeerSilent)
	}
}

// stopWatch ends the looking. Called with the mutex held.
func (s *Session) stopWatch() {
	if s.watcher != nil {
		s.watcher.Stop()
		s.lookAt = time.Time{}
	}
}

// measured takes a sample of the round trip.
func (s *Session) measured(trip time.Duration) {
	trip = max(trip, 1)
	s.pace.OnRTTSample(s.in.last, trip)
	if s.in.smoothedTrip == 0 {
		s.in.smoothedTrip = trip
	} else {
		s.in.smoothedTrip += (trip - s.in.smoothedTrip) / 8 // RFC 6298, section 2
	}
	if s.in.leastTrip == 0 || trip < s.in.leastTrip {
		s.in.leastTrip = trip
	}
}

// stopTimers is called with the mutex held once the session is dead.
func (s *Session) stopTimers() {
	s.stopWatch()
	if s.in.ackTimer != nil {
		s.in.ackTimer.Stop()
	}
	if s.awayTimer != nil {
		s.awayTimer.Stop()
	}
}
