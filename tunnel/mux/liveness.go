package mux

import (
	"context"
	"slices"
	"time"
)

// pingState is the pings on a carrier.
type pingState struct {
	token   uint64 // of the newest, 0 before the first; see pings
	due     bool   // the newest is to be sent
	waiting []ping // without an answer, the newest last; timedPings at most
	probe   probe
}

// ping is a ping on a carrier.
type ping struct {
	token    uint64
	queuedAt time.Time
}

// probe is a Probe that was not answered yet, zero for none.
type probe struct {
	since time.Time
	token uint64 // of its ping
	again bool   // another one is to follow: the path may have changed since
}

// roundTrips is what pings and acknowledgements have shown of a carrier's round trip. It is zero
// before the first sample. The next carrier may take another path, and a sample may be as long as
// an end or the path was frozen.
type roundTrips struct {
	smoothed time.Duration
	least    time.Duration
}

// add takes a sample.
func (r *roundTrips) add(sample time.Duration) {
	if r.smoothed == 0 {
		r.smoothed = sample
	} else {
		r.smoothed += (sample - r.smoothed) / 8 // RFC 6298, section 2
	}
	if r.least == 0 || sample < r.least {
		r.least = sample
	}
}

// pongState is the answer that a carrier's peer waits for. Only the newest ping is answered, as
// RFC 6455, section 5.5.3 allows.
type pongState struct {
	due   bool
	token uint64
}

// Ping measures the round trip to the peer. Concurrent calls may share a ping.
func (s *Session) Ping(ctx context.Context) (time.Duration, error) {
	s.mu.Lock()
	if s.link == nil {
		s.pings.issued++ // the next link sends a ping that answers for this one
	} else {
		s.link.queuePingLocked()
		s.link.scheduleCheckLocked()
	}
	token := s.pings.issued
	s.mu.Unlock()
	var rtt time.Duration
	err := s.await(ctx, func() bool {
		rtt = s.pings.roundTrip
		return s.pings.answered >= token
	})
	return rtt, err
}

// queuePingLocked queues a new ping, unless one is queued that has yet to be sent.
func (l *link) queuePingLocked() {
	s := l.session
	if l.ping.due {
		return
	}
	s.pings.issued++
	l.ping.token, l.ping.due = s.pings.issued, true
	if len(l.ping.waiting) == timedPings {
		drop := 1 // the first shows since when the peer owes an answer, unless it has shown life since
		if l.ping.waiting[0].queuedAt.Before(l.lastLifeLocked()) {
			drop = 0
		}
		l.ping.waiting = slices.Delete(l.ping.waiting, drop, drop+1)
	}
	l.ping.waiting = append(l.ping.waiting, ping{l.ping.token, time.Now()})
	s.out.wake.Broadcast()
}

// handlePingLocked queues the answer to a ping.
func (l *link) handlePingLocked(token uint64) {
	l.pong = pongState{due: true, token: token}
	l.session.out.wake.Broadcast()
}

// handlePongLocked takes the answer to a ping, which also answers those before it. One that comes
// again or late, or answers a ping of an earlier carrier, does no harm; one to a ping that was
// never sent is an error.
func (l *link) handlePongLocked(token uint64) error {
	s := l.session
	if token == 0 || token > s.pings.issued || (token == l.ping.token && l.ping.due) {
		return protocolErrorf("pong without a ping")
	}
	i := slices.IndexFunc(l.ping.waiting, func(p ping) bool { return p.token == token })
	if i < 0 {
		return nil
	}
	queuedAt := l.ping.waiting[i].queuedAt
	l.ping.waiting = slices.Delete(l.ping.waiting, 0, i+1)
	if p := l.ping.probe; token >= p.token {
		l.ping.probe = probe{}
		if p.again {
			l.probeLocked()
		}
	}
	s.pings.answered = token
	s.pings.roundTrip = max(time.Since(queuedAt), 1)
	l.onRTTSampleLocked(s.pings.roundTrip)
	s.changed.Broadcast()
	return nil
}

