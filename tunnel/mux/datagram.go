package mux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// The flags of a datagram frame.
const (
	pieceContinues = 0x01 // the frame goes on with the datagram of the stream's frame before
	pieceMore      = 0x02 // the datagram goes on in the stream's next frame
)

// Sizes of what precedes a datagram, or a piece of one, in a queue.
const (
	sendPrefix    = 8 + 2 // when it was queued, in nanoseconds after datagrams.began; length
	receivePrefix = 1 + 2 // flags; length
)

var (
	errDatagrams   = fmt.Errorf("the stream carries datagrams: %w", errors.ErrUnsupported)
	errNoDatagrams = fmt.Errorf("the stream carries no datagrams: %w", errors.ErrUnsupported)

	// ErrDatagramSize says that a datagram was larger than MaxDatagram.
	ErrDatagramSize = errors.New("datagram too large")
)

// DatagramStats counts the datagrams of a session.
type DatagramStats struct {
	Sent     uint64 // put into records
	Received uint64 // filed for ReceiveDatagram
	Dropped  uint64 // not sent or not filed, for want of room or time, or for a stream that is gone
}

// datagrams is what a StreamUDP has beside its halves, guarded by session.mu. Received pieces are in the receiving half's
// queue, each after its prefix. The methods take a nil receiver for a stream of another kind.
type datagrams struct {
	began time.Time
	queue queue // to be sent, each after its prefix
	left  int   // bytes still to be sent of the first one, which has lost its prefix; 0 when none has begun

	whole      int  // datagrams in the receiving half's queue, less pieces of broken ones
	assembling bool // the last piece that was filed wants another
	size       int  // bytes so far of the one that is assembled
}

// due says that a datagram is to be sent.
func (d *datagrams) due() bool { return d != nil && d.queue.len > 0 }

// dropQueued drops what is to be sent.
func (d *datagrams) dropQueued() {
	if d != nil {
		d.queue.release()
		d.left = 0
	}
}

// dropReceived is told that the receiving half's queue was emptied.
func (d *datagrams) dropReceived() {
	if d != nil {
		d.whole, d.assembling = 0, false
	}
}

