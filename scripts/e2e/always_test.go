//go:build linux

package e2e

import (
	"context"
	"sync"
	"testing"
	"time"
)

// always calls do at once and then after each pause, never two at a time, until stop is called,
// which waits for the last call, or until the test ends.
func always(t *testing.T, pause time.Duration, do func()) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var calling sync.WaitGroup
	calling.Go(func() {
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for ctx.Err() == nil {
			do()
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	})
	stop = func() {
		cancel()
		calling.Wait()
	}
	t.Cleanup(stop)
	return stop
}
