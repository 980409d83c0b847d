package pollbreak

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"culvert/internal/testnet"
)

// record is the work of each turn of a loop.
const record = 32 << 10

// TestBreak keeps the only processor busy with a loop that never waits. A goroutine that waits
// for a socket must run after one of the loop's first breaks, and not only when the runtime
// preempts the loop.
func TestBreak(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for range 20 {
		near, far := testnet.Pair(t, "tcp", time.Minute)
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
		var rest Break
		for records := 0; !woken.Load(); records++ {
			if records > 16*After/record { // microseconds: the runtime preempts after 10 ms
				t.Fatalf("after %d records the socket's reader has not had a turn", records)
			}
			rest.Worked(record)
		}
		rest.Close()
		<-done
	}
}

// TestBreakAllocates checks that only the first break allocates.
func TestBreakAllocates(t *testing.T) {
	var rest Break
	defer rest.Close()
	rest.Worked(After)
	if n := testing.AllocsPerRun(100, func() { rest.Worked(After) }); n != 0 {
		t.Errorf("a break allocates %.1f times", n)
	}
}
