package mux

import "sync"

// Two sizes of pooled blocks: most streams hold a few bytes for a moment, few hold a backlog.
const (
	smallBlock = 2 << 10

	// largeBlock is the size of a block that holds any record either side packs, so that what a
	// record brings can stay where it was decrypted, and what is read from a socket can become a
	// record in place. It is a multiple of the sizes in which Go allocates.
	largeBlock = 40 << 10

	// adoptFrom is the number of bytes from which received data stays in the block in which it
	// arrived. Less is copied, so that little data does not hold large blocks, and all is copied while
	// memory is scarce.
	adoptFrom = maxData / 2

	// headroom is what is left free before data that is read from a socket: for the frames of the
	// session that precede it in a record, and the header of its own frame.
	headroom = 1024
)

// A large block holds a record, and the data of the largest frame after its headroom, or this does
// not compile.
var (
	_ [largeBlock - maxRecord]struct{}
	_ [largeBlock - headroom - maxData]struct{}
)

// The pools are shared by all sessions. Between two uses a block holds only old bytes, which are
// overwritten before they are read.
var (
	smallBlocks = sync.Pool{New: func() any { return &block{buf: make([]byte, smallBlock)} }}
	largeBlocks = sync.Pool{New: func() any { return &block{buf: make([]byte, largeBlock)} }}
)

// block is a pooled buffer. buf[r:w] is filled, with data of a stream or with what is kept of a
// record.
type block struct {
	buf  []byte
	r, w int
	next *block // in a queue or in the list of retained records

	record recordState
}

// recordState is the state of a block that holds a record.
type recordState struct {
	position uint64      // of buf[r]
	writers  int         // carriers to which it is being written: one that was replaced may still hang
	kept     bool        // in the list of retained records
	load     controlLoad // of the control frames in it
}

func newBlock(atLeast int) *block {
	if atLeast <= smallBlock {
		return smallBlocks.Get().(*block)
	}
	return largeBlocks.Get().(*block)
}

// free returns the block to its pool. The caller must hold no slice of it.
func (c *block) free() {
	*c = block{buf: c.buf[:cap(c.buf)]}
	if len(c.buf) == smallBlock {
		smallBlocks.Put(c)
	} else {
		largeBlocks.Put(c)
	}
}

// seal prevents writes after what the block holds.
func (c *block) seal() { c.buf = c.buf[:c.w] }

// queue is a byte queue of pooled blocks. An empty queue holds no memory.
type queue struct {
	head, tail *block
	len        int  // bytes queued
	mem        int  // bytes of the blocks that hold them
	sum        *int // counts mem together with that of other queues, unless it is nil
}

// write appends a copy of p.
func (q *queue) write(p []byte) {
	for len(p) > 0 {
		if q.tail == nil || q.tail.w == len(q.tail.buf) {
			q.push(newBlock(min(len(p), largeBlock)))
		}
		n := copy(q.tail.buf[q.tail.w:], p)
		q.tail.w += n
		q.len += n
		p = p[n:]
	}
}

// push appends c, which the queue then owns.
func (q *queue) push(c *block) {
	if q.tail == nil {
		q.head = c
	} else {
		q.tail.next = c
	}
	q.tail = c
	q.len += c.w - c.r
	q.count(cap(c.buf))
}

// count adds n bytes of blocks.
func (q *queue) count(n int) {
	q.mem += n
	if q.sum != nil {
		*q.sum += n
	}
}

// countIn counts the queue's memory in another sum from now on.
func (q *queue) countIn(sum *int) {
	if q.sum != sum {
		*q.sum -= q.mem
		*sum += q.mem
		q.sum = sum
	}
}

// pop removes the first block, which the caller then owns, or returns nil.
func (q *queue) pop() *block {
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
	q.count(-cap(c.buf))
	return c
}

// popSome is pop, with a copy of the first most bytes if the block holds more. It returns nil for
// none.
func (q *queue) popSome(most int) *block {
	switch {
	case most == 0:
		return nil
	case q.head == nil || q.head.w-q.head.r <= most:
		return q.pop()
	}
	c := newBlock(most)
	c.w = q.read(c.buf[:most])
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

// peek copies the queue's first bytes to p, which must not be longer than the queue.
func (q *queue) peek(p []byte) {
	for c := q.head; len(p) > 0; c = c.next {
		p = p[copy(p, c.buf[c.r:c.w]):]
	}
}

// discard drops the queue's first n bytes. There must be as many.
func (q *queue) discard(n int) {
	for n > 0 {
		c := q.head
		taken := min(n, c.w-c.r)
		c.r += taken
		q.len -= taken
		n -= taken
		if c.r == c.w {
			q.pop().free()
		}
	}
}
