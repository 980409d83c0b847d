package tunnel

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// Of events that repeat, one a period is logged, with the number of those before it that were not.
// A bound for several kinds together holds too, and events of other levels don't count.
func TestLimitLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var text lockedBuffer
		log := zerolog.New(&text).Level(zerolog.InfoLevel)
		all := &zerolog.BurstSampler{Burst: 3, Period: time.Second}
		one := limitLog(log, 1, time.Second, all)
		check := func(want ...string) {
			t.Helper()
			synctest.Wait()
			if got := strings.Fields(strings.ReplaceAll(
				text.String(), " ", "_")); strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("the log is %q, want %q", got, want)
			}
			text.reset()
		}
		warn := func(log *limitedLog, times int) {
			for range times {
				log.Debug().Msg("debug")
				log.Warn().Msg("")
			}
		}
		pass := func() { time.Sleep(1100 * time.Millisecond) }
		const line = `{"level":"warn"}`
		rest := func(omitted int) string {
			return fmt.Sprintf(`{"level":"warn","omitted":%d,"message":"similar_events_were_left_out"}`,
				omitted)
		}
		warn(one, 8)
		check(line)
		pass()
		warn(one, 2)
		check(`{"level":"warn","omitted":7}`)
		pass()
		warn(one, 1)
		check(`{"level":"warn","omitted":1}`)
		pass()
		warn(one, 3)
		check(line)
		pass()
		check()
		pass()
		check(rest(2)) // although nothing follows
		warn(one, 4)
		one.close()
		check(line, rest(3))
		pass()
		warn(one, 9)
		one.close()
		pass()
		check(line, rest(8))
		for range 5 {
			other := limitLog(log, 1, time.Second, all)
			warn(other, 1)
			defer other.close()
		}
		check(line, line, line)
	})
}

func TestShortTime(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0:                                        "0s",
		1234 * time.Nanosecond:                   "1\u00b5s",
		123456 * time.Nanosecond:                 "123\u00b5s",
		12345678 * time.Nanosecond:               "12.3ms",
		123456789 * time.Nanosecond:              "123ms",
		1234567891 * time.Nanosecond:             "1.23s",
		12345678912 * time.Nanosecond:            "12.3s",
		3*time.Hour + 1234567891*time.Nanosecond: "3h0m1.2s",
	} {
		if got := shortTime(d).String(); got != want {
			t.Errorf("%d ns: %s, want %s", d, got, want)
		}
	}
}
