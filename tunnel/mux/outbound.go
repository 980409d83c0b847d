package mux

import (
	"sync"
	"time"
)

// outbox is the sending side's state of a session on all carriers, guarded by its mutex.
type outbox struct {
	wake     sync.Cond   // something to send, or the session or its link ended
	control  queue       // control frames to be sent, as they will be in records
	queued   controlLoad // those in control
	credit   []uint32    // streams that owe the peer credit, and may have ended since
	position uint64      // sequenced bytes put into records
	acked    uint64      // sequenced bytes that the peer has acknowledged
	resent   uint64      // bytes sent again so far
	retained retained
	awaited  int // calls of AwaitSent and Drain

	streamsEnd uint64 // position behind the last record with data or an end of streams

	closing      bool        // the close frame is due; nothing follows it
	closePayload []byte      // of the close frame
	closeTimer   *time.Timer // ends the session if the close frame can't be written
	cause        error       // the session's error once the close frame is written
}

// sendCloseLocked queues the close frame. Once it is written the session fails with cause.
func (s *Session) sendCloseLocked(cause error, code Code, text string) {
	if !s.out.closing {
		s.out.closing, s.out.cause = true, cause
		s.out.closePayload = codePayload(code, text)
		s.out.wake.Broadcast()
	}
}

// queueCreditLocked queues an announcement of the stream's credit.
func (s *Session) queueCreditLocked(st *stream) {
	if !st.creditDue {
		st.creditDue = true
		s.out.credit = append(s.out.credit, st.id)
		s.out.wake.Broadcast()
	}
}

// wakeSenderLocked wakes the writer if the stream has something to send.
func (s *Session) wakeSenderLocked(st *stream) {
	if st.canSendLocked() {
		s.sched.wake(st, s.quantumLocked())
		s.out.wake.Broadcast()
	}
}

// quantumLocked returns how much a stream may send when it wakes: one frame.
func (s *Session) quantumLocked() int {
	if s.link == nil {
		return maxData
	}
	return s.link.pace.FrameSize()
}

// room is the size of the largest record that both sides take.
func (s *Session) room() int { return int(min(maxRecord, s.peer.maxRecord)) }

// roomLocked is the size of the largest record for the link's path: less than room on a slow one.
func (l *link) roomLocked() int {
	return min(l.session.room(), maxRecord-maxData+l.pace.RecordSize())
}

// packer is a record that is being put together: what is not sequenced first, then all that is,
// then datagrams.
type packer struct {
	block *block      // holds the record; the packer owns it
	b     []byte      // the record, in block's array
	room  int         // the most that b may hold
	start int         // where b begins in the array
	load  controlLoad // of the control frames in b

	streams bool // b has data or an end of streams
}

func newPacker(room int) packer {
	g := newBlock(largeBlock)
	return packer{block: g, b: g.buf[:0], room: room}
}

// left is the room for more.
func (p *packer) left() int { return p.room - len(p.b) }

// adopt makes the block of some data the record's: what the record holds so far and a header are
// copied before the data, so that the data need not move. The data must have room before it.
func (p *packer) adopt(c *block, header []byte) {
	start := c.r - len(header) - len(p.b)
	copy(c.buf[start:], p.b)
	copy(c.buf[start+len(p.b):], header)
	p.block.free()
	p.block, p.start, p.b = c, start, c.buf[start:c.w]
	p.room = min(p.room, cap(p.b)) // where the data is not at the block's beginning
}

// sequenced limits what the block keeps to b[from:to].
func (p *packer) sequenced(from, to int) { p.block.r, p.block.w = p.start+from, p.start+to }

// packLocked makes the next record, nil when there is nothing to send. Frames that are not
// sequenced go first, so that the sequenced ones are contiguous: frames of the session and answers,
// then credit, then stream data. After a resumption, what the peer lacks goes before all that is
// new.
func (l *link) packLocked() (held *block, record []byte, last bool) {
	if l.idleLocked() {
		return nil, nil, false
	}
	s := l.session
	p := newPacker(l.roomLocked())
	l.packUnsequencedLocked(&p)
	if len(p.b) == 0 && l.resend < s.out.position {
		p.block.free()
		held, record = s.out.retained.at(l.resend)
		record = firstFrames(record, p.room)
		l.resend += uint64(len(record))
		s.out.resent += uint64(len(record))
		return held, record, false
	}
	p.sequenced(len(p.b), len(p.b))
	if l.resend == s.out.position {
		last = l.packNewLocked(&p)
	}
	if len(p.b) == 0 {
		p.block.free()
		return nil, nil, false
	}
	p.block.record.load = p.load
	l.countSentLocked(p.block)
	if p.streams {
		s.out.streamsEnd = s.out.position
	}
	return p.block, p.b, last
}

