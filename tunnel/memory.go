package tunnel

import (
	"cmp"

	"culvert/tunnel/mux/budget"
)

// strangers is in whose name the memory of handshakes is counted.
const strangers = ""

// newMemory makes the memory budget of a node: of size bytes, or DefaultMemory for 0.
func newMemory(size int64) *budget.Budget { return budget.New(cmp.Or(size, DefaultMemory)) }
