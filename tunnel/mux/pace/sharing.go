package pace

import "time"

// sharing finds out whether a competing flow shares the path, where the transport is end to end, so
// that it can be left to itself.
//
// Neither a long round trip nor an empty queue shows that: the queue may be the session's own, and
// a competing flow may be satisfied for a while. What shows it is what the bound costs. A session
// that is alone delivers as much with the bound as without. Next to a competing flow the bound
// yields, and the delivery rate falls. Then TCP is left to itself for a while, until the session
// tries the bound again. A path that has become slower looks the same at first, but stays as fast
// with the bound as TCP had been.
type sharing struct {
	free      bool          // TCP is left to itself: a competing flow is assumed
	settling  int           // rounds left in which the session empties the queue, to try the bound
	hold      time.Duration // for how long, without another look
	next      time.Time     // when to try the bound again at the earliest
	rounds    int           // without a break, since the bound changed
	freely    delivery      // what TCP has delivered, left to itself, once it had its share
	reference float64       // the delivery rate that the bound may not lower, bytes a second
}

// begin sets what the startup has reached as the rate that the bound may not lower.
func (s *sharing) begin(rate float64) {
	*s = sharing{reference: rate, hold: s.hold}
}

// pause takes that a round shows nothing of the path.
func (s *sharing) pause() { s.rounds = 0 }

// onRound takes what a round has delivered, and the mean delivery rate of the last cycleRounds.
func (s *sharing) onRound(now time.Time, d delivery, mean float64) {
	s.rounds++
	if s.free {
		s.onFreeRound(now, d)
		return
	}
	s.settling = max(s.settling-1, 0)
	if s.rounds < settleRounds+cycleRounds {
		return
	}
	s.reference = max(mean, s.reference*referenceDecay)
	switch {
	case mean < costlyBound*s.reference:
		s.free, s.hold = true, longer(s.hold)
		s.next, s.rounds, s.freely = now.Add(s.hold), 0, delivery{}
	case s.rounds >= settleRounds+aloneRounds:
		s.hold = 0
	}
}

// onFreeRound measures what TCP delivers on its own.
func (s *sharing) onFreeRound(now time.Time, d delivery) {
	if s.rounds <= cycleRounds {
		return // TCP recovers what the bound has cost
	}
	s.freely.bytes += d.bytes
	s.freely.seconds += d.seconds
	if s.rounds >= 2*cycleRounds && !now.Before(s.next) {
		s.free, s.settling, s.rounds = false, settleRounds, 0
		s.reference = s.freely.bytes / s.freely.seconds
	}
}

// competes reports whether a competing flow is assumed.
func (c *Controller) competes() bool { return c.competition.active || c.sharing.free }

// checkOthers looks for a competing flow at the end of a round.
func (c *Controller) checkOthers(now time.Time, appLimited bool) {
	cycleEnds := c.rounds%cycleRounds == 0
	if !c.observer.endToEnd {
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

// checkSharing takes a round for the search for a competing flow. Where the slack is more than the
// path holds, the bound yields to none. Where TCP is left to itself because of losses, the bound
// shows nothing, nor does it while TCP measures its own round trip.
func (c *Controller) checkSharing(now time.Time) {
	if c.rtt.min() <= rttSlack || c.observer.lossy > 0 || c.observer.measuresRTT() {
		c.sharing.pause()
		return
	}
	c.sharing.onRound(now, c.bandwidth.recent[0], c.bandwidth.recentRate(cycleRounds))
}
