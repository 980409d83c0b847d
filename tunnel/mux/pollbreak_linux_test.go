package mux

import (
	"runtime"
	"sync/atomic"
	"testing"

	"culvert/internal/testnet"
)

// TestPollBreak keeps the only processor busy with a loop that never waits. A goroutine that waits
// for a socket must run after the loop's first break, and not only when the runtime preempts the
// loop.
func TestPollBreak(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for range 20 {
		near, far := testnet.Pair(t, "tcp", pairTime)
		var woken atomic.Bool
		waiting, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			close(waiting)
			if _, err := far.Read(make([]byte, 1)); err != nil {
				t.Error(err)
			}
			woken.Store(true)
		}()
		<-waiting
		runtime.Gosched() // into Read
		if _, err := near.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		var rest pollBreak
		for records := 0; !woken.Load(); records++ {
			if records > 2*breakAfter/maxData {
				t.Fatalf("after %d records the socket's reader has not had a turn", records)
			}
			rest.worked(maxData)
		}
		rest.close()
		<-done
	}
}

// TestPollBreakAllocates checks that only the first break allocates.
func TestPollBreakAllocates(t *testing.T) {
	var rest pollBreak
	defer rest.close()
	rest.worked(breakAfter)
	if n := testing.AllocsPerRun(100, func() { rest.worked(breakAfter) }); n != 0 {
		t.Errorf("a break allocates %.1f times", n)
	}
}
