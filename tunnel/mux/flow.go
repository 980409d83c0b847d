package mux

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"culvert/tunnel/mux/budget"
)

// The flags of a datagram frame.
const (
	pieceContinues = 0x01 // the frame continues the datagram of the flow's previous frame
	pieceMore      = 0x02 // the flow's next frame continues the datagram
)

// Sizes of what precedes a datagram, or a piece of one, in a queue.
const (
	sendPrefix    = 8 + 2 // when it was queued, in nanoseconds after Flow.began; length
	receivePrefix = 1 + 2 // flags; length
)

// ErrDatagramSize means that a datagram was larger than MaxDatagram.
var ErrDatagramSize = errors.New("datagram too large")

// DatagramStats counts the datagrams of a session.
type DatagramStats struct {
	Sent     uint64 // put into records
	Received uint64 // queued for Receive
	Dropped  uint64 // neither: there was no room, they were late, or their flow had ended
}

// Flow carries datagrams, each whole or not at all, in both directions. Nothing is sent again, and
// nothing waits for a receiver. All methods may be called concurrently. It must be ended with Close
// or Reset.
type Flow struct {
	stream // whose receiving half's queue holds pieces, each after its prefix
	began  time.Time

	// All below is guarded by session.mu.

	queue queue // to be sent, each after its prefix
	left  int   // bytes still to be sent of the first one, whose prefix is gone; 0: not begun

	whole      int  // datagrams in the receiving half's queue, less pieces of broken ones
	assembling bool // the last piece that was queued wants another
	size       int  // bytes so far of the datagram that is assembled

	carried Traffic // bytes of datagrams, less those that were dropped here
}

func newFlow(s *Session, id uint32, address string, ours bool) *Flow {
	f := &Flow{began: time.Now()}
	f.init(s, id, Target{StreamUDP, address}, ours)
	f.flow = f
	f.queue.sum = &s.memory.queued
	return f
}

// due reports whether a datagram is to be sent. It is false for no flow.
func (f *Flow) due() bool { return f != nil && f.queue.len > 0 }

// dropQueuedLocked drops what is to be sent.
func (f *Flow) dropQueuedLocked() {
	if f != nil {
		f.queue.release()
		f.left = 0
	}
}

// receivedDroppedLocked notes that the receiving half's queue was emptied.
func (f *Flow) receivedDroppedLocked() {
	if f != nil {
		f.whole, f.assembling = 0, false
	}
}

// Send queues a copy of p for sending and never waits. When the flow's queue is full its oldest
// datagrams are dropped. So are those that could not be sent within a second, and all that come
// while the session has no carrier or exceeds its share of the memory. It reports whether p was
// queued, which does not imply delivery, and returns an error when the flow has ended, or when p is
// larger than MaxDatagram.
func (f *Flow) Send(p []byte) (queued bool, err error) {
	s := f.session
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case f.send.err != nil:
		return false, f.causeLocked(f.send.err)
	case f.send.fin:
		return false, net.ErrClosed
	case len(p) > MaxDatagram:
		s.countDropLocked(DropSize)
		return false, ErrDatagramSize
	case s.link == nil:
		s.countDropLocked(DropAway)
		return false, nil
	case s.memory.sendingBlocked():
		s.countDropLocked(DropMemory)
		return false, nil
	}
	for f.queue.len > 0 && f.queue.len+sendPrefix+len(p) > maxDatagramQueue {
		f.dropOldestLocked(DropFull)
	}
	var prefix [sendPrefix]byte
	binary.BigEndian.PutUint64(prefix[:], uint64(time.Since(f.began)))
	binary.BigEndian.PutUint16(prefix[8:], uint16(len(p)))
	f.queue.write(prefix[:])
	f.queue.write(p)
	s.settleMemoryLocked()
	s.wakeSenderLocked(&f.stream)
	return true, nil
}

// ResetFlows resets the flows that this side opened, with a code, and returns how many there were.
// It is for a session that may not get another carrier for long: nothing of a flow is kept for the
// next one, so its user can go on in another session. A pending OpenFlow fails with an *OpenError.
func (s *Session) ResetFlows(code Code) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.streams.byID {
		if st.flow != nil && st.ours {
			st.resetLocked(code)
			n++
		}
	}
	return n
}

// causeLocked returns err, or why the stream was refused.
func (st *stream) causeLocked(err error) error {
	if st.openResult != nil {
		return st.openResult
	}
	return err
}

// dropOldestLocked drops the first datagram that is to be sent, or what is left of it: the peer
// drops the rest when another begins.
func (f *Flow) dropOldestLocked(why Drop) {
	if f.left == 0 {
		f.left, _ = f.peekPrefix()
		f.left += sendPrefix
	}
	f.queue.discard(f.left)
	f.left = 0
	f.session.countDropLocked(why)
}

// dropDatagramsLocked drops the datagrams that the carrier has not taken, and those of which it has
// brought a part only: no part of a datagram is sent on another carrier.
func (s *Session) dropDatagramsLocked() {
	for _, st := range s.streams.byID {
		if st.flow == nil {
			continue
		}
		for st.flow.due() {
			st.flow.dropOldestLocked(DropAway)
		}
		st.flow.assembling = false
	}
}

// packDatagramsLocked appends datagrams as long as it is the turn of flows that have some. The
// sequenced frames of a record are contiguous; so datagrams go before or after them.
func (l *link) packDatagramsLocked(p *packer) {
	for fits := true; fits && p.left() >= headerSize+minFill; {
		st := l.session.sched.next(l.pace.TurnSize())
		if st == nil || !st.flow.due() {
			break
		}
		p.b, fits = st.flow.appendDatagramLocked(p.b, p.room)
	}
}

