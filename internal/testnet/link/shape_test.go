package link

import (
	"math"
	"testing"
	"time"
)

// megabyte is a link of 1 MB/s, with 10 ms of delay and 3000 bytes of queue.
var megabyte = Config{Delay: 10 * time.Millisecond, Rate: 8e6, Queue: 3000, MTU: 1500}

func TestShaperRateAndQueue(t *testing.T) {
	s := newShaper(megabyte, 0)
	start := time.Now()
	for _, step := range []struct {
		at   time.Duration // since the start
		size int
		due  time.Duration // since the start; 0: dropped
	}{
		{0, 1000, 11 * time.Millisecond},
		{0, 1000, 12 * time.Millisecond},
		{0, 1001, 0}, // one byte more than the queue holds
		{0, 1000, 13 * time.Millisecond},
		{0, 1, 0},
		{500 * time.Microsecond, 501, 0}, // half a packet has gone
		{500 * time.Microsecond, 500, 13500 * time.Microsecond},
		{time.Second, 1500, 1011500 * time.Microsecond}, // an idle line saves nothing up
	} {
		due, fate := s.take(start.Add(step.at), step.size)
		if step.due == 0 {
			if fate != dropped {
				t.Errorf("%d bytes at %v: not dropped", step.size, step.at)
			}
			continue
		}
		if fate != arrives || due.Sub(start) != step.due {
			t.Errorf("%d bytes at %v: due %v, want %v", step.size, step.at, due.Sub(start), step.due)
		}
	}
}

// fates returns which of n packets are lost.
func fates(cfg Config, direction, n int) (all []bool, lostOnes int) {
	s := newShaper(cfg, direction)
	now := time.Now()
	for i := range n {
		_, fate := s.take(now.Add(time.Duration(i)*time.Second), 1000)
		all = append(all, fate == lost)
		if fate == lost {
			lostOnes++
		}
	}
	return all, lostOnes
}

func TestShaperLoss(t *testing.T) {
	cfg := megabyte
	cfg.Loss, cfg.Seed = 0.01, 7
	const n = 100_000
	first, count := fates(cfg, 0, n)
	// Six standard deviations of a binomial distribution.
	if mean := n * cfg.Loss; math.Abs(float64(count)-mean) > 6*math.Sqrt(mean*(1-cfg.Loss)) {
		t.Errorf("%d of %d lost", count, n)
	}
	equal := func(other []bool) bool {
		for i := range first {
			if first[i] != other[i] {
				return false
			}
		}
		return true
	}
	if again, _ := fates(cfg, 0, n); !equal(again) {
		t.Error("the same seed lost other packets")
	}
	if back, _ := fates(cfg, 1, n); equal(back) {
		t.Error("both directions lost the same packets")
	}
	cfg.Seed++
	if other, _ := fates(cfg, 0, n); equal(other) {
		t.Error("another seed lost the same packets")
	}
}

func TestConfig(t *testing.T) {
	got, err := Config{Delay: 50 * time.Millisecond, Rate: 100e6}.withDefaults()
	if err != nil || got.MTU != 1500 {
		t.Errorf("defaults %+v, %v", got, err)
	}
	got.RateA = 10e6
	for direction, want := range []struct {
		rate  float64
		queue int
	}{{10e6, 125_000}, {100e6, 1_250_000}} {
		if rate, queue := got.direction(direction); rate != want.rate || queue != want.queue {
			t.Errorf("direction %d: %g bit/s, queue of %d bytes", direction, rate, queue)
		}
	}
	for name, cfg := range map[string]Config{
		"no rate":        {},
		"rate NaN":       {Rate: math.NaN()},
		"high rate":      {Rate: 1e12},
		"negative delay": {Rate: 1e6, Delay: -1},
		"long delay":     {Rate: 1e6, Delay: time.Hour},
		"loss NaN":       {Rate: 1e6, Loss: math.NaN()},
		"loss above 1":   {Rate: 1e6, Loss: 1.01},
		"small MTU":      {Rate: 1e6, MTU: 1279},
		"large MTU":      {Rate: 1e6, MTU: 65536},
		"low rate of A":  {Rate: 1e6, RateA: 1},
		"small queue":    {Rate: 1e6, Queue: 1499},
		"negative queue": {Rate: 1e6, Queue: -1},
	} {
		if _, err := cfg.withDefaults(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
