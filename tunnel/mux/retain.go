package mux

import (
	"sync"
	"sync/atomic"
)

// segment is a buffer for one record, and what is kept of it until the peer has acknowledged it: the sequenced frames,
// which stand together. Records with little in them are copied into one segment, so that a few bytes don't hold a whole
// buffer.
type segment struct {
	buf        [maxRecord]byte
	start, end int    // buf[start:end] is sequenced and not acknowledged
	position   uint64 // of buf[start]
	writers    int    // carriers to which a part of it is being written: the old one may hang while the new one is on
	kept       bool   // in the list of retained segments
	next       *segment
}

// segments holds nothing between two uses but old bytes, which are overwritten before they are sent.
var segments = sync.Pool{New: func() any { return new(segment) }}

func newSegment() *segment {
	g := segments.Get().(*segment)
	g.start, g.end, g.position, g.next = 0, 0, 0, nil
	g.writers, g.kept = 0, false
	return g
}

// free gives the segment back. Nobody may hold a slice of it.
func (g *segment) free() { segments.Put(g) }

// freeUnused frees a segment that is neither kept nor being written.
func (g *segment) freeUnused() {
	if !g.kept && g.writers == 0 {
		g.free()
	}
}

// sequenced returns the number of bytes kept.
func (g *segment) sequenced() int { return g.end - g.start }

// Budget bounds what all sessions of a process retain together, in bytes. Its methods may be called concurrently.
type Budget struct {
	limit int64
	used  atomic.Int64
}

// NewBudget makes a budget of limit bytes.
func NewBudget(limit int64) *Budget { return &Budget{limit: limit} }

func (b *Budget) add(n int) {
	if b != nil {
		b.used.Add(int64(n))
	}
}

func (b *Budget) exceeded() bool { return b != nil && b.used.Load() >= b.limit }

// retained is what was sent and not acknowledged, in order. It is guarded by the session's mutex.
type retained struct {
	head, tail *segment
	bytes      int // sequenced bytes
	mem        int // bytes of the buffers that hold them
	budget     *Budget
}

// mergeBelow is the number of sequenced bytes below which a record is copied rather than kept in its own buffer.
const mergeBelow = maxRecord / 4

// keep takes the sequenced part of a record that was just packed. A record of some size is kept as it is; its buffer then
// belongs to the list, also while the writer has it.
func (r *retained) keep(g *segment, room int) {
	n := g.sequenced()
	if n >= mergeBelow {
		r.push(g)
		return
	}
	t := r.tail
	if t == nil || t.end+n > room {
		t = newSegment()
		t.position = g.position
		r.push(t)
	}
	copy(t.buf[t.end:], g.buf[g.start:g.end])
	t.end += n
	r.bytes += n
}

func (r *retained) push(g *segment) {
	g.kept = true
	if r.tail == nil {
		r.head = g
	} else {
		r.tail.next = g
	}
	r.tail = g
	r.bytes += g.sequenced()
	r.mem += maxRecord
	r.budget.add(maxRecord)
}

// acknowledge drops what lies before position.
func (r *retained) acknowledge(position uint64) {
	for g := r.head; g != nil; g = r.head {
		if end := g.position + uint64(g.sequenced()); end > position {
			if position > g.position {
				n := int(position - g.position)
				g.start += n
				g.position = position
				r.bytes -= n
			}
			return
		}
		r.pop()
	}
}

func (r *retained) pop() {
	g := r.head
	r.head = g.next
	if r.head == nil {
		r.tail = nil
	}
	r.bytes -= g.sequenced()
	r.mem -= maxRecord
	r.budget.add(-maxRecord)
	g.next, g.kept = nil, false
	g.freeUnused()
}

// at returns the segment that holds position, and what it holds from there on. It is nil at the end.
func (r *retained) at(position uint64) (*segment, []byte) {
	for g := r.head; g != nil; g = g.next {
		if offset := position - g.position; position >= g.position && offset < uint64(g.sequenced()) {
			return g, g.buf[g.start+int(offset) : g.end]
		}
	}
	return nil, nil
}

// release drops everything.
func (r *retained) release() {
	for r.head != nil {
		r.pop()
	}
}