// onRTTSampleLocked takes a sample of the round trip.
func (l *link) onRTTSampleLocked(rtt time.Duration) {
	rtt = max(rtt, 1)
	l.pace.OnRTTSample(l.lastRead, rtt)
	l.rtt.add(rtt)
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
	if since.IsZero() {
		for _, p := range l.ping.waiting {
			if !p.queuedAt.Before(lastLife) {
				since = p.queuedAt
				break
			}
		}
	}
	if !since.IsZero() && lastLife.After(since) {
		since = lastLife
	}
	return since
}

// patienceLocked returns how long the peer may owe a sign of life: long against the round trip,
// even one that a full queue has stretched.
func (l *link) patienceLocked() time.Duration {
	return max(l.session.cfg.Patience, 4*l.rtt.smoothed)
}

// probePatienceLocked is patienceLocked for the answer to a probe. It is shorter, since the path
// has probably changed, and a session that can be resumed loses little with its carrier.
func (l *link) probePatienceLocked() time.Duration {
	if l.session.resumption == nil || l.rtt.smoothed == 0 {
		return l.patienceLocked()
	}
	return max(probePatience, 4*l.rtt.smoothed)
}

// Probe asks the peer for a sign of life, because the path to it may have changed. Unless there is
// one within half a second or four round trips, the carrier is ended with ErrPeerSilent. It does
// nothing while there is no carrier.
func (s *Session) Probe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.link
	if l == nil || s.err != nil {
		return
	}
	if !l.ping.probe.since.IsZero() { // further probes don't extend the peer's time
		l.ping.probe.again = true
		return
	}
	l.probeLocked()
}

// probeLocked begins a probe.
func (l *link) probeLocked() {
	l.queuePingLocked()
	l.ping.probe = probe{since: time.Now(), token: l.ping.token}
	l.scheduleCheckLocked()
}

// DropCarrier ends a carrier because of err, as if its connection had failed. It does nothing if
// the session has another one by now, or none.
func (s *Session) DropCarrier(carrier Carrier, err error) {
	s.mu.Lock()
	l := s.link
	s.mu.Unlock()
	if l != nil && l.carrier == carrier {
		l.end(err)
	}
}

// waitsLocked returns the waits for a sign of life. A probe is answered by its pong and nothing
// else, since bytes that were on the way when the path changed still arrive; but while they arrive
// the peer is not silent.
func (l *link) waitsLocked(lastLife time.Time) (waits [2]wait) {
	if since := l.waitingSinceLocked(lastLife); !since.IsZero() {
		waits[0] = wait{since, l.patienceLocked()}
	}
	if since := l.ping.probe.since; !since.IsZero() {
		if lastLife.After(since) {
			since = lastLife
		}
		waits[1] = wait{since, l.probePatienceLocked()}
	}
	return waits
}

// silentAtLocked returns when the peer's time for a sign of life is over, the zero time when it
// owes none.
func (l *link) silentAtLocked(waits [2]wait) time.Time {
	return earliest(l.overdueLocked(waits[0]), l.overdueLocked(waits[1]))
}

// Responsive reports whether the session has a carrier whose peer hasn't owed a sign of life for
// longer than an answer takes: two round trips and overdueTime.
func (s *Session) Responsive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link == nil {
		return false
	}
	since := s.link.waitingSinceLocked(s.link.lastLifeLocked())
	return since.IsZero() || time.Since(since) <= 2*s.smoothedRTTLocked()+overdueTime
}

// pingAtLocked returns when a ping is due if the peer owes no sign of life: when the carrier was
// idle in a direction for the keepalive, or soon after data has ceased to come, as this side would
// notice by nothing else that the carrier is dead.
func (l *link) pingAtLocked(lastLife time.Time) time.Time {
	s := l.session
	idleSince := lastLife
	if l.lastSent.Before(idleSince) {
		idleSince = l.lastSent
	}
	at := idleSince.Add(s.keepalive())
	if l.receiving && s.cfg.Keepalive >= 0 && len(s.streams.byID) > 0 {
		if quiet := lastLife.Add(quietTime); quiet.Before(at) {
			return quiet
		}
	}
	return at
}

