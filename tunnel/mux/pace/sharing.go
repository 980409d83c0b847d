package pace

import "time"

// sharing finds out whether a competing flow shares the path, where the transport is end to end, so
// that it can be left to itself.
//
// Neither a long round trip nor an empty queue shows that: the queue may be the session's own, and
// a competing flow may be satisfied for a while. What shows it is what the bound costs. A session
// that is alone delivers as much with the bound as without. Next to a competing flow the bound
// yields, and the delivery rate falls. Then TCP is left to itself for a while. A path that has
// become slower looks the same at first, but stays as fast with the bound as TCP had been.
//
// To yield costs a part of the share for longer than it lasts. So before the session tries the
// bound again, and at the end of a startup that has found a queue, it only looks: it takes back a
// part of what TCP has inflight. Where that doesn't lower the rate, the session is alone, and the
// bound follows.
type sharing struct {
	free      bool          // TCP is left to itself: a competing flow is assumed
	hold      time.Duration // for how long, without another look
	next      time.Time     // when to look again at the earliest
	rounds    int           // without a break, since the bound changed
	reference float64       // the delivery rate that the bound may not lower, bytes a second
	look      look
	looks     int // in a row that were costly
}

// look is a time in which the session keeps somewhat less inflight than TCP did.
type look struct {
	underway bool
	bound    uint64   // bytes inflight
	old      uint64   // position: what was sent before the look is acknowledged then
	before   delivery // until then
	seen     delivery // since then
	rounds   int      // since then
	short    bool     // there was hardly a queue for a moment

	stopped time.Time // since when the transport has all but stopped; zero if it has not
}

// stop notes that the transport has all but stopped in a round. Where it goes no faster, since the
// path doesn't, there is nothing to see in a look, which ends.
func (l *look) stop(now time.Time) {
	switch {
	case !l.underway:
	case l.stopped.IsZero():
		l.stopped = now
	case now.Sub(l.stopped) > longestStop:
		*l = look{}
	}
}

// begin sets what the startup has reached as the rate that the bound may not lower.
func (s *sharing) begin(rate float64) {
	*s = sharing{reference: rate, hold: s.hold}
}

// pause notes that a round shows nothing of the path.
func (s *sharing) pause() { s.rounds = 0 }

// onRound notes the end of a round, and the mean delivery rate of the last cycleRounds. It returns
// true when it is time for a look.
func (s *sharing) onRound(now time.Time, mean float64) (due bool) {
	s.rounds++
	if s.free {
		// TCP needs cycleRounds to recover what the bound has cost.
		s.reference = mean
		return s.rounds >= 2*cycleRounds && !now.Before(s.next)
	}
	if s.rounds < settleRounds+cycleRounds {
		return false
	}
	s.reference = max(mean, s.reference*referenceDecay)
	switch {
	case mean < costlyBound*s.reference:
		s.giveWay(now)
	case s.rounds >= settleRounds+aloneRounds:
		s.hold = 0
	}
	return false
}

// giveWay leaves TCP to itself for a while.
func (s *sharing) giveWay(now time.Time) {
	s.free, s.hold, s.rounds = true, longer(s.hold), 0
	s.next = now.Add(s.hold)
}

// startLook begins a look with a bound in bytes. What was sent before it is acknowledged at the
// position old.
func (s *sharing) startLook(bound, old uint64) {
	s.free = false
	s.look = look{underway: true, bound: bound, old: old}
}

// onLookRound takes what a round of a look has delivered, up to a position, and whether there is
// hardly a queue. It returns true when the bound is to be tried. A path that has become longer may
// seem to have a queue, so the bound is tried from time to time whatever a look shows.
func (s *sharing) onLookRound(
	now time.Time, d delivery, position uint64, short bool,
) (tryBound bool) {
	l := &s.look
	if position < l.old {
		l.before.add(d)
		return false
	}
	l.short = l.short || short
	l.seen.add(d)
	if l.rounds++; l.rounds < lookRounds {
		return false
	}
	rate, reference := l.seen.rate(), s.reference
	if l.before.seconds > 0 { // some of it may have waited behind a gap
		reference = max(reference, min(l.before.rate(), fullGrowth*reference))
	}
	costly := rate < costlyLook*reference && !l.short
	s.look = look{}
	if s.looks++; costly && s.looks < maxLooks {
		s.giveWay(now)
		return false
	}
	s.reference, s.rounds, s.looks = min(rate, reference), 0, 0
	return true
}

// competes reports whether a competing flow is assumed, or looked for.
func (c *Controller) competes() bool {
	return c.competition.active || c.sharing.free || c.sharing.look.underway
}

// checkOthers looks for a competing flow at the end of a round.
func (c *Controller) checkOthers(now time.Time, appLimited bool) {
	cycleEnds := c.rounds%cycleRounds == 0
	if !c.observer.endToEnd {
		c.sharing.look = look{}
		if cycleEnds && !c.drain.underway {
			c.checkCompeting(now)
		}
		return
	}
	c.competition = competition{} // what it believed, before that was known, counts no more
	if cycleEnds {
		c.rtt.cycle = 0
	}
	if !appLimited {
		c.checkSharing(now)
	}
}

// boundCosts reports whether the bound costs a part of the rate next to a competing flow. Where the
// slack is more than the path holds, the bound yields to none; where TCP is left to itself because
// of losses, there is none.
func (c *Controller) boundCosts() bool { return c.rtt.min() > rttSlack && c.observer.lossy == 0 }

// checkSharing takes a round for the search for a competing flow. While TCP measures its own round
// trip, the rate shows nothing.
func (c *Controller) checkSharing(now time.Time) {
	if !c.boundCosts() {
		c.sharing.look = look{}
		c.sharing.pause()
		return
	}
	if c.observer.measuresRTT() {
		c.sharing.pause()
		c.sharing.look.stop(now)
		return
	}
	c.sharing.look.stopped = time.Time{}
	switch s := &c.sharing; {
	case s.look.underway:
		if s.onLookRound(now, c.bandwidth.recent[0], c.lastAcked, c.observer.short) {
			c.startDrain(c.rtt.least) // so that min RTT shows
		}
	case s.onRound(now, c.bandwidth.recentRate(cycleRounds)):
		c.look()
	}
}

// look begins a look for a competing flow. What is inflight then still fills the path, if no other
// flow takes a part of it.
func (c *Controller) look() {
	least := c.recentBandwidth()*c.rtt.least.Seconds() + float64(c.bounds.frame)
	most := max(least, lookGain*float64(min(c.inflight, c.observer.capacity())))
	c.sharing.startLook(c.boundOf(most), c.lastAcked+c.inflight)
}
