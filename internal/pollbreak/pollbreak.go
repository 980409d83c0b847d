// Package pollbreak keeps loops that are always busy from delaying those who wait for sockets.
package pollbreak

// After is the number of bytes after which a loop takes a break: at most half a millisecond of
// work. Work that is not about bytes counts as what takes as long: 1 KiB for each microsecond.
const After = 512 << 10

// Break is for a loop that may run for long without ever waiting. Go polls the network only when a
// processor has nothing else to do, or after 10 ms. While two such loops keep each other running,
// everybody who waits for a socket waits that long, which a user of a quiet stream notices. A break
// makes the loop wait for an event that only polling finds, and that has already occurred. So all
// other goroutines that can run do so first, then the network is polled, and those that it wakes
// run together with the loop.
//
// The zero value is ready. One goroutine uses it. On systems other than Linux it does nothing.
type Break struct {
	done  int // bytes since the last break
	event event
}

// Worked counts the work that was just done, in bytes, and takes a break when one is due.
func (b *Break) Worked(bytes int) {
	b.done += bytes
	if b.done >= After {
		b.done = 0
		b.event.wait()
	}
}

// Close frees what the breaks used.
func (b *Break) Close() { b.event.close() }
