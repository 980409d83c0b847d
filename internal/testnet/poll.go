package testnet

import (
	"context"
	"testing"
	"time"
)

// endTime bounds how long the goroutines of this package may take to end with the test.
const endTime = time.Minute

// pollInterval is the interval between two calls of done in [Poll].
const pollInterval = 5 * time.Millisecond

// Poll calls done until it reports true, and fails the test if that takes longer than timeout;
// what describes the awaited state.
func Poll(tb testing.TB, timeout time.Duration, what string, done func() bool) {
	tb.Helper()
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline.C:
			tb.Fatalf("not within %v: %s", timeout, what)
		}
	}
}

// Await calls wait, such as that of a sync.WaitGroup, and fails the test if it doesn't return
// within timeout. It may be called in a cleanup.
func Await(tb testing.TB, timeout time.Duration, wait func()) {
	tb.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		wait()
	}()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		tb.Fatalf("goroutines still run after %v", timeout)
	}
}

// Within returns a context that ends with the test, or after timeout, so that a test that waits in
// vain says where. In a bubble (testing/synctest), the time is that of the bubble.
func Within(tb testing.TB, timeout time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	tb.Cleanup(cancel)
	return ctx
}
