// Package heaptrim returns memory to the system that a process needed for a while and needs no
// more.
//
// Go's runtime does that too, but late where data is in pooled buffers, as here: these count as
// used until two collections after their last use, a process that only moves data seldom
// allocates, so that the next collection may be two minutes away, and the memory that one has freed
// goes back to the system slowly. A [Trimmer] collects at once where that promises much.
package heaptrim

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// checkInterval is the time between two looks at what the process uses.
	checkInterval = 10 * time.Second

	// minPause is the time between two trims at least. A trim costs a collection, and page faults
	// when what was returned is needed again: some 10 ms for each.
	minPause = 30 * time.Second

	// minExcess is how much more memory than after the last trim, in bytes, the process must use. A
	// process that uses much may use half more, as it may between two collections.
	minExcess = 16 << 20

	// minGoroutines is the number of goroutines that must have ended since the last trim, and more
	// than half of all, for another one. Each has at least a stack.
	minGoroutines = 200
)

// usage is what a process uses.
type usage struct {
	memory     int64 // bytes that the runtime has from the system, without those in use for data
	goroutines int
}

// Trimmer decides when to trim.
type Trimmer struct {
	held func() int64 // bytes in use for data, which no trim would return

	measure func() usage
	trim    func()

	after     usage // the usage after the last trim
	most      int   // goroutines since
	trimmedAt time.Time
}

// New returns a Trimmer of the process. held returns how many bytes are in use for data now.
func New(held func() int64) *Trimmer {
	return &Trimmer{held: held, measure: measure, trim: trim}
}

// Run looks at what the process uses, and trims where that is worthwhile, until ctx is done.
func (t *Trimmer) Run(ctx context.Context) {
	t.note()
	tick := time.NewTicker(checkInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			t.check(time.Now())
		case <-ctx.Done():
			return
		}
	}
}

func (t *Trimmer) check(now time.Time) {
	u := t.usage()
	t.most = max(t.most, u.goroutines)
	if now.Sub(t.trimmedAt) < minPause || !t.due(u) {
		return
	}
	t.trim()
	t.trimmedAt = now
	t.note()
}

// due reports whether much may have become free since the last trim.
func (t *Trimmer) due(u usage) bool {
	ended := t.most - u.goroutines
	return u.memory > t.after.memory+max(minExcess, t.after.memory/2) ||
		ended >= minGoroutines && ended > t.most/2
}

// note keeps the present usage for comparison.
func (t *Trimmer) note() {
	t.after = t.usage()
	t.most = t.after.goroutines
}

func (t *Trimmer) usage() usage {
	u := t.measure()
	u.memory = max(0, u.memory-t.held())
	return u
}

func measure() usage {
	s := []metrics.Sample{
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
	}
	metrics.Read(s)
	return usage{
		memory:     int64(s[0].Value.Uint64() - s[1].Value.Uint64()),
		goroutines: runtime.NumGoroutine(),
	}
}

// trim collects twice, since only the second collection frees what is in pools.
func trim() {
	runtime.GC()
	debug.FreeOSMemory()
}
