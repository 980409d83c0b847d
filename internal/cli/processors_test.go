package cli

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestShareProcessors(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, c := range []struct {
		env          string
		before, want int
	}{{"", 1, 1}, {"", 2, 1}, {"", 3, 2}, {"", 8, 4}, {"8", 8, 8}} {
		t.Setenv("GOMAXPROCS", c.env)
		runtime.GOMAXPROCS(c.before)
		shareProcessors()
		if got := runtime.GOMAXPROCS(0); got != c.want {
			t.Errorf("GOMAXPROCS=%q, %d processors: runs on %d, want %d", c.env, c.before, got, c.want)
		}
	}
}

// TestProcessorsFollowLoad: all processors are used while goroutines wait for one and others are
// idle, and half again a while later. A limit that has changed meanwhile holds.
func TestProcessorsFollowLoad(t *testing.T) {
	for name, test := range map[string]struct {
		all  []int // by 10 s, the last one holds on
		load []processorLoad
		want []int // processors used, one after the other
	}{
		"idle":          {[]int{8}, []processorLoad{{0, 8}}, []int{4}},
		"busy":          {[]int{8}, []processorLoad{{5, 4}}, []int{4, 8}},
		"busy machine":  {[]int{8}, []processorLoad{{50, 1}}, []int{4}},
		"short queue":   {[]int{8}, []processorLoad{{3, 4}}, []int{4}},
		"for a while":   {[]int{8}, []processorLoad{{5, 4}, {0, 8}}, []int{4, 8, 4}},
		"one processor": {[]int{1}, []processorLoad{{50, 1}}, []int{1}},
		"limit":         {[]int{8, 8, 2}, []processorLoad{{0, 8}}, []int{4, 1}},
		"no more limit": {[]int{2, 2, 8}, []processorLoad{{0, 8}}, []int{1, 4}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				tens := func() int { return int(time.Since(began) / (10 * time.Second)) }
				var used []int
				current := 0
				note := func() {
					if n := len(used); n == 0 || used[n-1] != current {
						used = append(used, current)
					}
				}
				p := processors{
					load: func() processorLoad {
						note()
						return test.load[min(tens(), len(test.load)-1)]
					},
					useAll: func() int {
						current = test.all[min(tens(), len(test.all)-1)]
						return current
					},
					use: func(n int) { current = n },
				}
				ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
				defer cancel()
				p.run(ctx)
				note()
				if !slices.Equal(used, test.want) {
					t.Errorf("uses %v processors, want %v", used, test.want)
				}
			})
		})
	}
}

// TestLoadMeter: goroutines that wait for a processor are seen, and processors of a machine that
// has time are.
func TestLoadMeter(t *testing.T) {
	m := newLoadMeter()
	if first := idleSeconds(); first <= 0 {
		t.Errorf("the machine's processors were idle for %v s", first)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var spinning sync.WaitGroup
	for range 8 * runtime.GOMAXPROCS(0) {
		spinning.Go(func() {
			for ctx.Err() == nil {
				runtime.Gosched()
			}
		})
	}
	for ctx.Err() == nil && m.read().queue < busyQueue*float64(runtime.GOMAXPROCS(0)) {
		runtime.Gosched()
	}
	if ctx.Err() != nil {
		t.Error("nobody was seen to wait for a processor")
	}
	cancel()
	spinning.Wait()
}
