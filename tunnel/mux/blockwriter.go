package mux

import (
	"io"
	"net"
	"sync"
	"time"
)

// writeDeadline is a writer that can be made to stop waiting.
type writeDeadline interface{ SetWriteDeadline(time.Time) error }

// blockWriter writes blocks, with one system call where it can. The session's mutex guards blocks,
// except while they are being written.
type blockWriter struct {
	w        io.Writer
	deadline writeDeadline // w's, nil if it has none
	blocks   [maxBlocks]*block

	vector  [maxBlocks][]byte
	buffers net.Buffers // what write passes on, here so that it is not allocated each time
}

// blockWriters holds idle writers.
var blockWriters = sync.Pool{New: func() any { return new(blockWriter) }}

func newBlockWriter(w io.Writer) *blockWriter {
	b := blockWriters.Get().(*blockWriter)
	b.w = w
	b.deadline, _ = w.(writeDeadline)
	return b
}

// free returns the writer to the pool. It must hold no blocks.
func (b *blockWriter) free() {
	*b = blockWriter{}
	blockWriters.Put(b)
}

// write writes all blocks and returns the number of bytes that were taken.
func (b *blockWriter) write() (int64, error) {
	b.buffers = b.vector[:0]
	for _, c := range b.blocks {
		if c == nil {
			break
		}
		b.buffers = append(b.buffers, c.buf[c.r:c.w])
	}
	if len(b.buffers) == 1 {
		n, err := b.w.Write(b.buffers[0])
		if err == nil && n < len(b.buffers[0]) {
			err = io.ErrShortWrite
		}
		return int64(n), err
	}
	return b.buffers.WriteTo(b.w)
}

// interrupt makes a pending write return, and all later ones fail.
func (b *blockWriter) interrupt() {
	if b.deadline != nil {
		b.deadline.SetWriteDeadline(time.Unix(1, 0))
	}
}
