package pace

import (
	"testing"
	"time"
)

// TestInteractivePath: while somebody waits, a path is as full as without, where it is not a very
// fast one.
func TestInteractivePath(t *testing.T) {
	eachSimPath(t, func(t *testing.T, p *simPath) {
		p.run(5*time.Second, nil)
		before := p.served
		p.run(5*time.Second, func() { p.c.OnInteractive(p.now) })
		near(t, "delivered", (p.served-before)/5, p.rate, 0.04)
		p.run(2*time.Second, nil)
		checkSteady(t, p)
	})
}

// TestInteractive: on a very fast path, while somebody waits, less is inflight and turns are
// shorter, but an acknowledgement by volume still comes in time; after a second without a sign of
// it, all is as before.
func TestInteractive(t *testing.T) {
	const rate, roundTrip = 1e9, 100 * time.Microsecond
	now := time.Now()
	c := New(testConfig, Start{Now: now})
	var position uint64
	ack := func() {
		now = now.Add(minRound)
		position += uint64(rate * minRound.Seconds())
		c.OnAck(now, position)
		c.OnRTTSample(now, roundTrip)
	}
	for range 20 * cycleRounds {
		ack()
	}
	bound, turn := c.Inflight(), c.TurnSize()
	if bound < 4<<20 || turn < 3*maxFrame {
		t.Fatalf("a bound of %d bytes, turns of %d", bound, turn)
	}
	for range 3 {
		c.OnInteractive(now)
		if got := c.Inflight(); got < 256<<10 || got > 512<<10 || c.TurnSize() != maxFrame {
			t.Errorf("interactive: a bound of %d bytes, turns of %d", got, c.TurnSize())
		}
		for last := now; now.Sub(last) < interactiveTime-2*minRound; {
			ack()
		}
		if got := c.Inflight(); got > 1<<20 {
			t.Errorf("within a second: a bound of %d bytes", got)
		}
	}
	for range 20 * cycleRounds {
		ack()
	}
	near(t, "the bound after it", float64(c.Inflight()), float64(bound), 0.1)
	if c.TurnSize() != turn {
		t.Errorf("turns of %d bytes, want %d", c.TurnSize(), turn)
	}
}

// TestSlack: the slack follows the rate, without a jump, and an interaction never adds to it.
func TestSlack(t *testing.T) {
	c := New(testConfig, Start{Now: time.Now()})
	at := func(rate float64, interactive bool) float64 {
		c.bandwidth.max, c.interaction.active = rate, interactive
		return c.slack()
	}
	for rate := 1.0; rate < 1e12; rate *= 1.05 {
		for _, interactive := range []bool{false, true} {
			here, next := at(rate, interactive), at(1.05*rate, interactive)
			if next > 1.051*here || next < here/1.051 {
				t.Errorf("%g B/s: from %.0f to %.0f, interactive %v", rate, here, next, interactive)
			}
		}
		if alone, next := at(rate, false), at(rate, true); next > alone {
			t.Errorf("%g B/s: %.0f alone, %.0f next to an interaction", rate, alone, next)
		}
	}
	for _, test := range []struct {
		rate        float64
		interactive bool
		want        float64
	}{
		{1e6, false, 5e3}, {1e6, true, 5e3}, {100e6, true, 500e3}, {125e6, true, 512 << 10},
		{256e6, true, 512 << 10}, {512e6, true, 256 << 10}, {2e9, true, 256 << 10},
		{512e6, false, 2.56e6}, {2e9, false, 4 << 20},
	} {
		if got := at(test.rate, test.interactive); got != test.want {
			t.Errorf("%g B/s: %.0f, want %.0f, interactive %v",
				test.rate, got, test.want, test.interactive)
		}
	}
}
