package link

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Config describes a link. Both directions are alike except for RateA.
type Config struct {
	Delay time.Duration // one way: from a packet's last bit sent to its arrival
	Rate  float64       // bit/s, of whole IP packets
	RateA float64       // the same for what A sends; 0: Rate
	// Bytes that may be queued, beyond which packets are dropped; 0: the bandwidth-delay product of a
	// round trip, but at least 40 packets.
	Queue int
	Loss  float64 // probability that a packet that was sent never arrives, 0 to 1
	// Seeds the losses: with the same seed the same packets of a direction are lost.
	Seed uint64
	MTU  int // bytes; 0: 1500
	// Control is the congestion control of TCP over the link, any that the kernel has; empty: the
	// system's.
	Control string
}

// withDefaults checks a configuration and fills in the defaults.
func (c Config) withDefaults() (Config, error) {
	if c.MTU == 0 {
		c.MTU = defaultMTU
	}
	// The conditions are written so that NaN fails all of them.
	switch {
	case c.Delay < 0 || c.Delay > maxDelay:
		return c, fmt.Errorf("delay %v: must be 0 to %v", c.Delay, maxDelay)
	case !(c.Rate >= minRate && c.Rate <= maxRate):
		return c, fmt.Errorf("rate %g bit/s: must be %g to %g", c.Rate, minRate, maxRate)
	case c.RateA != 0 && !(c.RateA >= minRate && c.RateA <= maxRate):
		return c, fmt.Errorf("rate of A %g bit/s: must be %g to %g", c.RateA, minRate, maxRate)
	case !(c.Loss >= 0 && c.Loss <= 1):
		return c, fmt.Errorf("loss %g: must be 0 to 1", c.Loss)
	case c.MTU < minMTU || c.MTU > maxMTU:
		return c, fmt.Errorf("MTU %d: must be %d to %d", c.MTU, minMTU, maxMTU)
	}
	if c.Queue != 0 && c.Queue < c.MTU {
		return c, fmt.Errorf("queue of %d bytes: must hold a packet of %d", c.Queue, c.MTU)
	}
	return c, nil
}

// direction returns the rate and the queue of what A (0) or B (1) sends.
func (c Config) direction(n int) (rate float64, queue int) {
	rate, queue = c.Rate, c.Queue
	if n == 0 && c.RateA != 0 {
		rate = c.RateA
	}
	if queue == 0 {
		queue = max(int(rate/8*2*c.Delay.Seconds()), minDefaultQueue*c.MTU)
	}
	return rate, queue
}

// fate is the outcome of a packet.
type fate int

const (
	arrives fate = iota
	dropped      // the queue was full
	lost         // on the way
)

// shaper is a direction's transmitter: a queue that is sent at a rate, into a line with a delay and
// losses. It knows only times and sizes.
type shaper struct {
	cfg   Config
	rate  float64 // bit/s
	queue int     // bytes
	loss  *rand.Rand
	free  time.Time // when the transmitter will have sent all that is queued
}

// newShaper returns the shaper of one of the two directions. The configuration must be complete.
func newShaper(cfg Config, direction int) *shaper {
	rate, queue := cfg.direction(direction)
	return &shaper{cfg: cfg, rate: rate, queue: queue,
		loss: rand.New(rand.NewPCG(cfg.Seed, uint64(direction)))}
}

// take returns the fate of a packet of size bytes that is sent at now, and when it arrives. Lost
// packets use their share of the rate, as on a real line.
func (s *shaper) take(now time.Time, size int) (time.Time, fate) {
	if s.free.Before(now) {
		s.free = now
	}
	backlog := s.free.Sub(now).Seconds() * s.rate / 8
	if int(backlog)+size > s.queue {
		return time.Time{}, dropped
	}
	s.free = s.free.Add(time.Duration(float64(size) * 8 / s.rate * float64(time.Second)))
	if s.loss.Float64() < s.cfg.Loss {
		return time.Time{}, lost
	}
	return s.free.Add(s.cfg.Delay), arrives
}