// appendDatagramLocked appends the flow's next datagram, or a piece of it, to a record of at most
// room bytes, unless it does not fit in addition to what the record holds. A datagram must be due,
// and it must be the flow's turn. It appends nothing when the datagram has waited for too long.
func (f *Flow) appendDatagramLocked(b []byte, room int) (record []byte, fits bool) {
	largest := min(maxPiece, room/2-headerSize-1)
	flags := byte(pieceContinues)
	if f.left == 0 {
		length, queued := f.peekPrefix()
		switch {
		case time.Since(f.began)-queued > maxDatagramWait:
			f.dropOldestLocked(DropLate)
			return b, true
		case len(b)+headerSize+1+min(length, largest) > room:
			return b, false
		}
		f.queue.discard(sendPrefix)
		f.left, flags = length, 0
	}
	n := min(f.left, largest)
	if len(b)+headerSize+1+n > room {
		return b, false
	}
	f.left -= n
	if f.left > 0 {
		flags |= pieceMore
	} else {
		f.session.totals.datagrams.Sent++
	}
	b = append(appendHeader(b, kindDatagram, f.id, 1+n), flags)
	start := len(b)
	b = b[:start+n]
	f.queue.read(b[start:])
	f.carried.Sent += uint64(n)
	f.session.totals.Payload.Sent += uint64(n)
	f.turn.deficit -= headerSize + n
	return b, true
}

// peekPrefix reads the prefix of the first datagram and leaves it in the queue.
func (f *Flow) peekPrefix() (length int, queued time.Duration) {
	var prefix [sendPrefix]byte
	f.queue.peek(prefix[:])
	queued = time.Duration(binary.BigEndian.Uint64(prefix[:]))
	return int(binary.BigEndian.Uint16(prefix[8:])), queued
}

// handleDatagramLocked takes a datagram, or a piece of one. Those for flows that have ended, or
// whose open frame has yet to be sent again, are lost.
func (s *Session) handleDatagramLocked(f frame) error {
	flags, p := f.payload[0], f.payload[1:]
	st := s.streams.byID[f.stream]
	switch {
	case f.stream == 0:
		return protocolErrorf("datagram on stream 0")
	case flags&^(pieceContinues|pieceMore) != 0 || (flags != 0 && len(p) == 0):
		return protocolErrorf("datagram with the flags 0x%02x and %d bytes", flags, len(p))
	case st == nil:
		s.countDropLocked(DropClosed)
		return nil
	case st.flow == nil:
		return protocolErrorf("datagram on stream %d, which carries data", st.id)
	}
	return st.flow.handlePieceLocked(flags, p)
}

func (f *Flow) handlePieceLocked(flags byte, p []byte) error {
	s := f.session
	switch {
	case flags&pieceContinues == 0:
		if f.whole == 0 {
			f.dropReceivedLocked() // pieces of one that was broken off
		}
		f.size = 0
	case !f.assembling:
		return nil // its first piece was dropped, and counted
	}
	f.size += len(p)
	if f.size > MaxDatagram {
		return protocolErrorf("datagram of more than %d bytes on stream %d", MaxDatagram, f.id)
	}
	// Half of the session's memory is left to the streams that can't drop anything.
	queued := f.recv.queue.len
	why := noDrop
	switch {
	case f.closed || f.recv.fin:
		why = DropClosed
	case queued+receivePrefix+len(p) > maxDatagramQueue:
		why = DropFull
	case s.memory.buffered > s.cfg.MaxBuffered/2,
		queued > 0 && s.memory.pressure() == budget.Exceeded:
		why = DropMemory
	}
	if why != noDrop {
		f.assembling = false
		s.countDropLocked(why)
		return nil
	}
	mem := f.recv.mem()
	f.recv.queue.write([]byte{flags, byte(len(p) >> 8), byte(len(p))})
	f.recv.queue.write(p)
	f.carried.Received += uint64(len(p))
	s.totals.Payload.Received += uint64(len(p))
	f.accountLocked(mem)
	f.assembling = flags&pieceMore != 0
	if !f.assembling {
		f.whole++
		s.totals.datagrams.Received++
		f.recv.wake.Broadcast()
	}
	return nil
}

// Receive waits for the next datagram and copies it to p. What does not fit is lost, and the error
// is io.ErrShortBuffer then; MaxDatagram bytes are always enough. It returns io.EOF after the peer
// has closed the flow, and an *OpenError when the flow was refused.
func (f *Flow) Receive(p []byte) (int, error) {
	f.session.mu.Lock()
	defer f.session.mu.Unlock()
	if err := f.awaitDatagramLocked(); err != nil {
		return 0, err
	}
	return f.takeDatagramLocked(p)
}

// Await waits until Receive has a datagram, so that no buffer need be kept for it meanwhile. It
// fails as Receive does. Another receiver may still be quicker.
func (f *Flow) Await() error {
	f.session.mu.Lock()
	defer f.session.mu.Unlock()
	return f.awaitDatagramLocked()
}

func (f *Flow) awaitDatagramLocked() error {
	for {
		switch r := &f.recv; {
		case r.deadline.expired:
			return os.ErrDeadlineExceeded
		case f.whole > 0:
			return nil
		case r.err != nil:
			return f.causeLocked(r.err)
		case r.fin:
			return io.EOF
		}
		f.recv.wake.Wait()
	}
}

// takeDatagramLocked moves the first whole datagram to p.
func (f *Flow) takeDatagramLocked(p []byte) (n int, err error) {
	q := &f.recv.queue
	mem := f.recv.mem()
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
	f.whole--
	f.accountLocked(mem)
	return n, err
}
