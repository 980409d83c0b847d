package stall

import (
	"testing"
	"testing/synctest"
	"time"
)

// Time adds up between looks, progress makes it start again, and a look that comes far too late,
// as after the process was stopped, adds little.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w Watch
		for _, look := range []struct {
			after    time.Duration
			progress bool
			want     time.Duration
		}{
			{time.Hour, false, 0}, // the first
			{time.Second, false, time.Second},
			{2 * time.Second, false, 3 * time.Second},
			{time.Second, true, 0},
			{time.Second, false, time.Second},
			{time.Hour, false, time.Second + maxStep},
		} {
			time.Sleep(look.after) // synctest
			if got := w.Look(look.progress); got != look.want {
				t.Errorf("%v later: stalled for %v, want %v", look.after, got, look.want)
			}
		}
	})
}
