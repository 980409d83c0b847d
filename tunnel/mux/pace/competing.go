package pace

import "time"

// competition finds out whether a competing flow keeps the path's queue filled, where there is no
// transport end to end: else see sharing.
//
// A long round trip alone does not show that: the queue may be the session's own. So the session
// drains it: for some round trips it keeps less inflight than the path holds without a queue. If
// the round trip stays long, the queue is somebody else's. To keep it short would then be to yield,
// until nothing of the path is left. How much is inflight is then left to TCP, until the round trip
// gets short when the session drains the queue again, or does so by itself for some cycles.
type competition struct {
	active bool          // a competing flow is there
	hold   time.Duration // for how long that is assumed without another look
	pause  time.Duration // between looks that showed none
	next   time.Time     // when to look again at the earliest
	ended  time.Time     // when there was no competing flow any more
	clear  int           // cycles in a row that had a round trip without a queue
}

// onCycle notes whether even the least round trip of a probe cycle shows a queue, or else that
// there was none for a moment. It returns true when the queue should be drained to see whose it is.
func (c *competition) onCycle(now time.Time, queued, empty bool) (drain bool) {
	due := !now.Before(c.next)
	if !empty {
		c.clear = 0
		return queued && due
	}
	c.clear++
	switch {
	case c.clear < clearCycles:
	case c.active && due:
		c.end(now)
	case !c.active:
		c.pause = 0
	}
	return false
}

// onDrained notes whether a queue was left after the session had drained its own part.
func (c *competition) onDrained(now time.Time, queued bool) {
	c.clear = 0
	switch {
	case queued:
		// A competing flow that is there again has hardly been away: it was at the bottom of its
		// ups and downs, or this session took nearly all.
		if !c.active && now.Sub(c.ended) > relapse {
			c.hold = 0
		}
		c.active, c.hold = true, longer(c.hold)
		c.next = now.Add(c.hold)
	case c.active:
		c.end(now)
	default:
		c.pause = longer(c.pause)
		c.next = now.Add(c.pause)
	}
}

// end notes that there is no competing flow any more.
func (c *competition) end(now time.Time) {
	c.active, c.clear, c.pause = false, 0, 0
	c.next, c.ended = now, now
}

// longer returns the time after which to look again when the last one was too short.
func longer(last time.Duration) time.Duration {
	return min(max(lookFactor*last, minLook), maxLook)
}

// pathRTT returns the least round trip known of the path. That of a session with much to send may
// be that of a queue which was there from the beginning; others are shorter, since they don't wait
// for a whole frame.
func (c *Controller) pathRTT() time.Duration {
	return shorter(c.rtt.min(), shorter(c.rtt.windows[0], c.rtt.windows[1]))
}

// showsQueue reports whether a round trip is so long that there is a queue.
func (c *Controller) showsQueue(roundTrip time.Duration) bool {
	slack := rttSlack + c.frameDelay(c.bandwidth.max)
	return roundTrip > scaled(c.pathRTT(), queueFactor, slack)
}

// showsEmpty reports whether a round trip is so short that there is no queue. The slack is for what
// else may delay the session.
func (c *Controller) showsEmpty(roundTrip, slack time.Duration) bool {
	return roundTrip <= scaled(c.pathRTT(), noQueueFactor, emptySlack+slack)
}

// checkCompeting looks for a competing flow at the end of a cycle.
func (c *Controller) checkCompeting(now time.Time) {
	least := c.rtt.cycle
	c.rtt.cycle = 0
	if least == 0 {
		return
	}
	queued := c.showsQueue(least)
	empty := c.showsEmpty(least, unsentTime+c.frameDelay(c.bandwidth.max))
	if c.competition.onCycle(now, queued, empty) {
		c.startDrain(c.rtt.least)
	}
}