// OpenDatagrams opens a StreamUDP and does not wait for the peer's answer: what is sent meanwhile follows the open frame.
// A refusal is an *OpenError of ReceiveDatagram and later calls.
func (s *Session) OpenDatagrams(address string) (*Stream, error) {
	if len(address) > maxTarget {
		return nil, &OpenError{Code: CodeBadTarget}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.openLocked(Target{StreamUDP, address})
}

// SendDatagram queues a copy of p for sending and never waits. When the stream's queue is full its oldest datagrams are
// dropped, and so are those that could not be sent within a second, and all that are queued while the session has no
// carrier: success says nothing of delivery.
// An error says that the stream has ended, or that p is larger than MaxDatagram.
func (st *Stream) SendDatagram(p []byte) error {
	s, d := st.session, st.datagrams
	if d == nil {
		return errNoDatagrams
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case st.send.err != nil:
		return st.causeLocked(st.send.err)
	case st.send.fin:
		return net.ErrClosed
	case len(p) > MaxDatagram:
		s.datagrams.Dropped++
		return ErrDatagramSize
	case s.link == nil:
		s.datagrams.Dropped++
		return nil
	}
	for d.queue.len > 0 && d.queue.len+sendPrefix+len(p) > maxDatagramQueue {
		st.dropOldestLocked()
	}
	var prefix [sendPrefix]byte
	binary.BigEndian.PutUint64(prefix[:], uint64(time.Since(d.began)))
	binary.BigEndian.PutUint16(prefix[8:], uint16(len(p)))
	d.queue.write(prefix[:])
	d.queue.write(p)
	s.wakeSenderLocked(st)
	return nil
}

// cause is err, or why the stream was refused.
func (st *Stream) causeLocked(err error) error {
	if st.openResult != nil {
		return st.openResult
	}
	return err
}

// dropOldest drops the first datagram that is to be sent, or what is left of it: the peer drops the rest when another
// begins.
func (st *Stream) dropOldestLocked() {
	d := st.datagrams
	if d.left == 0 {
		d.left, _ = d.peekPrefix()
		d.left += sendPrefix
	}
	d.queue.discard(d.left)
	d.left = 0
	st.session.datagrams.Dropped++
}

// dropDatagrams drops all that is to be sent, with what has begun: the peer would take the pieces that come on the next
// carrier for the rest of one whose middle was lost with this one.
func (s *Session) dropDatagramsLocked() {
	for _, st := range s.streams.byID {
		for st.datagrams.due() {
			st.dropOldestLocked()
		}
	}
}

// packDatagrams appends datagrams as long as it is the turn of streams that have some. The sequenced frames of a record
// stand together; so datagrams stand before or behind them.
func (l *link) packDatagramsLocked(p *packer) {
	for fits := true; fits && p.left() >= headerSize+minFill; {
		st := l.session.sched.next(l.pace.FrameSize())
		if st == nil || !st.datagrams.due() {
			break
		}
		p.b, fits = st.appendDatagramLocked(p.b, p.room)
	}
}

// appendDatagram appends the stream's next datagram, or a piece of it, to a record of at most room bytes, unless it does
// not fit beside what the record holds. Called when the scheduler has given
// the stream its turn; the stream must have one due. It appends nothing when what was due came too late.
func (st *Stream) appendDatagramLocked(b []byte, room int) (record []byte, fits bool) {
	d := st.datagrams
	largest := min(maxPiece, room/2-headerSize-1)
	flags := byte(pieceContinues)
	if d.left == 0 {
		length, queued := d.peekPrefix()
		switch {
		case time.Since(d.began)-queued > maxDatagramWait:
			st.dropOldestLocked()
			return b, true
		case len(b)+headerSize+1+min(length, largest) > room:
			return b, false
		}
		d.queue.discard(sendPrefix)
		d.left, flags = length, 0
	}
	n := min(d.left, largest)
	if len(b)+headerSize+1+n > room {
		return b, false
	}
	d.left -= n
	if d.left > 0 {
		flags |= pieceMore
	} else {
		st.session.datagrams.Sent++
	}
	b = append(appendHeader(b, kindDatagram, st.id, 1+n), flags)
	start := len(b)
	b = b[:start+n]
	d.queue.read(b[start:])
	st.turn.deficit -= headerSize + n
	return b, true
}

// peekPrefix reads the prefix of the first datagram and leaves it in the queue.
func (d *datagrams) peekPrefix() (length int, queued time.Duration) {
	var prefix [sendPrefix]byte
	d.queue.peek(prefix[:])
	return int(binary.BigEndian.Uint16(prefix[8:])), time.Duration(binary.BigEndian.Uint64(prefix[:]))
}

// handleDatagram files a datagram, or a piece of one. Those for streams that have ended, or whose open frame has yet to
// be sent again, are lost.
func (s *Session) handleDatagramLocked(f frame) error {
	flags, p := f.payload[0], f.payload[1:]
	st := s.streams.byID[f.stream]
	switch {
	case f.stream == 0:
		return protocolErrorf("datagram on stream 0")
	case flags&^(pieceContinues|pieceMore) != 0 || (flags != 0 && len(p) == 0):
		return protocolErrorf("datagram with the flags 0x%02x and %d bytes", flags, len(p))
	case st == nil:
		s.datagrams.Dropped++
		return nil
	case st.datagrams == nil:
		return protocolErrorf("datagram on stream %d, which carries data", st.id)
	}
	return st.handlePieceLocked(flags, p)
}

func (st *Stream) handlePieceLocked(flags byte, p []byte) error {
	s, d := st.session, st.datagrams
	switch {
	case flags&pieceContinues == 0:
		if d.whole == 0 {
			st.dropReceivedLocked() // pieces of one that was broken off
		}
		d.size = 0
	case !d.assembling:
		return nil // its first piece was dropped, and counted
	}
	d.size += len(p)
	if d.size > MaxDatagram {
		return protocolErrorf("datagram of more than %d bytes on stream %d", MaxDatagram, st.id)
	}
	// Half of the session's memory is left to the streams that can't drop anything.
	if st.closed || st.recv.fin || s.memory.buffered > s.cfg.MaxBuffered/2 ||
		st.recv.queue.len+receivePrefix+len(p) > maxDatagramQueue {
		d.assembling = false
		s.datagrams.Dropped++
		return nil
	}
	mem := st.recv.mem()
	st.recv.queue.write([]byte{flags, byte(len(p) >> 8), byte(len(p))})
	st.recv.queue.write(p)
	st.accountLocked(mem)
	d.assembling = flags&pieceMore != 0
	if !d.assembling {
		d.whole++
		s.datagrams.Received++
		st.recv.wake.Broadcast()
	}
	return nil
}

// ReceiveDatagram waits for the next datagram and copies it to p. What does not fit is lost, and the error is
// io.ErrShortBuffer then; MaxDatagram bytes are always enough. It returns io.EOF after the peer's fin, and an *OpenError
// when the stream was refused.
func (st *Stream) ReceiveDatagram(p []byte) (int, error) {
	if st.datagrams == nil {
		return 0, errNoDatagrams
	}
	st.session.mu.Lock()
	defer st.session.mu.Unlock()
	if err := st.awaitDatagramLocked(); err != nil {
		return 0, err
	}
	return st.takeDatagramLocked(p)
}

// AwaitDatagram waits until ReceiveDatagram has a datagram, so that no buffer need be kept for it meanwhile. It fails as
// ReceiveDatagram does. Another receiver may still be quicker.
func (st *Stream) AwaitDatagram() error {
	if st.datagrams == nil {
		return errNoDatagrams
	}
	st.session.mu.Lock()
	defer st.session.mu.Unlock()
	return st.awaitDatagramLocked()
}

func (st *Stream) awaitDatagramLocked() error {
	for {
		switch r := &st.recv; {
		case r.deadline.expired:
			return os.ErrDeadlineExceeded
		case st.datagrams.whole > 0:
			return nil
		case r.err != nil:
			return st.causeLocked(r.err)
		case r.fin:
			return io.EOF
		}
		st.recv.wake.Wait()
	}
}

// takeDatagram moves the first whole datagram to p.
func (st *Stream) takeDatagramLocked(p []byte) (n int, err error) {
	q := &st.recv.queue
	mem := st.recv.mem()
	flags := byte(pieceMore)
	for flags&pieceMore != 0 {
		var prefix [receivePrefix]byte
		q.read(prefix[:])
		flags = prefix[0]
		if flags&pieceContinues == 0 {
			n, err = 0, nil
		}
		size := int(binary.BigEndian.Uint16(prefix[1:]))
		read := q.read(p[n:min(n+size, len(p))])
		if read < size {
			q.discard(size - read)
			err = io.ErrShortBuffer
		}
		n += read
	}
	st.datagrams.whole--
	st.accountLocked(mem)
	return n, err
}

// peek copies the queue's first bytes to p, which must not be longer than the queue.
func (q *queue) peek(p []byte) {
	for c := q.head; len(p) > 0; c = c.next {
		p = p[copy(p, c.buf[c.r:c.w]):]
	}
}

// discard drops the queue's first n bytes, which it must have.
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
