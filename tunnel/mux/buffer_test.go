package mux

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// checkQueue compares a queue's counters with its blocks, and its length with the model's.
func checkQueue(t *testing.T, q *queue, model []byte) {
	t.Helper()
	length, mem := 0, 0
	var last *block
	for c := q.head; c != nil; c = c.next {
		if c.r == c.w {
			t.Fatal("an empty block is queued")
		}
		length += c.w - c.r
		mem += len(c.buf)
		last = c
	}
	if q.len != len(model) || length != q.len || mem != q.mem || last != q.tail {
		t.Fatalf("queue of %d bytes in %d, counted %d in %d, want %d", length, mem, q.len, q.mem,
			len(model))
	}
}

// TestQueueSizes writes and reads boundary lengths in steps of boundary sizes.
func TestQueueSizes(t *testing.T) {
	sizes := []int{1, 2, smallBlock - 1, smallBlock, smallBlock + 1, largeBlock - 1, largeBlock,
		largeBlock + 1, 2*largeBlock + smallBlock}
	content := randomBytes(t, sizes[len(sizes)-1])
	for _, size := range sizes {
		for _, in := range sizes {
			for _, out := range sizes {
				if size/min(in, out) > 3*smallBlock {
					continue // byte by byte over the largest shows nothing new
				}
				var q queue
				for rest := content[:size]; len(rest) > 0; {
					n := min(in, len(rest))
					q.write(rest[:n])
					rest = rest[n:]
				}
				checkQueue(t, &q, content[:size])
				var got []byte
				p := make([]byte, out)
				for n := q.read(p); n > 0; n = q.read(p) {
					got = append(got, p[:n]...)
				}
				if !bytes.Equal(got, content[:size]) {
					t.Fatalf("%d bytes in steps of %d, out in steps of %d: not what went in", size, in, out)
				}
				checkQueue(t, &q, nil)
			}
		}
	}
}

// TestQueueModel runs random operations on a queue and a plain slice.
func TestQueueModel(t *testing.T) {
	for seed := range uint64(50) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 2))
			content := randomBytes(t, 3*largeBlock)
			some := func() []byte {
				n := 1 + r.IntN([]int{10, smallBlock, largeBlock, len(content)}[r.IntN(4)])
				return content[:n]
			}
			var q queue
			var model []byte
			for range 200 {
				switch r.IntN(10) {
				case 0, 1, 2:
					p := some()
					q.write(p)
					model = append(model, p...)
				case 3, 4:
					p := some()
					c := newBlock(min(len(p), largeBlock))
					c.w = copy(c.buf, p)
					model = append(model, c.buf[:c.w]...)
					q.push(c)
				case 5, 6, 7:
					p := make([]byte, len(some()))
					n := q.read(p)
					if n != min(len(p), len(model)) || !bytes.Equal(p[:n], model[:n]) {
						t.Fatalf("read %d bytes of %d, want %d", n, len(p), len(model))
					}
					model = model[n:]
				case 8:
					c := q.pop()
					if (c == nil) != (len(model) == 0) {
						t.Fatalf("pop of a queue with %d bytes: %v", len(model), c)
					}
					if c != nil {
						if !bytes.HasPrefix(model, c.buf[c.r:c.w]) {
							t.Fatal("pop: not what went in")
						}
						model = model[c.w-c.r:]
						c.free()
					}
				case 9:
					if r.IntN(10) == 0 {
						q.release()
						model = nil
					}
				}
				checkQueue(t, &q, model)
			}
			q.release()
			checkQueue(t, &q, nil)
			if q.head != nil || q.tail != nil {
				t.Error("an empty queue holds memory")
			}
		})
	}
}

// TestSmallPiecesShareBlocks bounds what a peer that sends single bytes makes this side hold.
func TestSmallPiecesShareBlocks(t *testing.T) {
	var q queue
	for range 10 * smallBlock {
		q.write([]byte{1})
	}
	if q.mem != q.len {
		t.Errorf("%d bytes in %d bytes of memory", q.len, q.mem)
	}
	q.release()
}
