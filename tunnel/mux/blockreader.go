package mux

import (
	"io"
	"syscall"
)

// maxBlocks is the number of blocks that one system call reads into or writes from. Per byte, a
// call for 128 KiB costs a quarter less than one for 32 KiB; larger ones save little.
const maxBlocks = 4

// blockReader reads into blocks. When it reads from a socket it takes blocks from the pool only
// once there is something to read.
type blockReader struct {
	r      io.Reader
	raw    syscall.RawConn // of a socket from which the system reads into several blocks, else nil
	waits  syscall.RawConn // of one that can only be waited for, else nil
	blocks [maxBlocks]*block
	many   int // blocks to read into next: it follows what was read
	piece  int // bytes to read at once; 0: no limit
	source sourceWatch
	memory *memory // of the session that what is read is for

	reserved int64 // bytes of memory that memory.reserve has counted

	// State of the callback of raw.Read, here so that it is not allocated each time.
	room     int
	n        int
	err      error
	denied   bool // nothing was read, since there is no memory for it
	waited   bool // for data, on waits
	readable func(fd uintptr) bool
}

func newBlockReader(r io.Reader) *blockReader {
	b := &blockReader{r: r, many: 1}
	b.raw, b.waits = socketOf(r)
	b.readable = b.readSocket
	if b.waits != nil {
		b.readable = b.hasWaited
	}
	return b
}

// hasWaited returns false to be called again when the socket may be readable.
func (b *blockReader) hasWaited(uintptr) bool {
	waited := b.waited
	b.waited = true
	return waited
}

// read waits for data and reads some: at most room bytes, and a block more when room is for one at
// least. It returns the number of bytes. When denied is set then, nothing was read.
func (b *blockReader) read(room int) (int, error) {
	b.room, b.denied = room, false
	if b.raw == nil {
		return b.readOne()
	}
	b.n, b.err = 0, nil
	if err := b.raw.Read(b.readable); err != nil {
		return 0, err
	}
	return b.n, b.err
}

// readOne is read without the system's help, into one block.
func (b *blockReader) readOne() (int, error) {
	if b.waits != nil {
		b.waited = false
		if err := b.waits.Read(b.readable); err != nil {
			return 0, err
		}
		if b.denied = !b.reserve(1); b.denied {
			return 0, nil
		}
	}
	b.take(1)
	c := b.blocks[0]
	n, err := b.r.Read(b.place(c))
	b.fill(n)
	if n == 0 {
		b.giveBack()
	}
	return n, err
}

// place returns where to read to in an empty block.
func (b *blockReader) place(c *block) []byte {
	size := min(maxData, b.room)
	if b.piece > 0 {
		size = min(size, b.piece)
	}
	return c.buf[headroom : headroom+size]
}

// take puts empty blocks into the first n places.
func (b *blockReader) take(n int) {
	for i := range n {
		if b.blocks[i] == nil {
			b.blocks[i] = newBlock(largeBlock)
		}
		b.blocks[i].r, b.blocks[i].w = headroom, headroom
	}
}

// fill notes that n bytes were read, and frees the blocks that got none.
func (b *blockReader) fill(n int) {
	for i, c := range b.blocks {
		if c == nil {
			break
		}
		got := min(n, maxData)
		c.w = headroom + got
		n -= got
		if got == 0 {
			c.free()
			b.blocks[i] = nil
		}
	}
}

// mem returns the memory of the blocks that hold what was read, in bytes.
func (b *blockReader) mem() (n int) {
	for _, c := range b.blocks {
		if c == nil {
			break
		}
		n += cap(c.buf)
	}
	return n
}

// moveTo appends what was read to a queue. Small pieces are copied, so that they do not hold large
// blocks.
func (b *blockReader) moveTo(q *queue) {
	for i, c := range b.blocks {
		if c == nil {
			break
		}
		if c.w-c.r <= smallBlock {
			q.write(c.buf[c.r:c.w])
			c.free()
		} else {
			q.push(c)
		}
		b.blocks[i] = nil
	}
	b.giveBack()
}

// release frees what was read and not moved.
func (b *blockReader) release() {
	b.fill(0)
	b.giveBack()
}

// reserve counts n blocks as held, and reports whether there is memory for them.
func (b *blockReader) reserve(n int) bool {
	if b.memory == nil {
		return true
	}
	bytes := int64(n) * largeBlock
	if !b.memory.reserve(bytes) {
		return false
	}
	b.reserved = bytes
	return true
}

// giveBack ends what reserve has begun: the blocks are free, or counted elsewhere.
func (b *blockReader) giveBack() {
	if b.reserved > 0 {
		b.memory.giveBack(b.reserved)
		b.reserved = 0
	}
}
