//go:build !race

package mux

import "testing"

// TestSteadyStateAllocations: once it has its blocks, a stream allocates nothing, whatever the size
// of its pieces and whether or not the session retains them. With the race detector the pools drop
// a part of what they get.
func TestSteadyStateAllocations(t *testing.T) {
	eachSteady(func(name string, way copies, retaining bool, size int) {
		t.Run(name, func(t *testing.T) {
			near, far := newLoopPair()
			client, server := joinEnds(t, near, far, retaining)
			once := way.move(t, client, server, size)
			for range 100 {
				once()
			}
			if n := testing.AllocsPerRun(1000, once); n != 0 {
				t.Errorf("%v allocations a piece", n)
			}
		})
	})
}
