package pace

import (
	"fmt"
	"testing"
	"time"
)

// simUplink is a slow path, on which the quantization budget is a third of the BDP.
var simUplink = simBottleneck{rate: 1.25e6, roundTrip: 40 * time.Millisecond, buffer: 1e6}

// TestBusyForLong: the queue of a session that is busy for minutes is no longer than at first, and
// the path is as full. The session's own queue must not become a part of min RTT.
func TestBusyForLong(t *testing.T) {
	for _, link := range []simBottleneck{simUplink, simNarrow} {
		for _, bbr := range []bool{true, false} {
			t.Run(fmt.Sprintf("%.0f Mbit/s, BBR %v", link.rate*8/1e6, bbr), func(t *testing.T) {
				t.Parallel()
				s := newShare(link, bbr, bbr)
				s.run(3*time.Second, true, false)
				first := s.queue(5*time.Second, false)
				s.run(2*time.Minute, true, false)
				before := s.below.served
				late := s.queue(30*time.Second, false)
				rate := (s.below.served - before) / 30
				t.Logf("the queue takes %v at first, %v later", first, late)
				if late > first+rttSlack {
					t.Errorf("the queue takes %v to drain at first, %v later", first, late)
				}
				tolerance := 0.02
				if bbr { // it measures its round trip, three or four times
					tolerance = 0.03
				}
				near(t, "delivered", rate, link.rate, tolerance)
			})
		}
	}
	for _, rate := range []float64{1.25e6, 6.25e6} {
		t.Run(fmt.Sprintf("%.0f Mbit/s, no transport to ask", rate*8/1e6), func(t *testing.T) {
			t.Parallel()
			p := newSimPath(rate, 40*time.Millisecond)
			p.run(3*time.Second, nil)
			_, first, _ := p.observe(5 * time.Second)
			p.run(2*time.Minute, nil)
			delivered, late, _ := p.observe(30 * time.Second)
			t.Logf("the queue takes %v at first, %v later", first, late)
			if late > first+rttSlack {
				t.Errorf("the queue takes %v to drain at first, %v later", first, late)
			}
			near(t, "delivered", delivered, rate, 0.02)
		})
	}
}

// TestBusyPathBecomesLonger: that min RTT is doubted when it rises doesn't keep a session from
// filling a path that has become longer, nor does it look again and again.
func TestBusyPathBecomesLonger(t *testing.T) {
	p := newSimPath(simNarrow.rate, 40*time.Millisecond)
	p.run(15*time.Second, nil)
	p.roundTrip = 120 * time.Millisecond
	p.run(2*minRTTWindow+10*time.Second, nil) // until min RTT is that of the longer path
	drains, underway := 0, false
	delivered, _, _ := p.observeEach(30*time.Second, func() {
		if p.c.drain.underway && !underway {
			drains++
		}
		underway = p.c.drain.underway
	})
	near(t, "delivered", delivered, p.rate, 0.02)
	if drains > 1 {
		t.Errorf("the queue was drained %d times in 30 s", drains)
	}
}

// TestIdleEndsDrain: what a session sends after a pause isn't held back by a drain of before, whose
// queue is gone.
func TestIdleEndsDrain(t *testing.T) {
	p := newSimPath(simUplink.rate, simUplink.roundTrip)
	for deadline := time.Minute; !p.c.drain.forRTT; {
		if p.run(simStep, nil); p.elapsed() > deadline {
			t.Fatal("the queue isn't drained")
		}
	}
	held := p.c.Inflight()
	p.demand, p.offered = 1, p.sent // next to nothing
	p.run(time.Second, nil)
	p.demand = 0
	p.c.OnRestart(p.now)
	if p.c.drain.underway || p.c.Inflight() < held+minFrame {
		t.Errorf("after a pause, %+v and a bound of %d, %d before", p.c.drain, p.c.Inflight(), held)
	}
}

// TestIdleEndsLook: nor is it by a look for a competing flow.
func TestIdleEndsLook(t *testing.T) {
	s := newShare(simNarrow, false, false)
	s.run(4*time.Second, true, false)
	c := s.path.c
	bound := c.Inflight()
	c.look()
	c.updateBounds()
	held := c.Inflight()
	s.run(time.Second, false, false)
	c.OnRestart(s.path.now)
	if held >= bound || c.sharing.look.underway || c.Inflight() < bound/2 {
		t.Errorf("a bound of %d, in a look %d, after a pause %d and %+v", bound, held, c.Inflight(),
			c.sharing.look)
	}
}
