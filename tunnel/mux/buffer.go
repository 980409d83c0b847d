package mux

import "sync"

// Two sizes of pooled chunks: most streams hold a few bytes for a moment, few hold a backlog.
const (
	smallChunk = 2 << 10
	largeChunk = maxData
)

// The pools are shared by all sessions; a chunk holds nothing between two uses but old bytes, which are overwritten
// before they are read.
var (
	smallChunks = sync.Pool{New: func() any { return &chunk{buf: make([]byte, smallChunk)} }}
	largeChunks = sync.Pool{New: func() any { return &chunk{buf: make([]byte, largeChunk)} }}
)

// chunk is a link of a queue. buf[r:w] is filled.
type chunk struct {
	buf  []byte
	r, w int
	next *chunk
}

func newChunk(atLeast int) *chunk {
	if atLeast <= smallChunk {
		return smallChunks.Get().(*chunk)
	}
	return largeChunks.Get().(*chunk)
}

// free returns the chunk to its pool. The caller must hold no slice of it.
func (c *chunk) free() {
	c.r, c.w, c.next = 0, 0, nil
	if len(c.buf) == smallChunk {
		smallChunks.Put(c)
	} else {
		largeChunks.Put(c)
	}
}

// queue is a byte queue of pooled chunks. An empty queue holds no memory.
type queue struct {
	head, tail *chunk
	len        int // bytes queued
	mem        int // bytes of the chunks that hold them
}

// write appends a copy of p.
func (q *queue) write(p []byte) {
	for len(p) > 0 {
		if q.tail == nil || q.tail.w == len(q.tail.buf) {
			q.push(newChunk(min(len(p), largeChunk)))
		}
		n := copy(q.tail.buf[q.tail.w:], p)
		q.tail.w += n
		q.len += n
		p = p[n:]
	}
}

// push appends c, which the queue then owns.
func (q *queue) push(c *chunk) {
	if q.tail == nil {
		q.head = c
	} else {
		q.tail.next = c
	}
	q.tail = c
	q.len += c.w - c.r
	q.mem += len(c.buf)
}

// pop removes the first chunk, which the caller then owns, or returns nil.
func (q *queue) pop() *chunk {
	c := q.head
	if c == nil {
		return nil
	}
	q.head = c.next
	if q.head == nil {
		q.tail = nil
	}
	c.next = nil
	q.len -= c.w - c.r
	q.mem -= len(c.buf)
	return c
}

// read moves up to len(p) bytes to p and returns their number.
func (q *queue) read(p []byte) int {
	total := 0
	for total < len(p) && q.head != nil {
		n := copy(p[total:], q.head.buf[q.head.r:q.head.w])
		q.head.r += n
		q.len -= n
		total += n
		if q.head.r == q.head.w {
			q.pop().free()
		}
	}
	return total
}

// release empties the queue.
func (q *queue) release() {
	for c := q.pop(); c != nil; c = q.pop() {
		c.free()
	}
}
