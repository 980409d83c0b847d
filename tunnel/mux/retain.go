package mux

// freeUnused frees a record's block that is neither kept nor being written.
func (c *block) freeUnused() {
	if !c.record.kept && c.record.writers == 0 {
		c.free()
	}
}

// sequenced returns the number of bytes kept of a record.
func (c *block) sequenced() int { return c.w - c.r }

// retained is what was sent and not yet acknowledged, in order. It is guarded by the session's
// mutex.
type retained struct {
	head, tail *block
	bytes      int         // sequenced bytes
	mem        int         // bytes of the buffers that hold them
	load       controlLoad // of the control frames among them
}

// mergeBelow is the number of bytes below which data is copied to where other data is, rather than
// kept in its own block: a few bytes must not hold a whole block.
const mergeBelow = maxData / 4

// keep takes the sequenced part of a record that was just packed. A large record with data is kept
// in its block, which then belongs to the list even while the writer uses it. Control frames are
// always copied together, so that a peer that acknowledges none has little of other memory held.
func (r *retained) keep(g *block, room int) {
	n := g.sequenced()
	load := g.record.load
	r.load.add(load)
	if n >= mergeBelow && load.answers.bytes+load.requests.bytes < n {
		r.push(g)
		return
	}
	t := r.tail
	if t == nil || t.record.writers > 0 || t.sequenced()+n > room || t.w+n > len(t.buf) {
		t = newBlock(largeBlock)
		t.record.position = g.record.position
		r.push(t)
	}
	t.w += copy(t.buf[t.w:], g.buf[g.r:g.w])
	t.record.load.add(load)
	r.bytes += n
}

func (r *retained) push(g *block) {
	g.record.kept = true
	if r.tail == nil {
		r.head = g
	} else {
		r.tail.next = g
	}
	r.tail = g
	r.bytes += g.sequenced()
	r.mem += largeBlock
}

// acknowledge drops what is before position.
func (r *retained) acknowledge(position uint64) {
	for g := r.head; g != nil; g = r.head {
		if end := g.record.position + uint64(g.sequenced()); end > position {
			if position > g.record.position {
				n := int(position - g.record.position)
				g.r += n
				g.record.position = position
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
	r.mem -= largeBlock
	r.load.subtract(g.record.load)
	g.next, g.record.kept = nil, false
	g.freeUnused()
}

// at returns the block that holds position, and its bytes from there on. It returns nil at the end.
func (r *retained) at(position uint64) (*block, []byte) {
	for g := r.head; g != nil; g = g.next {
		offset := position - g.record.position
		if position >= g.record.position && offset < uint64(g.sequenced()) {
			return g, g.buf[g.r+int(offset) : g.w]
		}
	}
	return nil, nil
}

// firstFrames returns the first frames of a record: as many as fit into room bytes, but one at
// least. It returns all of them where a peer claims to have received a part of a frame.
func firstFrames(record []byte, room int) []byte {
	size := 0
	for rest := record; len(rest) > 0; {
		_, after, err := parseFrame(rest)
		if err != nil {
			return record
		}
		end := len(record) - len(after)
		if end > room && size > 0 {
			return record[:size]
		}
		size, rest = end, after
	}
	return record
}

// release drops everything.
func (r *retained) release() {
	for r.head != nil {
		r.pop()
	}
}
