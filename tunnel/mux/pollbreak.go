package mux

// breakAfter is after how many bytes a loop takes a break: half a millisecond's work or less. recordCost is what a record
// counts for beside its bytes.
const (
	breakAfter = 512 << 10
	recordCost = 2 << 10
)

// pollBreak is for a loop that may go on for long without ever waiting. Go looks which sockets have become ready only when a
// processor has nothing else to do, or after 10 ms: while two such loops keep each other going, all who wait for a socket
// wait that long, and whoever uses a quiet stream beside a busy one notices. A break has the loop wait for something that
// only that look finds, which is there at once: all that can go on goes on first, then the look is taken, and what it
// finds has its turn beside the loop.
//
// The zero value is ready. One goroutine uses it. On systems other than Linux it does nothing.
type pollBreak struct {
	done  int // bytes since the last break
	event pollEvent
}

// worked counts bytes of a record, and takes a break when it is time.
func (b *pollBreak) worked(bytes int) {
	b.done += bytes + recordCost
	if b.done >= breakAfter {
		b.done = 0
		b.event.wait()
	}
}

// close frees what the breaks used.
func (b *pollBreak) close() { b.event.close() }
