package mux

import (
	"sync"
	"time"
)

// outbox is the sending side's state of a session, guarded by its mutex.
type outbox struct {
	wake     sync.Cond // something to send, or the session or its link ended
	control  []controlFrame
	answers  int       // frames in control that answer for streams which the peer opened
	pongDue  bool      // only the newest ping is answered, as RFC 6455, section 5.5.3 allows
	pong     uint64    // its token
	pingDue  bool      // a ping with pingToken is to be sent
	credit   []*Stream // streams that owe the peer credit
	position uint64    // sequenced bytes put into records
	acked    uint64    // sequenced bytes that the peer has acknowledged
	resend   uint64    // where sending goes on after a resumption: at position, unless retained bytes are sent again
	resent   uint64    // bytes sent again so far
	retained retained
	closing  bool   // the close frame is due; nothing follows it
	farewell []byte // its payload
	cause    error  // what the session dies of once the close frame is written

	timed     uint64    // a position whose acknowledgement is awaited, to measure the round trip
	timedAt   time.Time // when it was sent; zero when none is
	owedSince time.Time // since when not all that was sent is acknowledged; zero when it is
	last      time.Time // when a record was last sent
	pingToken uint64    // of the newest ping
	pingSent  time.Time // when it was queued
}

// controlFrame is a sequenced frame that goes before all stream data.
type controlFrame struct {
	kind    kind
	stream  uint32
	payload []byte
}

// control queues a control frame. Called with the mutex held.
func (s *Session) control(k kind, stream uint32, payload []byte) {
	if s.out.closing {
		return
	}
	s.out.control = append(s.out.control, controlFrame{k, stream, payload})
	if s.isAnswer(k, stream) {
		s.out.answers++
	}
	s.out.wake.Broadcast()
}

// isAnswer says whether a control frame is one that a peer could make this side queue without end.
func (s *Session) isAnswer(k kind, stream uint32) bool {
	return k != kindOpen && stream != 0 && !s.isOwn(stream)
}

// sayFarewell has the close frame sent, after which the session dies of cause. Called with the mutex held.
func (s *Session) sayFarewell(cause error, code Code, text string) {
	if !s.out.closing {
		s.out.closing, s.out.cause, s.out.farewell = true, cause, codePayload(code, text)
		s.out.wake.Broadcast()
	}
}

// oweCredit has the stream's credit announced. Called with the mutex held.
func (s *Session) oweCredit(st *Stream) {
	if !st.creditDue {
		st.creditDue = true
		s.out.credit = append(s.out.credit, st)
		s.out.wake.Broadcast()
	}
}

// wakeSender tells the writer that the stream may have something to send. Called with the mutex held.
func (s *Session) wakeSender(st *Stream) {
	if st.canSend() {
		s.sched.wake(st)
		s.out.wake.Broadcast()
	}
}

// room is the size of the largest record that both sides take.
func (s *Session) room() int { return int(min(maxRecord, s.peer.maxRecord)) }

// packer is a record that is being put together: what is not sequenced first, then all that is, then datagrams.
type packer struct {
	block *block // holds the record; the packer owns it
	b     []byte // the record, in block's array
	room  int    // the most that b may hold
	start int    // where b stands in the array
}

func newPacker(room int) packer {
	g := newBlock(largeBlock)
	return packer{block: g, b: g.buf[:0], room: room}
}

// left is the room for more.
func (p *packer) left() int { return p.room - len(p.b) }

// adopt makes the block of some data the record's, with what the record holds so far and a header moved before the data,
// so that the data need not be moved. It does nothing where the data has no room before it.
func (p *packer) adopt(c *block, header []byte) {
	start := c.r - len(header) - len(p.b)
	copy(c.buf[start:], p.b)
	copy(c.buf[start+len(p.b):], header)
	p.block.free()
	p.block, p.start, p.b = c, start, c.buf[start:c.w]
	p.room = min(p.room, cap(p.b)) // where the data does not stand at the block's beginning
}

// sequenced has the block keep b[from:to] only.
func (p *packer) sequenced(from, to int) { p.block.r, p.block.w = p.start+from, p.start+to }

// pack makes the next record, nil when there is nothing to send. Frames that are not sequenced stand first, so that those
// that are stand together: frames of the session and answers, then credit, then stream data. After a resumption, what the
// peer lacks goes before all that is new. Called with the mutex held.
func (s *Session) pack() (held *block, record []byte, last bool) {
	if s.idle() {
		return nil, nil, false
	}
	p := newPacker(s.room())
	s.packUnsequenced(&p)
	if len(p.b) == 0 && s.out.resend < s.out.position {
		p.block.free()
		held, record = s.out.retained.at(s.out.resend)
		s.out.resend += uint64(len(record))
		s.out.resent += uint64(len(record))
		return held, record, false
	}
	p.sequenced(len(p.b), len(p.b))
	if s.out.resend == s.out.position {
		last = s.packNew(&p)
	}
	if len(p.b) == 0 {
		p.block.free()
		return nil, nil, false
	}
	s.keep(p.block)
	return p.block, p.b, last
}

