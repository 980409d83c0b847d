package mux

import (
	"encoding/binary"
	"sync"
	"time"
)

// outbox is the sending side's state of a session, guarded by its mutex.
type outbox struct {
	wake     sync.Cond // something to send, or the session died
	control  []controlFrame
	answers  int       // frames in control that answer for streams which the peer opened
	pongDue  bool      // only the newest ping is answered, as RFC 6455, section 5.5.3 allows
	pong     uint64    // its token
	credit   []*Stream // streams that owe the peer credit
	position uint64    // sequenced bytes put into records
	acked    uint64    // sequenced bytes that the peer has acknowledged
	closing  bool      // a close frame is queued; nothing follows it
	cause    error     // what the session dies of once the close frame is written

	last      time.Time // when a record was last sent
	pingToken uint64    // of the newest ping
	pingSent  time.Time // when it was queued
	probed    time.Time // when the first ping since the last sign of life was queued
	keepalive *time.Timer
}

// controlFrame is a frame that goes before all stream data.
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

// sayFarewell queues the close frame, after which the session dies of cause. Called with the mutex held.
func (s *Session) sayFarewell(cause error, code Code, text string) {
	s.control(kindClose, 0, codePayload(code, text))
	if !s.out.closing {
		s.out.closing, s.out.cause = true, cause
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

// writeLoop packs and writes records until the session ends.
func (s *Session) writeLoop() {
	room := int(min(maxRecord, s.peer.maxRecord))
	record := make([]byte, 0, room)
	for {
		var last bool
		record, last = s.nextRecord(record[:0], room)
		if len(record) == 0 {
			return
		}
		err := s.carrier.WriteRecord(record)
		if err != nil || last {
			s.fail(err)
			return
		}
	}
}

// nextRecord waits until something is to be sent and packs it. An empty record means that the session is dead. The last
// one carries the close frame.
func (s *Session) nextRecord(b []byte, room int) (record []byte, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.err == nil {
		b, last = s.pack(b, room)
		if len(b) > 0 {
			s.out.last = time.Now()
			return b, last
		}
		s.out.wake.Wait()
	}
	return b[:0], false
}

// pack fills a record: frames of the session and answers first, then credit, then stream data, and an ack where one is
// due or may ride along. Called with the mutex held.
func (s *Session) pack(b []byte, room int) (record []byte, last bool) {
	room -= ackSize              // kept for the ack
	if len(s.out.control) == 0 { // else a stream's open frame may have to go first
		b = s.packDatagrams(b, room)
	}
	b = s.packControl(b, room)
	if s.out.closing {
		return b, len(s.out.control) == 0
	}
	b = s.packCredit(b, room)
	b = s.packStreams(b, room)
	b = s.packDatagrams(b, room)
	if s.in.ackDue || (len(b) > 0 && s.in.position != s.in.acked) {
		b = appendUint64Frame(b, kindAck, 0, s.in.position)
		s.in.acked = s.in.position
		s.in.ackDue = false
	}
	return b, false
}

// ackSize and creditSize are the lengths of whole frames.
const (
	ackSize    = headerSize + 8
	creditSize = headerSize + 8
)

func (s *Session) packControl(b []byte, room int) []byte {
	if s.out.pongDue {
		b = appendUint64Frame(b, kindPong, 0, s.out.pong)
		s.out.pongDue = false
	}
	for len(s.out.control) > 0 {
		f := s.out.control[0]
		if len(b)+headerSize+len(f.payload) > room {
			break
		}
		start := len(b)
		b = appendFrame(b, f.kind, f.stream, f.payload)
		if f.kind&sequencedBit != 0 {
			s.out.position += uint64(len(b) - start)
		}
		if s.isAnswer(f.kind, f.stream) {
			s.out.answers--
		}
		s.out.control[0] = controlFrame{}
		s.out.control = s.out.control[1:]
	}
	return b
}

func (s *Session) packCredit(b []byte, room int) []byte {
	start := len(b)
	for len(s.out.credit) > 0 && len(b)+creditSize <= room {
		st := s.out.credit[0]
		s.out.credit[0] = nil
		s.out.credit = s.out.credit[1:]
		st.creditDue = false
		if !st.removed && !st.recv.fin {
			b = appendUint64Frame(b, kindCredit, st.id, st.recv.limit)
		}
	}
	s.out.position += uint64(len(b) - start)
	return b
}

func (s *Session) packStreams(b []byte, room int) []byte {
	start := len(b)
	for room-len(b) >= headerSize+minFill {
		st := s.sched.next()
		if st == nil || st.datagrams.due() {
			break
		}
		b = st.appendFrames(b, room-len(b))
	}
	s.out.position += uint64(len(b) - start)
	return b
}

// sendPing queues a ping. Called with the mutex held.
func (s *Session) sendPing() {
	s.out.pingToken++
	s.out.pingSent = time.Now()
	if !s.out.probed.After(s.in.last) {
		s.out.probed = s.out.pingSent
	}
	s.control(kindPing, 0, binary.BigEndian.AppendUint64(nil, s.out.pingToken))
}

// startKeepalive has tick called as long as the session lives. Called with the mutex held.
func (s *Session) startKeepalive() {
	if s.cfg.Keepalive > 0 {
		s.out.keepalive = time.AfterFunc(s.cfg.Keepalive, s.tick)
	}
}

// tick sends a ping when the carrier was idle in a direction, and ends the session when nothing at all came since an
// unanswered one.
func (s *Session) tick() {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	now := time.Now()
	next := min(s.cfg.Keepalive, s.cfg.PingTimeout)
	silent := false
	idleSince := s.in.last
	if s.out.last.Before(idleSince) {
		idleSince = s.out.last
	}
	switch {
	case s.out.probed.After(s.in.last): // any record would have been an answer
		left := s.cfg.PingTimeout - now.Sub(s.out.probed)
		silent = left <= 0
		next = min(next, left) // an answer may come, and be followed by an idle time, long before the timeout
	case now.Sub(idleSince) >= s.cfg.Keepalive:
		s.sendPing()
	default:
		next = s.cfg.Keepalive - now.Sub(idleSince)
	}
	if !silent {
		s.out.keepalive.Reset(next)
	}
	s.mu.Unlock()
	if silent {
		s.fail(ErrPeerSilent)
	}
}

// stopTimers is called with the mutex held once the session is dead.
func (s *Session) stopTimers() {
	if s.out.keepalive != nil {
		s.out.keepalive.Stop()
	}
	if s.in.ackTimer != nil {
		s.in.ackTimer.Stop()
	}
}
