package mux

// breakAfter is the number of bytes after which a loop takes a break: at most half a millisecond of
// work. recordCost is what a record costs in addition to its bytes.
const (
	breakAfter = 512 << 10
	recordCost = 2 << 10
)

// pollBreak is for a loop that may run for long without ever waiting. Go polls the network only
// when a processor has nothing else to do, or after 10 ms. While two such loops keep each other
// running, everybody who waits for a socket waits that long, which a user of a quiet stream
// notices. A break makes the loop wait for an event that only polling finds, and that has already
// occurred. So all other goroutines that can run do so first, then the network is polled, and those
// that it wakes run together with the loop.
//
// The zero value is ready. One goroutine uses it. On systems other than Linux it does nothing.
type pollBreak struct {
	done  int // bytes since the last break
	event pollEvent
}

// worked counts the bytes of a record, and takes a break when one is due.
func (b *pollBreak) worked(bytes int) {
	b.done += bytes + recordCost
	if b.done >= breakAfter {
		b.done = 0
		b.event.wait()
	}
}

// close frees what the breaks used.
func (b *pollBreak) close() { b.event.close() }
