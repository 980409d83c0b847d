package pace

import "time"

// drain is a time in which the session keeps little inflight, to see what is left of the queue: to
// know whose queue it is, or else what min RTT is.
type drain struct {
	underway bool
	forRTT   bool
	inflight uint64        // the bound
	ownDelay time.Duration // by how much its data may delay itself
	old      uint64        // position: what was sent before is acknowledged then
	settled  time.Time     // when it was; data sent from then on finds little of the session's
	samples  int           // round trips of such data
	least    time.Duration // the least round trip
}

// onAck takes the peer's acknowledgement.
func (d *drain) onAck(now time.Time, position uint64) {
	if d.underway && d.settled.IsZero() && position >= d.old {
		d.settled = now
	}
}

// onSample takes a round trip. It returns true when there are enough.
func (d *drain) onSample(now time.Time, roundTrip time.Duration) (done bool) {
	d.least = shorter(d.least, roundTrip)
	if !d.settled.IsZero() && !now.Add(-roundTrip).Before(d.settled) {
		d.samples++
	}
	return d.samples >= drainSamples
}

// checkMinRTT notes the end of a round. A session that is busy for long never empties the queue
// quite, since the slack and the quantization budget are always there. Then even the least round
// trip of a window includes some of it, the bound grows by that, and min RTT with each window. So
// where min RTT has risen, the session drains the queue, which shows whether the path has become
// longer. While TCP decides how much is inflight, min RTT matters little.
func (c *Controller) checkMinRTT() {
	r := &c.rtt
	least := r.busyMin()
	switch {
	case least == 0, c.drain.underway, c.leftToTCP(), c.competes(), c.trial.underway():
	case r.drained == 0 || least < r.drained:
		r.drained = least
	case least > max(rttSlack, scaled(r.drained, noQueueFactor, noQueueSlack)):
		c.startDrain(r.drained)
		c.drain.forRTT = true
	}
}

// recentBandwidth returns the path's bandwidth, which may have fallen in the last cycle.
func (c *Controller) recentBandwidth() float64 {
	return min(c.bandwidth.max, c.bandwidth.recentRate(burstyRounds))
}

// frameDelay returns how long a frame takes on a path with such a bandwidth.
func (c *Controller) frameDelay(bandwidth float64) time.Duration {
	return time.Duration(float64(c.bounds.frame) / bandwidth * float64(time.Second))
}

// ownDelay returns by how much the session's data may delay itself while the session drains the
// queue: a frame follows another. On a slow path a few frames are all that is inflight, and leave
// together when their acknowledgement comes.
func (c *Controller) ownDelay(bandwidth float64) time.Duration {
	delay := c.frameDelay(bandwidth)
	if delay > slowFrame {
		return time.Duration(c.quantizationBudget() / bandwidth * float64(time.Second))
	}
	return delay
}

// onIdle notes that the session was idle with nothing inflight: its own queue is empty, and what it
// begins to send should not wait for a look at it.
func (c *Controller) onIdle() {
	looks := c.drain.underway || c.sharing.look.underway
	if looks && (c.drain.forRTT || c.observer.endToEnd) {
		c.drain, c.sharing.look = drain{}, look{}
		c.updateBounds()
	}
}

// boundOf returns the bound with which so many bytes are inflight at most: a frame is sent whole,
// if there is room for a byte.
func (c *Controller) boundOf(most float64) uint64 {
	frame := uint64(c.bounds.frame)
	return max(uint64(most), frame+1) - frame
}

// startDrain begins to drain the queue of a path with such a least round trip. Neither the largest
// bandwidth of the last cycle, which may have fallen, nor min RTT, which may include a queue, shows
// what the path holds.
func (c *Controller) startDrain(roundTrip time.Duration) {
	rate := c.recentBandwidth()
	c.drain = drain{
		underway: true,
		inflight: c.boundOf(drainGain * rate * roundTrip.Seconds()),
		ownDelay: c.ownDelay(rate),
		old:      c.lastAcked + c.inflight,
	}
}

// onDrainSample takes a round trip while the queue is drained.
func (c *Controller) onDrainSample(now time.Time, roundTrip time.Duration) {
	d := &c.drain
	if !d.onSample(now, roundTrip) {
		return
	}
	if d.forRTT {
		explained := c.rtt.onDrained(d.least, emptySlack+d.ownDelay)
		if !explained && c.observer.endToEnd && c.boundCosts() {
			c.sharing.giveWay(now)
		}
	} else if !c.observer.endToEnd {
		c.competition.onDrained(now, !c.showsEmpty(d.least, d.ownDelay))
	}
	*d = drain{}
	c.rtt.cycle = 0
	c.updateBounds()
}
