package tunnel

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// attemptsIn counts the attempts in a time when each leads to a carrier that lasts a while.
func attemptsIn(t *testing.T, most, lasts time.Duration, carried, sessionDead bool) (n int) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), most)
		defer cancel()
		l := NewLocal(LocalConfig{})
		attempts := l.attempts(l.remotes[0])
		for {
			if attempts.wait(ctx) != nil {
				return
			}
			n++
			time.Sleep(lasts)
			attempts.pause.lost(lasts, carried, sessionDead)
		}
	})
	return n
}

// TestBackoff: carriers that die soon and without use are attempted ever more rarely, others again
// soon.
func TestBackoff(t *testing.T) {
	for _, test := range []struct {
		lasts                time.Duration
		carried, sessionDead bool
		least, most          int // attempts in a minute
	}{
		{lasts: 0, least: 5, most: 10},
		{lasts: 100 * time.Millisecond, least: 5, most: 10},
		{lasts: time.Second, least: 5, most: 10},
		{lasts: 2 * time.Second, sessionDead: true, least: 4, most: 10},
		{lasts: steadyAfter, least: 12, most: 13},
		{lasts: steadyAfter, sessionDead: true, least: 12, most: 13},
		{lasts: 100 * time.Millisecond, carried: true, least: 300, most: 500},
		{lasts: 100 * time.Millisecond, carried: true, sessionDead: true, least: 5, most: 10},
	} {
		n := attemptsIn(t, time.Minute, test.lasts, test.carried, test.sessionDead)
		if n < test.least || n > test.most {
			t.Errorf("%+v: %d attempts in a minute", test, n)
		}
	}
}

// TestBackoffHonoursServer: the next attempt comes no earlier than the server asked for, and not
// much later; a call of Retry overrides that, a change of the network doesn't.
func TestBackoffHonoursServer(t *testing.T) {
	for _, test := range []struct {
		asked       time.Duration
		interrupt   string
		least, most time.Duration
	}{
		{asked: 10 * time.Second, least: 10 * time.Second, most: 11 * time.Second},
		{
			asked: 10 * time.Second, interrupt: "network",
			least: 10 * time.Second, most: 11 * time.Second,
		},
		{asked: 10 * time.Second, interrupt: "retry"},
		{asked: 0, interrupt: "network", most: noticePause},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := NewLocal(LocalConfig{})
			attempts := l.attempts(l.remotes[0])
			attempts.pause = backoff{pause: backoffMax}
			if test.asked > 0 {
				attempts.pause = backoff{asked: test.asked}
			}
			attempts.startedAt = time.Now()
			defer attempts.begin()()
			switch test.interrupt {
			case "network":
				notify(attempts.moved)
			case "retry":
				l.Retry()
			}
			if err := attempts.wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(attempts.startedAt); took < test.least || took > test.most {
				t.Errorf("%+v: after %v", test, took)
			}
		})
	}
}

func TestAskedPause(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":                              0,
		"7":                             7 * time.Second,
		" 120 ":                         2 * time.Minute,
		"-1":                            0,
		"soon":                          0,
		"99999999999999999999":          0,
		"Thu, 01 Jan 2026 00:00:30 GMT": 30 * time.Second,
		"Wed, 31 Dec 2025 00:00:30 GMT": 0,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
	long := httpRefusal{Code: 503, RetryAfter: time.Hour}
	for _, err := range []error{&StatusError{httpRefusal: long}, &ProxyError{long}} {
		if got := askedPause(&ConnectError{Step: StepUpgrade, Err: err}); got != maxRetryAfter {
			t.Errorf("%T: %v, want %v", err, got, maxRetryAfter)
		}
	}
	if got := askedPause(ErrNoSession); got != 0 {
		t.Error(got)
	}
}

// TestNoticesAreCoalesced makes bursts and a storm of notices of a changed network: the first acts
// at once, the last is not lost, and there are few in between. 45 of them make few attempts.
func TestNoticesAreCoalesced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		notices, ended := make(chan struct{}, 1), make(chan struct{})
		began := time.Now()
		var acted []time.Duration
		go func() {
			settle(ctx, notices, func() { acted = append(acted, time.Since(began)) })
			close(ended)
		}()
		for range 20 { // one change
			notify(notices)
			synctest.Wait()
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if len(acted) != 2 || acted[0] != 0 || acted[1] != networkSettle {
			t.Errorf("acted after %v", acted)
		}
		for range 1000 { // a storm of a second
			notify(notices)
			time.Sleep(time.Millisecond)
		}
		synctest.Wait()
		if n := len(acted) - 2; n < 5 || n > 11 {
			t.Errorf("acted %d times in a second", n)
		}
		cancel()
		<-ended
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		l := NewLocal(LocalConfig{})
		attempts := l.attempts(l.remotes[0])
		attempts.pause.pause = backoffMax
		go func() {
			for range 45 {
				notify(attempts.moved)
				time.Sleep(100 * time.Millisecond)
			}
			cancel()
		}()
		n := 0
		for attempts.wait(ctx) == nil {
			attempts.startedAt = time.Now()
			n++
		}
		if n < 3 || n > 6 {
			t.Errorf("%d attempts after 45 notices in 4.5 s", n)
		}
	})
}

// TestPollNetwork: without notices from the system, a change of the addresses is found.
func TestPollNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		notices, ended := make(chan struct{}, 1), make(chan struct{})
		states := make(chan string, 1)
		go func() {
			state := "one"
			pollNetwork(ctx, notices, func() string {
				select {
				case state = <-states:
				default:
				}
				return state
			})
			close(ended)
		}()
		time.Sleep(10 * networkPoll)
		if len(notices) != 0 {
			t.Error("a notice without a change")
		}
		states <- "two"
		time.Sleep(networkPoll)
		synctest.Wait()
		if len(notices) != 1 {
			t.Error("no notice of a change")
		}
		cancel()
		<-ended
	})
}
