package pace_test

import (
	"fmt"
	"time"

	"culvert/tunnel/mux/pace"
)

// A session sends on a path that delivers 10 MB/s and takes 40 ms. Its BDP is 400 kB; the bound
// settles somewhat above.
func Example() {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := pace.New(pace.Config{
		MaxFrame:        32 << 10,
		FirstRecord:     8 << 10,
		MaxBurst:        128 << 10,
		AckThreshold:    4 << 10,
		InitialInflight: 128 << 10,
	}, pace.Start{Now: now})

	const perAck = 10e6 * 2 / 1000 // bytes that the path delivers in 2 ms
	acked := uint64(0)
	for range 1000 { // an acknowledgement each 2 ms, for 2 s
		now = now.Add(2 * time.Millisecond)
		acked += perAck
		c.OnAck(now, acked)
		c.OnRTTSample(now, 40*time.Millisecond)
	}
	fmt.Println("400 kB inflight, may send more:", c.CanSend(400e3))
	fmt.Println("800 kB inflight, may send more:", c.CanSend(800e3))
	fmt.Println("a frame of", c.FrameSize(), "bytes, a burst of", c.BurstSize())
	fmt.Println("unsent in the carrier's socket:", c.UnsentLimit())
	// Output:
	// 400 kB inflight, may send more: true
	// 800 kB inflight, may send more: false
	// a frame of 20000 bytes, a burst of 20000
	// unsent in the carrier's socket: 40000
}