// idle says, cheaply, that there is nothing to send. It may be wrong when it says that there is something.
func (s *Session) idle() bool {
	o := &s.out
	return len(o.control) == 0 && len(o.credit) == 0 && !o.pongDue && !o.pingDue && !s.in.ackDue && !o.closing &&
		o.resend == o.position && s.sched.empty()
}

// keep counts the sequenced part of a record, and retains it where the session can be resumed.
func (s *Session) keep(g *block) {
	if g.sequenced() == 0 {
		return
	}
	g.record.position = s.out.position
	now := time.Now()
	if s.out.acked == s.out.position {
		s.out.owedSince = now
	}
	s.out.position += uint64(g.sequenced())
	s.out.resend = s.out.position
	if s.out.timedAt.IsZero() {
		s.out.timed, s.out.timedAt = s.out.position, now
	}
	if s.resumption != nil {
		s.out.retained.keep(g, s.room())
	}
}

// packUnsequenced appends what has a meaning on this carrier only.
func (s *Session) packUnsequenced(p *packer) {
	if s.out.pongDue {
		p.b = appendUint64Frame(p.b, kindPong, 0, s.out.pong)
		s.out.pongDue = false
	}
	if s.out.pingDue {
		p.b = appendUint64Frame(p.b, kindPing, 0, s.out.pingToken)
		s.out.pingDue = false
	}
	if s.in.position != s.in.acked { // where there is something to send, an ack rides along
		p.b = appendUint64Frame(p.b, kindAck, 0, s.in.position)
		s.acknowledged()
	}
}

// packNew appends all that was not sent before: the sequenced frames together, datagrams before or after them, and the close
// frame when it is due.
func (s *Session) packNew(p *packer) (last bool) {
	if len(s.out.control) == 0 && !s.out.closing { // else a stream's open frame may have to go first
		s.packDatagrams(p)
	}
	start := len(p.b)
	s.packSequenced(p)
	p.sequenced(start, len(p.b))
	if !s.out.closing {
		s.packDatagrams(p)
		return false
	}
	if len(s.out.control) == 0 && headerSize+len(s.out.farewell) <= p.left() {
		p.b = appendFrame(p.b, kindClose, 0, s.out.farewell)
		return true
	}
	return false
}

func (s *Session) packSequenced(p *packer) {
	s.packControl(p)
	if s.out.closing {
		return
	}
	s.packCredit(p)
	if s.mayRetainMore() {
		s.packStreams(p)
	}
}

// mayRetainMore says whether stream data may be sent: all of it has to be retained until it is acknowledged. The small
// frames of the session are always sent; the peer's answers and this side's streams bound them.
func (s *Session) mayRetainMore() bool {
	r := &s.out.retained
	return r.mem < minRetained || (r.mem < s.cfg.MaxRetained && !r.budget.exceeded())
}

// creditSize is the length of a whole frame.
const creditSize = headerSize + 8

func (s *Session) packControl(p *packer) {
	for len(s.out.control) > 0 {
		f := s.out.control[0]
		if headerSize+len(f.payload) > p.left() {
			break
		}
		p.b = appendFrame(p.b, f.kind, f.stream, f.payload)
		if s.isAnswer(f.kind, f.stream) {
			s.out.answers--
		}
		s.out.control[0] = controlFrame{}
		s.out.control = s.out.control[1:]
	}
}

func (s *Session) packCredit(p *packer) {
	for len(s.out.credit) > 0 && creditSize <= p.left() {
		st := s.out.credit[0]
		s.out.credit[0] = nil
		s.out.credit = s.out.credit[1:]
		st.creditDue = false
		if !st.removed && !st.recv.fin {
			p.b = appendUint64Frame(p.b, kindCredit, st.id, st.recv.limit)
		}
	}
}

// packStreams appends stream data. When as much is inflight as the path holds, only streams that
// have just woken go on: what they have is little, and all the others' data would only wait in a
// queue where nothing can overtake it.
func (s *Session) packStreams(p *packer) {
	for p.left() >= headerSize+minFill {
		st := s.sched.next()
		if st == nil || st.datagrams.due() {
			break
		}
		inflight := s.out.position - s.out.acked + uint64(len(p.b))
		if st.turn.list == &s.sched.backlog && !s.pace.CanSend(inflight) {
			break
		}
		st.appendFrames(p)
	}
}
