package mux

import (
	"io"
	"sync"
	"time"

	"culvert/internal/rawsock"
	"culvert/internal/stall"
)

// writeDeadline is a writer that can be made to stop waiting.
type writeDeadline interface{ SetWriteDeadline(time.Time) error }

// blockWriter writes blocks, with one system call where it can. The session's mutex guards blocks,
// except while they are being written.
type blockWriter struct {
	out      *rawsock.Writer
	deadline writeDeadline // of what out writes to; nil if it has none or is a stream
	blocks   [maxBlocks]*block
	most     int // bytes to lend; 0: as many as fit

	// The session's mutex guards these.
	interrupted bool          // interrupt was called
	limited     bool          // limit was called
	watch       stall.Watch   // of what is taken, once limit was called
	stalled     time.Duration // by watch

	vector [maxBlocks][]byte // what write passes on, here so that it is not allocated each time
}

// blockWriters holds idle writers.
var blockWriters = sync.Pool{New: func() any { return new(blockWriter) }}

// newBlockWriter returns a writer to w, of which out is made.
func newBlockWriter(w io.Writer, out *rawsock.Writer) *blockWriter {
	b := blockWriters.Get().(*blockWriter)
	b.out = out
	// A stream's session may be the one whose mutex is held when a deadline is set.
	if _, stream := w.(interface{ releaseLocked() }); !stream {
		b.deadline, _ = w.(writeDeadline)
	}
	return b
}

// free returns the writer to the pool. It must hold no blocks.
func (b *blockWriter) free() {
	*b = blockWriter{}
	blockWriters.Put(b)
}

// write writes all blocks and returns the number of bytes that were taken.
func (b *blockWriter) write() (n int64, err error) {
	vector := b.vector[:0]
	for _, c := range b.blocks {
		if c == nil {
			break
		}
		if c.r < c.w {
			vector = append(vector, c.buf[c.r:c.w])
		}
	}
	n, err = b.out.WriteVector(vector)
	clear(vector)
	b.drop(n)
	return n, err
}

// drop removes the first n bytes from the blocks.
func (b *blockWriter) drop(n int64) {
	for _, c := range b.blocks {
		if n == 0 {
			break
		}
		taken := min(n, int64(c.w-c.r))
		c.r += int(taken)
		n -= taken
	}
}

// interrupt makes a pending write return, and all later ones fail. It is called with the session's
// mutex held.
func (b *blockWriter) interrupt() {
	b.interrupted = true
	if b.deadline != nil {
		b.deadline.SetWriteDeadline(time.Unix(1, 0))
	}
}
