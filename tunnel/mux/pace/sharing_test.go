package pace

import (
	"testing"
	"time"
)

// TestSharing follows what a session believes: a bound that costs a part of the rate is given up
// for ever longer, until it costs nothing.
func TestSharing(t *testing.T) {
	const rate, round = 1e6, 40 * time.Millisecond
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var s sharing
	s.begin(rate)
	rounds := func(n int, rate float64) {
		for range n {
			now = now.Add(round)
			if s.look.underway {
				s.onLookRound(now, delivery{rate * round.Seconds(), round.Seconds()}, 0, false)
			} else if s.onRound(now, rate) {
				s.startLook(0, 0)
			}
		}
	}
	freed := func(lowered float64, hold time.Duration, rate float64) {
		t.Helper()
		for range settleRounds + cycleRounds {
			if !s.free {
				rounds(1, lowered)
			}
		}
		if !s.free {
			t.Fatalf("the bound isn't given up: %+v", s)
		}
		began := now
		for s.free || s.look.underway {
			rounds(1, rate)
			if now.Sub(began) > hold+time.Second {
				t.Fatalf("the bound isn't tried again: %+v", s)
			}
		}
		if held := now.Sub(began); held < hold {
			t.Fatalf("the bound is tried again after %v, want %v", held, hold)
		}
		if s.reference < 0.99*rate || s.reference > 1.01*rate {
			t.Fatalf("the bound is tried with %+v", s)
		}
	}
	rounds(100, rate)
	rounds(100, 0.95*rate)
	if s.free || s.hold != 0 {
		t.Fatalf("given up for little: %+v", s)
	}
	for _, hold := range []time.Duration{minLook, 4 * minLook, maxLook, maxLook} {
		freed(0.8*rate, hold, rate)
	}
	// The other flow has ended.
	rounds(settleRounds+aloneRounds, rate)
	if s.free || s.hold != 0 {
		t.Fatalf("alone, but %+v", s)
	}
	// The path becomes slower.
	freed(rate/2, minLook, rate/2)
	rounds(settleRounds+aloneRounds, rate/2)
	if s.free || s.hold != 0 {
		t.Fatalf("a slower path is taken for a competing flow: %+v", s)
	}
	// It becomes slower by less than a competing flow makes it.
	for slower := rate / 2; slower > rate/4; slower *= 0.9996 {
		if rounds(1, slower); s.free {
			t.Fatalf("given up at %.0f bytes a second: %+v", slower, s)
		}
	}
	// Rounds with little to send show nothing.
	for range 100 {
		s.pause()
		rounds(settleRounds+cycleRounds-1, rate/100)
	}
	if s.free {
		t.Fatalf("given up though there was little to send: %+v", s)
	}
}

// TestLook: a look that costs a part of the rate, and leaves a queue, is followed by a longer hold,
// others by the bound; so is the last of many, whatever it shows. A burst from behind a gap is no
// rate that the bound may not lower.
func TestLook(t *testing.T) {
	const rate, seconds = 1e6, 0.04
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	look := func(s *sharing, rate float64, short bool) (tryBound bool) {
		s.startLook(1, 100)
		s.onLookRound(now, delivery{0, seconds}, 99, true) // of what was sent before
		for range lookRounds {
			if !s.look.underway || s.free {
				t.Fatalf("the look ends early: %+v", s)
			}
			tryBound = s.onLookRound(now, delivery{rate * seconds, seconds}, 100, short)
			short = false
		}
		if s.look.underway {
			t.Fatalf("the look doesn't end: %+v", s)
		}
		return tryBound
	}
	for _, test := range []struct {
		rate  float64
		short bool
		free  bool
	}{{0.96 * rate, false, false}, {0.8 * rate, true, false}, {0.8 * rate, false, true}} {
		s := &sharing{reference: rate, hold: minLook}
		tried := look(s, test.rate, test.short)
		if s.free != test.free || (s.hold > minLook) != test.free || tried == test.free {
			t.Errorf("after a look with %.0f, hardly a queue %v: %+v", test.rate, test.short, s)
		}
	}
	s := &sharing{reference: rate}
	if !look(s, 2*rate, false) || s.reference != rate {
		t.Errorf("after a burst in a look: %+v", s)
	}
	for i := range maxLooks {
		if look(s, rate/2, false) != (i == maxLooks-1) {
			t.Errorf("look %d of %d that are costly: %+v", i+1, maxLooks, s)
		}
	}
}

// TestLookOfNarrowPath: a look goes on behind a measurement of TCP's own, and ends where TCP's
// window is always as small as in one.
func TestLookOfNarrowPath(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := &sharing{}
	s.startLook(1, 100)
	for range 3 {
		s.look.stop(now)
		now = now.Add(longestStop / 2)
	}
	if !s.look.underway {
		t.Error("a look has ended with a short measurement")
	}
	s.look.stop(now)
	if s.look.underway {
		t.Error("a look of a narrow path doesn't end")
	}
}
