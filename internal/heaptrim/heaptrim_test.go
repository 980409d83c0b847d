package heaptrim

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestDue: a trim follows growth that the data in use does not explain, and the end of most
// goroutines, but nothing else, and no other one within a while.
func TestDue(t *testing.T) {
	const mib = 1 << 20
	type state struct {
		seconds    int // from when on it holds
		memory     int64
		held       int64
		goroutines int
	}
	for name, test := range map[string]struct {
		states []state
		want   []int // seconds of the trims
	}{
		"idle":          {[]state{{0, 20 * mib, 0, 20}}, nil},
		"little growth": {[]state{{0, 20 * mib, 0, 20}, {5, 36 * mib, 0, 20}}, nil},
		"growth":        {[]state{{0, 20 * mib, 0, 20}, {5, 90 * mib, 0, 20}}, []int{10}},
		"data":          {[]state{{0, 20 * mib, 0, 20}, {5, 90 * mib, 70 * mib, 20}}, nil},
		"data that went": {[]state{
			{0, 20 * mib, 0, 20}, {5, 90 * mib, 70 * mib, 20}, {65, 90 * mib, 0, 20},
		}, []int{70}},
		"half of much":   {[]state{{0, 300 * mib, 0, 20}, {5, 440 * mib, 0, 20}}, nil},
		"more than half": {[]state{{0, 300 * mib, 0, 20}, {5, 460 * mib, 0, 20}}, []int{10}},
		"twice soon": {[]state{
			{0, 20 * mib, 0, 20}, {5, 90 * mib, 0, 20}, {15, 200 * mib, 0, 20},
		}, []int{10, 40}},
		"few ended": {[]state{{0, 20 * mib, 0, 199}, {5, 20 * mib, 0, 0}}, nil},
		"many ended": {[]state{
			{0, 20 * mib, 0, 20}, {5, 20 * mib, 0, 900}, {35, 20 * mib, 0, 30},
		}, []int{40}},
		"fewer than half": {[]state{{0, 20 * mib, 0, 900}, {5, 20 * mib, 0, 450}}, nil},
		"streams come, go": {[]state{
			{0, 20 * mib, 0, 20}, {1, 20 * mib, 0, 900}, {9, 20 * mib, 0, 20},
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				present := func() state {
					later := func(s state) bool {
						return time.Since(began) < time.Duration(s.seconds)*time.Second
					}
					if i := slices.IndexFunc(test.states, later); i >= 0 {
						return test.states[i-1]
					}
					return test.states[len(test.states)-1]
				}
				var trims []int
				trimmer := &Trimmer{
					held: func() int64 { return present().held },
					measure: func() usage {
						s := present()
						return usage{s.memory, s.goroutines}
					},
					trim: func() { trims = append(trims, int(time.Since(began).Seconds())) },
				}
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
				defer cancel()
				trimmer.Run(ctx)
				if !slices.Equal(trims, test.want) {
					t.Errorf("trims after %v seconds, want %v", trims, test.want)
				}
			})
		})
	}
}

// TestReturnsPooled: what pools hold, and streams held, goes back to the system.
func TestReturnsPooled(t *testing.T) {
	const block, blocks = 64 << 10, 1000
	pool := sync.Pool{New: func() any { return new([block]byte) }}
	trimmer := New(func() int64 { return 0 })
	trim()
	trimmer.note()
	var used [blocks]*[block]byte
	for i := range used {
		used[i] = pool.Get().(*[block]byte)
		used[i][0] = 1
	}
	for i, b := range used {
		pool.Put(b)
		used[i] = nil
	}
	full := measure().memory
	trimmer.check(time.Now())
	if left := full - measure().memory; left < block*blocks/2 {
		t.Errorf("%d bytes went back to the system of %d in a pool", left, block*blocks)
	}
}
