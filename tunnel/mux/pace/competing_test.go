package pace

import (
	"fmt"
	"testing"
	"time"
)

// simNarrow is a path that a rival may fill: its queue holds one and a half BDPs.
var simNarrow = simBottleneck{
	rate: 6.25e6, roundTrip: 40 * time.Millisecond, buffer: 1.5 * 6.25e6 * 0.04,
}

// eachRival runs a test for a session and a rival under BBR and CUBIC.
func eachRival(t *testing.T, test func(t *testing.T, bbr, rivalBBR bool)) {
	names := map[bool]string{true: "BBR", false: "CUBIC"}
	for _, bbr := range []bool{true, false} {
		for _, rivalBBR := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s next to %s", names[bbr], names[rivalBBR]), func(t *testing.T) {
				t.Parallel()
				test(t, bbr, rivalBBR)
			})
		}
	}
}

// TestShare: next to a rival, a session has about the share that its TCP would have, or half,
// whoever of them begins; so on average over paths, since who loses first decides much. After the
// rival, the queue is short again.
func TestShare(t *testing.T) {
	eachRival(t, func(t *testing.T, bbr, rivalBBR bool) {
		for _, ahead := range []time.Duration{
			-3 * time.Second, simNarrow.roundTrip, 3 * time.Second,
		} {
			var with, without float64
			for _, rate := range []float64{5.25e6, 6.25e6, 7.25e6} {
				link := simNarrow
				link.rate = rate
				run := func(alone bool) (float64, *share) {
					s := newShare(link, bbr, rivalBBR)
					s.alone = alone
					s.run(max(ahead, -ahead), ahead < 0, ahead > 0)
					s.run(4*time.Second, true, true)
					return s.measure(10 * time.Second), s
				}
				share, _ := run(true)
				without += min(share, 0.5) / 3
				share, s := run(false)
				with += share / 3
				s.run(maxLook+2*time.Second, true, false)
				queue := s.queue(2*time.Second, false)
				if s.path.c.competes() || queue > link.roundTrip/2 {
					t.Errorf("rival ahead by %v: afterwards, competing %v, a queue of %v", ahead,
						s.path.c.competes(), queue)
				}
			}
			t.Logf("rival ahead by %v: %.2f of both, %.2f without a session", ahead, with, without)
			if with < 0.8*without {
				t.Errorf("rival ahead by %v: %.2f of both, %.2f without a session", ahead, with, without)
			}
		}
	})
}

// TestNoRival: a session alone doesn't take its own queue for a rival's, whatever its TCP is like.
func TestNoRival(t *testing.T) {
	for _, bbr := range []bool{true, false} {
		s := newShare(simNarrow, bbr, bbr)
		s.run(3*time.Second, true, false)
		active := 0
		for range 100 {
			s.run(100*time.Millisecond, true, false)
			if s.path.c.competes() {
				active++
			}
		}
		if queue := s.queue(2*time.Second, false); active > 0 || queue > s.link.roundTrip/2 {
			t.Errorf("BBR %v: competing %d times of 100, a queue of %v", bbr, active, queue)
		}
	}
}

// TestCompetition follows what a session believes: what looks the same again is looked at ever more
// seldom.
func TestCompetition(t *testing.T) {
	const queued, empty = true, true
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var c competition
	look := func(queue bool, next time.Duration) {
		t.Helper()
		if !c.onCycle(now, queued, !empty) {
			t.Fatalf("the queue isn't looked at: %+v", c)
		}
		c.onDrained(now, queue)
		if c.active != queue {
			t.Fatalf("a queue after it was drained: %v, but %+v", queue, c)
		}
		if now = now.Add(next); next > 0 {
			now = now.Add(-1)
			if c.onCycle(now, queued, !empty) {
				t.Fatalf("the queue is looked at again too early: %+v", c)
			}
			now = now.Add(1)
		}
	}
	clear := func(cycles int) {
		for range cycles {
			if c.onCycle(now, !queued, empty) {
				t.Fatal("a queue that isn't there is looked at")
			}
		}
	}
	for _, next := range []time.Duration{minLook, 4 * minLook, maxLook, maxLook} {
		look(false, next)
	}
	clear(clearCycles)
	look(false, minLook)
	for _, next := range []time.Duration{minLook, 4 * minLook, maxLook, maxLook} {
		look(true, next)
	}
	clear(clearCycles - 1)
	c.onCycle(now, !queued, !empty) // neither
	if clear(clearCycles - 1); !c.active {
		t.Fatal("too few cycles without a queue in a row")
	}
	if clear(1); c.active {
		t.Fatal("still competing after cycles without a queue")
	}
	now = now.Add(relapse) // it was never away
	look(true, maxLook)
	look(false, 0)
	now = now.Add(relapse + 1)
	look(true, minLook/2)
	if clear(2 * clearCycles); !c.active {
		t.Fatal("not believed for a while")
	}
	now = now.Add(minLook)
	look(false, 0)
}

// TestSlowerAlone: a path that becomes slower looks like one with a rival for a moment only.
func TestSlowerAlone(t *testing.T) {
	for _, bbr := range []bool{true, false} {
		s := newShare(simNarrow, bbr, bbr)
		s.run(4*time.Second, true, false)
		s.link.rate /= 2
		noticed := false
		for range 100 {
			s.run(20*time.Millisecond, true, false)
			noticed = noticed || s.path.c.competes()
		}
		s.run(4*time.Second, true, false)
		queue := s.queue(2*time.Second, false)
		if !noticed || s.path.c.competes() || queue > s.link.roundTrip/2 {
			t.Errorf("BBR %v: noticed %v, competing %v, a queue of %v", bbr, noticed,
				s.path.c.competes(), queue)
		}
	}
}

// TestCompetingBehindProxy: where the transport ends at a proxy, its TCP isn't left to itself.
func TestCompetingBehindProxy(t *testing.T) {
	for rtt, want := range map[time.Duration]float64{
		time.Millisecond: competingGain, 40 * time.Millisecond: freeGain,
	} {
		p := newSimPath(6.25e6, 40*time.Millisecond)
		p.c.observer.transport = &simTransport{rtt: 2 * rtt, minRTT: rtt}
		p.run(2*time.Second, nil)
		p.competing = p.roundTrip
		p.run(3*time.Second, nil)
		if got := p.c.gain(); !p.c.competes() || got != want {
			t.Errorf("least round trip of the transport %v: competing %v, gain %v, want %v",
				rtt, p.c.competes(), got, want)
		}
	}
}

// TestEndToEndLate: a transport that turns out to be end to end after all is left to itself where
// the bound is costly, and only there: what was believed of a competing flow before counts no more.
func TestEndToEndLate(t *testing.T) {
	const rtt = 40 * time.Millisecond
	p := newSimPath(6.25e6, rtt)
	transport := &simTransport{rtt: 1, minRTT: 1} // of a proxy
	p.c.observer.transport = transport
	p.run(2*time.Second, nil)
	p.competing = rtt
	p.run(3*time.Second, nil)
	if !p.c.competition.active {
		t.Fatal("behind a proxy, no competing flow is assumed")
	}
	p.competing = 0
	transport.rtt, transport.minRTT, transport.path = rtt, rtt, p
	p.run(maxLook, nil)
	if !p.c.observer.endToEnd || p.c.competition.active {
		t.Fatalf("end to end %v, competing %v", p.c.observer.endToEnd, p.c.competition.active)
	}
	checkSteady(t, p)
}