// idleLocked reports, cheaply, whether there is nothing to send. When it returns false there may
// still be nothing.
func (l *link) idleLocked() bool {
	s := l.session
	o := &s.out
	return o.control.len == 0 && len(o.credit) == 0 && !o.closing && s.sched.empty() &&
		!l.pong.due && !l.ping.due && !l.ack.due && l.resend == o.position
}

// countSentLocked counts the sequenced part of a record, and retains it where the session can be
// resumed.
func (l *link) countSentLocked(g *block) {
	if g.sequenced() == 0 {
		return
	}
	o := &l.session.out
	g.record.position = o.position
	now := time.Now()
	if o.acked == o.position {
		l.owedSince = now
		l.pace.OnRestart(now)
	}
	o.position += uint64(g.sequenced())
	l.resend = o.position
	if l.sample.sentAt.IsZero() {
		l.sample = rttSample{o.position, now}
	}
	if l.session.resumption != nil {
		o.retained.keep(g, l.session.room())
	}
}

// packUnsequencedLocked appends what has a meaning on this carrier only.
func (l *link) packUnsequencedLocked(p *packer) {
	if l.pong.due {
		p.b = appendUint64Frame(p.b, kindPong, 0, l.pong.token)
		l.pong.due = false
	}
	if l.ping.due {
		p.b = appendUint64Frame(p.b, kindPing, 0, l.ping.token)
		l.ping.due = false
	}
	// Where there is something to send, an ack rides along.
	if received := l.session.received; received != l.ack.position || l.ack.due {
		p.b = appendUint64Frame(p.b, kindAck, 0, received)
		l.ack.position, l.ack.recordAt, l.ack.due = received, l.lastRead, false
	}
}

// packNewLocked appends all that was not sent before: the sequenced frames together, datagrams
// before or after them, and the close frame when it is due.
func (l *link) packNewLocked(p *packer) (last bool) {
	s := l.session
	// Control frames may include the open frame of a flow, which has to go before its datagrams.
	if s.out.control.len == 0 && !s.out.closing {
		l.packDatagramsLocked(p)
	}
	start := len(p.b)
	l.packSequencedLocked(p)
	p.sequenced(start, len(p.b))
	switch {
	case s.out.control.len > 0: // the rest does not fit
		return false
	case !s.out.closing:
		l.packDatagramsLocked(p)
		return false
	}
	if headerSize+len(s.out.closePayload) <= p.left() {
		p.b = appendFrame(p.b, kindClose, 0, s.out.closePayload)
		return true
	}
	return false
}

func (l *link) packSequencedLocked(p *packer) {
	s := l.session
	s.packControlLocked(p)
	if s.out.closing || s.out.control.len > 0 { // which may be the open frame of a stream with data
		return
	}
	s.packCreditLocked(p)
	if s.mayRetainMoreLocked() {
		before := len(p.b)
		l.packStreamsLocked(p)
		p.streams = len(p.b) > before
	}
}

// mayRetainMoreLocked reports whether stream data may be sent: all of it has to be retained until
// it is acknowledged. Control frames are always sent; checkAnswersLocked and overloadedLocked bound
// them. The budget does not matter here: what is retained was queued before, and counted.
func (s *Session) mayRetainMoreLocked() bool {
	return s.out.retained.mem < s.cfg.MaxRetained
}

// creditSize is the length of a credit frame, header included.
const creditSize = headerSize + 8

func (s *Session) packCreditLocked(p *packer) {
	for len(s.out.credit) > 0 && creditSize <= p.left() {
		st := s.streams.byID[s.out.credit[0]]
		s.out.credit = s.out.credit[1:]
		if st == nil {
			continue
		}
		st.creditDue = false
		if !st.recv.fin {
			p.b = appendUint64Frame(p.b, kindCredit, st.id, st.recv.limit)
			s.countControlLocked(p, kindCredit, st.id, creditSize-headerSize)
		}
	}
}

// packStreamsLocked appends stream data. When as much is on its way as the path takes, only streams
// that have just woken may send: what they have is little, and all the others' data would only wait
// in a queue where nothing can overtake it.
func (l *link) packStreamsLocked(p *packer) {
	s := l.session
	largest := min(l.pace.FrameSize(), p.room-headerSize)
	for p.left() >= headerSize+minFill {
		st := s.sched.next(l.pace.TurnSize())
		if st == nil || st.flow.due() {
			break
		}
		inflight := s.out.position - s.out.acked + uint64(len(p.b))
		if st.turn.list == &s.sched.backlog && !l.pace.CanSend(inflight) {
			break
		}
		if st.wantsRecordLocked(p, largest) {
			break
		}
		before := st.send.sent
		st.appendFramesLocked(p, largest)
		if st.turn.sent(int(st.send.sent-before), st.canSendLocked()) {
			l.pace.OnInteractive(time.Now())
		}
	}
}
