//go:build linux

package link

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Link is a running link. Its methods may be called concurrently.
type Link struct {
	A, B *Host

	ways   [2]*way
	moving sync.WaitGroup
	close  func() error
}

// Stats counts the packets that a host sent, by outcome.
type Stats struct {
	Packets uint64 // that arrived
	Bytes   uint64 // of these
	Dropped uint64 // packets, because the queue was full
	Lost    uint64 // packets, on the way
}

// New creates two hosts and the link between them. Close removes them.
func New(cfg Config) (*Link, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	removeAbandoned()
	name := fmt.Sprintf("%s%d-%d", namespacePrefix, os.Getpid(), links.Add(1))
	l := &Link{}
	if l.A, err = newHost(name+"a", addresses[0], cfg); err != nil {
		return nil, err
	}
	if l.B, err = newHost(name+"b", addresses[1], cfg); err != nil {
		return nil, errors.Join(err, l.A.remove())
	}
	l.ways = [2]*way{
		newWay(l.A.device, l.B.device, cfg, 0),
		newWay(l.B.device, l.A.device, cfg, 1),
	}
	for _, w := range l.ways {
		l.moving.Go(w.receive)
		l.moving.Go(w.deliver)
	}
	l.close = sync.OnceValue(l.shut)
	return l, nil
}

// Stats returns the counts of the direction from A to B and of that from B to A.
func (l *Link) Stats() (fromA, fromB Stats) { return l.ways[0].stats(), l.ways[1].stats() }

// Close ends the link and removes its hosts; packets in flight are lost. The error includes an
// earlier failure of the link, if there was one. A second call returns the same error.
func (l *Link) Close() error { return l.close() }

func (l *Link) shut() error {
	for _, w := range l.ways {
		w.stop()
	}
	err := errors.Join(l.A.remove(), l.B.remove())
	l.moving.Wait()
	return errors.Join(err, l.ways[0].err, l.ways[1].err)
}

// packet is a packet in flight.
type packet struct {
	due  time.Time
	data []byte
}

// way is a direction of a link. One goroutine reads packets and one delivers them.
type way struct {
	from, to *os.File
	shaper   *shaper // the reader's
	mtu      int

	packets, bytes, dropped, lost atomic.Uint64

	mu      sync.Mutex
	changed sync.Cond // packets are waiting, or the way is closed
	waiting []packet  // by due time
	closed  bool
	err     error // why the way failed
}

func newWay(from, to *os.File, cfg Config, direction int) *way {
	w := &way{from: from, to: to, shaper: newShaper(cfg, direction), mtu: cfg.MTU}
	w.changed.L = &w.mu
	return w
}

func (w *way) stats() Stats {
	return Stats{w.packets.Load(), w.bytes.Load(), w.dropped.Load(), w.lost.Load()}
}

// stop ends deliver. receive ends when its device is closed.
func (w *way) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.changed.Signal()
}

func (w *way) stopped() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
}

// fail stops the way because of a device's error, unless the device was closed.
func (w *way) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed && !errors.Is(err, os.ErrClosed) {
		w.err = err
	}
	w.closed = true
	w.changed.Signal()
}

// receive reads what the sending host sends, until its device is closed.
func (w *way) receive() {
	var slab []byte // memory for packets; a used slab is garbage once its last packet is delivered
	for {
		if len(slab) < w.mtu {
			slab = make([]byte, max(slabSize, w.mtu))
		}
		n, err := w.from.Read(slab[:w.mtu])
		if err != nil {
			w.fail(err)
			return
		}
		due, fate := w.shaper.take(time.Now(), n)
		switch fate {
		case dropped:
			w.dropped.Add(1)
		case lost:
			w.lost.Add(1)
		default:
			w.put(packet{due, slab[:n:n]})
			slab = slab[n:]
		}
	}
}

func (w *way) put(p packet) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = append(w.waiting, p)
	w.changed.Signal()
}

// takeAll waits for packets and exchanges them for the memory of an empty batch. It returns none
// when the way is closed.
func (w *way) takeAll(empty []packet) []packet {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.waiting) == 0 && !w.closed {
		w.changed.Wait()
	}
	if w.closed {
		return nil
	}
	batch := w.waiting
	w.waiting = empty[:0]
	return batch
}

// deliver gives the packets to the receiving host when they are due, until the way is closed. All
// packets that became due during one sleep are sent at once, so that at high rates a sleep serves
// many packets.
func (w *way) deliver() {
	var batch []packet
	for {
		if batch = w.takeAll(batch); len(batch) == 0 {
			return
		}
		for i, p := range batch {
			if !w.sleepUntil(p.due) {
				return
			}
			// Counted first, so that the receiver of a packet finds it in the counts.
			w.packets.Add(1)
			w.bytes.Add(uint64(len(p.data)))
			if _, err := w.to.Write(p.data); err != nil {
				w.fail(err)
				return
			}
			batch[i].data = nil
		}
	}
}

// sleepUntil reports false if the way is closed before t. It sleeps in the kernel, because the
// runtime's timers fire up to a millisecond late on an idle machine.
func (w *way) sleepUntil(due time.Time) bool {
	for {
		left := time.Until(due)
		if left <= 0 {
			return true
		}
		if w.stopped() {
			return false
		}
		piece := unix.NsecToTimespec(int64(min(left, closeCheck)))
		// An interrupted sleep is resumed.
		unix.Nanosleep(&piece, nil)
	}
}