// keepalive returns how long the carrier may be idle.
func (s *Session) keepalive() time.Duration {
	if s.cfg.Keepalive < 0 {
		return 1 << 55 // a year: never, in practice
	}
	return s.cfg.Keepalive
}

// arrivesLocked reports whether some of a record has come, lately. A carrier may know the time of
// the last byte to a millisecond only.
func (l *link) arrivesLocked(lastLife, now time.Time) bool {
	return lastLife.Sub(l.lastRead) >= partialTime && now.Sub(lastLife) < l.patienceLocked()
}

// showLifeLocked gives the peer a sign of life while a record of it arrives: on a slow link that
// may take longer than its patience, and it can't be answered before it is there. Where the peer
// sees what has left it needs no sign; behind a proxy, and on systems that don't tell, it sees
// nothing.
func (l *link) showLifeLocked(now time.Time) {
	if now.Sub(l.lastSent) >= quietTime {
		l.ack.due = true // of the same position; the extension lets acks be repeated
		l.session.out.wake.Broadcast()
	}
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
// the peer's time for a sign of life is over, or when a ping is due. It only ever brings the check
// forward; a check that comes early does nothing.
func (l *link) scheduleCheckLocked() {
	at := earliest(l.nextLookLocked(l.waitsLocked(l.lastRead)), l.pingAtLocked(l.lastRead))
	if l.check.timer == nil || l.check.at.IsZero() || at.Before(l.check.at) {
		l.setCheckLocked(at)
	}
}

// nextLookLocked returns when checkLiveness has something to do about the waits, the zero time for
// none.
func (l *link) nextLookLocked(waits [2]wait) (at time.Time) {
	for _, w := range waits {
		at = earliest(at, earliest(l.askAtLocked(w), l.overdueLocked(w)))
	}
	return at
}

// setCheckLocked sets the timer of checkLiveness.
func (l *link) setCheckLocked(at time.Time) {
	if l.check.timer == nil {
		l.check.timer = time.AfterFunc(time.Until(at), l.checkLiveness)
	} else {
		l.check.timer.Reset(time.Until(at))
	}
	l.check.at = at
}

// checkLiveness pings a carrier that was idle in a direction for too long, or on which data has
// ceased to come, and ends one that has gone silent.
func (l *link) checkLiveness() {
	s := l.session
	s.mu.Lock()
	if s.link != l {
		s.mu.Unlock()
		return
	}
	now := time.Now()
	l.check.at = time.Time{}
	if l.held() { // release begins again
		s.mu.Unlock()
		return
	}
	last := l.lastLifeLocked()
	waits := l.waitsLocked(last)
	if l.silentAtLocked(waits).IsZero() && !now.Before(l.pingAtLocked(last)) {
		l.receiving = false
		l.queuePingLocked()
		waits = l.waitsLocked(last)
	}
	l.observeSendingLocked(now, waits)
	partial := l.arrivesLocked(last, now)
	if partial {
		l.showLifeLocked(now)
	}
	at := l.silentAtLocked(waits)
	silent := !at.IsZero() && !now.Before(at)
	if !silent {
		// The peer may answer long before its time is over, and the keepalive begins again then.
		ping := l.pingAtLocked(last)
		if !ping.After(now) {
			ping = now.Add(s.keepalive())
		}
		next := earliest(l.nextLookLocked(waits), ping)
		if partial || len(l.ping.waiting) > 0 && len(s.streams.byID) > 0 { // it may be behind data
			next = earliest(next, now.Add(quietTime))
		}
		l.setCheckLocked(next)
	}
	s.mu.Unlock()
	if silent {
		l.end(ErrPeerSilent)
	}
}
