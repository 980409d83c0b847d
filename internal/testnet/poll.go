package testnet

import (
	"testing"
	"time"
)

// pollInterval is between two calls of [Poll].
const pollInterval = 5 * time.Millisecond

// Poll calls done until it reports true, and fails the test when that takes longer than timeout;
// what is the state that is waited for.
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
