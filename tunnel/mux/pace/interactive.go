package pace

import "time"

// interaction is whether somebody waits for pieces of data that the session's other data delays.
type interaction struct {
	active bool
	last   time.Time // when there was the last sign of it
}

// expire ends the interaction when there has been no sign of it for long enough.
func (i *interaction) expire(now time.Time) {
	if i.active && now.Sub(i.last) >= interactiveTime {
		i.active = false
	}
}

// OnInteractive notes that a stream sends little and has nothing more: somebody may wait for it,
// and for what follows. On very fast paths the bound then leaves less room, and turns are shorter,
// until that has not happened for a second.
func (c *Controller) OnInteractive(now time.Time) {
	started := !c.interaction.active
	c.interaction = interaction{active: true, last: now}
	if started {
		c.updateBounds()
	}
}

// slack returns by how many bytes the bound exceeds the model's for acknowledgements that are late.
func (c *Controller) slack() float64 {
	rate := c.bandwidth.max
	most := float64(maxSlack)
	if c.interaction.active {
		most = min(max(shortSlack*shortSlackRate/rate, leastSlack), shortSlack)
	}
	return min(rate*rttSlack.Seconds(), most)
}
