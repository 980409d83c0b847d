package tunnel

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"culvert/internal/state"

	"github.com/rs/zerolog"
)

// TestComings: a client that comes and goes all the time doesn't fill the log, nor hide what others
// do.
func TestComings(t *testing.T) {
	restless, quiet := newKey(t), newKey(t)
	log, events := new(lockedBuffer), state.NewEvents()
	remote := serveRemote(t, trustKeys(t, restless, quiet), false, func(cfg *RemoteConfig) {
		cfg.Log, cfg.Events = zerolog.New(log).Level(zerolog.InfoLevel), events
	})
	if err := remote.connect(t, quiet); err != nil {
		t.Fatal(err)
	}
	for range maxComingLines/2 + 50 { // two lines each
		if err := remote.connect(t, restless); err != nil {
			t.Fatal(err)
		}
	}
	lines := 0
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, restless.Public().String()) {
			lines++
		}
	}
	if lines != maxComingLines {
		t.Errorf("%d lines of one client", lines)
	}
	if err := remote.connect(t, quiet); err != nil {
		t.Fatal(err)
	}
	until(t, "both sessions of the other client are logged", func() bool {
		return strings.Count(log.String(), quiet.Public().String()) == 4
	})
	of := func(key string) (n int) {
		for _, e := range events.Recent() {
			if e.Key == key {
				n++
			}
		}
		return n
	}
	if r, q := of(restless.Public().String()), of(quiet.Public().String()); r > maxComingEvents ||
		q != 4 {
		t.Errorf("%d and %d events of the two", r, q)
	}
}

// TestComingsPeriod: what was left out is counted, and a new period begins.
func TestComingsPeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(lockedBuffer)
		c := newComings(zerolog.New(log))
		for range 2 {
			for range maxComingLines + 5 {
				c.of(clientID{}).Sample(zerolog.InfoLevel)
			}
			time.Sleep(comingsPeriod)
		}
		c.close()
		if n := strings.Count(log.String(), `"omitted":5`); n != 2 {
			t.Errorf("logged: %s", log)
		}
	})
}
