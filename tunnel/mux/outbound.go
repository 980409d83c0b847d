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

// pack makes the next record, nil when there is nothing to send. Frames that are not sequenced stand first, so that those
// that are stand together: frames of the session and answers, then credit, then stream data. After a resumption, what the
// peer lacks goes before all that is new. Called with the mutex held.
func (s *Session) pack() (held *segment, record []byte, last bool) {
	if s.idle() {
		return nil, nil, false
	}
	g := newSegment()
	b := s.packUnsequenced(g.buf[:0])
	if len(b) == 0 && s.out.resend < s.out.position {
		g.free()
		held, record = s.out.retained.at(s.out.resend)
		s.out.resend += uint64(len(record))
		s.out.resent += uint64(len(record))
		return held, record, false
	}
	g.start, g.end = len(b), len(b)
	if s.out.resend == s.out.position {
		b, last = s.packNew(g, b)
	}
	if len(b) == 0 {
		g.free()
		return nil, nil, false
	}
	s.keep(g)
	return g, b, last
}

// idle says, cheaply, that there is nothing to send. It may be wrong when it says that there is something.
func (s *Session) idle() bool {
	o := &s.out
	return len(o.control) == 0 && len(o.credit) == 0 && !o.pongDue && !o.pingDue && !s.in.ackDue && !o.closing &&
		o.resend == o.position && s.sched.empty()
}

// keep counts the sequenced part of a record, and retains it where the session can be resumed.
func (s *Session) keep(g *segment) {
	if g.sequenced() == 0 {
		return
	}
	g.position = s.out.position
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
func (s *Session) packUnsequenced(b []byte) []byte {
	if s.out.pongDue {
		b = appendUint64Frame(b, kindPong, 0, s.out.pong)
		s.out.pongDue = false
	}
	if s.out.pingDue {
		b = appendUint64Frame(b, kindPing, 0, s.out.pingToken)
		s.out.pingDue = false
	}
	if s.in.position != s.in.acked { // where there is something to send, an ack rides along
		b = appendUint64Frame(b, kindAck, 0, s.in.position)
		s.in.acked = s.in.position
		s.in.ackDue = false
	}
	return b
}

// packNew appends all that was not sent before: the sequenced frames together, datagrams before or after them, and the close
// frame when it is due.
func (s *Session) packNew(g *segment, b []byte) (record []byte, last bool) {
	room := s.room()
	if len(s.out.control) == 0 && !s.out.closing { // else a stream's open frame may have to go first
		b = s.packDatagrams(b, room)
	}
	g.start = len(b)
	b = s.packSequenced(b, room)
	g.end = len(b)
	if !s.out.closing {
		return s.packDatagrams(b, room), false
	}
	if len(s.out.control) == 0 && len(b)+headerSize+len(s.out.farewell) <= room {
		return appendFrame(b, kindClose, 0, s.out.farewell), true
	}
	return b, false
}

func (s *Session) packSequenced(b []byte, room int) []byte {
	b = s.packControl(b, room)
	if s.out.closing {
		return b
	}
	b = s.packCredit(b, room)
	if s.mayRetainMore() {
		b = s.packStreams(b, room)
	}
	return b
}

// mayRetainMore says whether stream data may be sent: all of it has to be retained until it is acknowledged. The small
// frames of the session are always sent; the peer's answers and this side's streams bound them.
func (s *Session) mayRetainMore() bool {
	r := &s.out.retained
	return r.mem < minRetained || (r.mem < s.cfg.MaxRetained && !r.budget.exceeded())
}

// creditSize is the length of a whole frame.
const creditSize = headerSize + 8

func (s *Session) packControl(b []byte, room int) []byte {
	for len(s.out.control) > 0 {
		f := s.out.control[0]
		if len(b)+headerSize+len(f.payload) > room {
			break
		}
		b = appendFrame(b, f.kind, f.stream, f.payload)
		if s.isAnswer(f.kind, f.stream) {
			s.out.answers--
		}
		s.out.control[0] = controlFrame{}
		s.out.control = s.out.control[1:]
	}
	return b
}

func (s *Session) packCredit(b []byte, room int) []byte {
	for len(s.out.credit) > 0 && len(b)+creditSize <= room {
		st := s.out.credit[0]
		s.out.credit[0] = nil
		s.out.credit = s.out.credit[1:]
		st.creditDue = false
		if !st.removed && !st.recv.fin {
			b = appendUint64Frame(b, kindCredit, st.id, st.recv.limit)
		}
	}
	return b
}

func (s *Session) packStreams(b []byte, room int) []byte {
	for room-len(b) >= headerSize+minFill {
		st := s.sched.next()
		if st == nil || st.datagrams.due() {
			break
		}
		b = st.appendFrames(b, room-len(b))
	}
	return b
}
