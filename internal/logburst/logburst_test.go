package logburst

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

func TestSampler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(3, time.Minute)
		for period := range 3 {
			taken := 0
			for range 10 {
				if s.Sample(zerolog.InfoLevel) {
					taken++
				}
			}
			if taken != 3 {
				t.Errorf("period %d: %d events", period, taken)
			}
			time.Sleep(time.Minute - time.Nanosecond) // synctest
			if s.Sample(zerolog.InfoLevel) {
				t.Errorf("period %d: another one at its end", period)
			}
			time.Sleep(time.Nanosecond) // synctest
		}
	})
}

// TestClockSetBack: the wall clock, without the monotonic one, doesn't decide.
func TestClockSetBack(t *testing.T) {
	s := New(1, time.Millisecond)
	s.Sample(zerolog.InfoLevel)
	if s.since == s.since.Round(0) {
		t.Error("a period begins by the wall clock")
	}
}
