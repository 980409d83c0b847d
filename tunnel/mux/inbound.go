package mux

import (
	"time"
)

// inbox is the receiving side's state of a session, guarded by its mutex.
type inbox struct {
	position     uint64        // sequenced bytes received
	acked        uint64        // the position last acknowledged to the peer
	last         time.Time     // when a record last came: any record is a sign of life
	pongToken    uint64        // of the newest pong
	roundTrip    time.Duration // of the last ping
	smoothedTrip time.Duration // of pings and acknowledgements
	leastTrip    time.Duration
	block        *block // holds the record that is being handled, until its data is adopted; nil when it is in none
	end          int    // of the frame that is being handled, in that record
	ackTimer     *time.Timer
	ackAt        time.Time // when it fires; zero when it is not set
	ackedAt      time.Time // when a record last came before an ack was sent
	ackDue       bool
}

// handleRecord files all frames of a record. The record stands in the array of c, or else c holds nothing; a large piece
// of data stays where it is. It returns the block for the next record: c, or another where c was needed.
func (l *link) handleRecord(record []byte, c *block) (*block, error) {
	s := l.session
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return c, s.err
	case s.link != l:
		return c, errCutOff
	}
	if len(record) > MaxRecordSize {
		return c, protocolErrorf("record of %d bytes, at most %d allowed", len(record), MaxRecordSize)
	}
	s.in.last = time.Now()
	inBlock := len(record) > 0 && &record[0] == &c.buf[0]
	if inBlock {
		s.in.block = c
	}
	err := s.handleFrames(record)
	if inBlock && s.in.block == nil {
		c = newBlock(largeBlock)
	}
	s.in.block = nil
	if err != nil {
		return c, err
	}
	if s.out.answers > maxAnswers {
		return c, protocolErrorf("%d answers unread", s.out.answers)
	}
	s.boundMemory()
	s.scheduleAck()
	return c, nil
}

func (s *Session) handleFrames(record []byte) error {
	for rest := record; len(rest) > 0; {
		f, after, err := parseFrame(rest)
		if err != nil {
			return err
		}
		s.in.end = len(record) - len(after)
		rest = after
		if f.kind&sequencedBit != 0 {
			s.in.position += uint64(f.size())
		}
		if err := f.checkPayload(); err != nil {
			return err
		}
		if err := s.handleFrame(f); err != nil {
			return err
		}
	}
	return nil
}

func (s *Session) handleFrame(f frame) error {
	switch f.kind {
	case kindPing, kindPong, kindAck, kindClose, kindDraining:
		return s.handleSessionFrame(f)
	case kindOpen:
		return s.handleOpen(f)
	case kindOpened, kindRefused, kindData, kindCredit, kindFin, kindReset:
		return s.handleStreamFrame(f)
	case kindDatagram:
		return s.handleDatagram(f)
	}
	if f.kind&optionalBit != 0 {
		return nil
	}
	return protocolErrorf("unknown frame 0x%02x", uint8(f.kind))
}

func (s *Session) handleSessionFrame(f frame) error {
	if f.stream != 0 {
		return protocolErrorf("frame 0x%02x of the session on stream %d", uint8(f.kind), f.stream)
	}
	switch f.kind {
	case kindDraining:
		s.peerDrain = true
		s.changed.Broadcast()
	case kindClose:
		code, text := f.code()
		return &CloseError{Code: code, Text: text}
	case kindPing:
		s.out.pong, s.out.pongDue = f.uint64(), true
		s.out.wake.Broadcast()
	case kindPong:
		return s.handlePong(f.uint64())
	case kindAck:
		return s.handleAck(f.uint64())
	}
	return nil
}

func (s *Session) handleAck(position uint64) error {
	if position < s.out.acked || position > s.out.position {
		return protocolErrorf("ack of %d, between %d and %d possible", position, s.out.acked, s.out.position)
	}
	s.out.acked = position
	s.out.retained.acknowledge(position)
	s.pace.OnAck(s.in.last, position)
	s.sched.quantum = s.pace.FrameSize()
	if !s.out.timedAt.IsZero() && position >= s.out.timed {
		s.measured(time.Since(s.out.timedAt))
		s.out.timedAt = time.Time{}
	}
	s.out.owedSince = time.Time{}
	if position < s.out.position {
		s.out.owedSince = s.in.last // it has just shown life
	}
	s.out.resend = max(s.out.resend, position)
	s.out.wake.Broadcast() // there may be room to retain more
	return nil
}

func (s *Session) handlePong(token uint64) error {
	if token <= s.in.pongToken || token > s.out.pingToken {
		return protocolErrorf("pong without a ping")
	}
	if token == s.out.pingToken {
		s.in.roundTrip = max(time.Since(s.out.pingSent), 1)
		s.measured(s.in.roundTrip)
	}
	s.in.pongToken = token
	s.changed.Broadcast()
	return nil
}

// handleOpen files a new stream, or refuses it.
func (s *Session) handleOpen(f frame) error {
	target, first, err := parseOpen(f.payload)
	if err != nil {
		return err
	}
	if f.stream == 0 || s.isOwn(f.stream) || f.stream <= s.lastTheir {
		return protocolErrorf("open of stream %d after %d", f.stream, s.lastTheir)
	}
	s.lastTheir = f.stream
	switch {
	case s.draining || s.out.closing:
		return s.refuse(f.stream, CodeDraining)
	case s.cfg.NoIncoming:
		return s.refuse(f.stream, CodeNotAllowed)
	case s.theirs >= s.cfg.MaxStreams:
		return s.refuse(f.stream, CodeTooManyStreams)
	}
	st := newStream(s, f.stream, target, false)
	s.streams[st.id] = st
	s.theirs++
	s.incoming = append(s.incoming, st)
	s.changed.Broadcast()
	return st.handleData(first)
}

func (s *Session) refuse(id uint32, code Code) error {
	s.control(kindRefused, id, codePayload(code, ""))
	return nil
}

// handleStreamFrame files a frame of a stream that was opened. Frames of streams that have ended are late, not wrong.
func (s *Session) handleStreamFrame(f frame) error {
	st := s.streams[f.stream]
	if st == nil {
		if f.stream == 0 || (s.isOwn(f.stream) && f.stream >= s.nextID) || (!s.isOwn(f.stream) && f.stream > s.lastTheir) {
			return protocolErrorf("frame 0x%02x for stream %d, which was never opened", uint8(f.kind), f.stream)
		}
		return nil
	}
	switch f.kind {
	case kindOpened, kindRefused:
		return st.handleAnswer(f)
	case kindData:
		return st.handleData(f.payload)
	case kindCredit:
		st.handleCredit(f.uint64())
	case kindFin:
		return st.handleFin()
	case kindReset:
		code, _ := f.code()
		if st.ours && st.state == opening {
			st.refused(code, "")
		} else {
			st.end(&ResetError{Code: code, Remote: true})
		}
	}
	return nil
}

// handleAnswer files the peer's answer to an open.
func (st *Stream) handleAnswer(f frame) error {
	if !st.ours || st.state != opening {
		return protocolErrorf("answer to stream %d, which waits for none", st.id)
	}
	if f.kind == kindOpened {
		st.state = openConfirmed
		st.tellAnswer(nil)
		st.recv.wake.Broadcast()
		return nil
	}
	st.refused(f.code())
	return nil
}

// boundMemory resets streams, the largest first, while unread data holds more memory than the session may.
func (s *Session) boundMemory() {
	for s.buffered > s.cfg.MaxBuffered {
		var largest *Stream
		choose := func(st *Stream) {
			if largest == nil || st.recv.mem() > largest.recv.mem() {
				largest = st
			}
		}
		for _, st := range s.streams {
			choose(st)
		}
		for st := range s.leftovers {
			choose(st)
		}
		largest.reset(CodeOverload)
	}
}

// scheduleAck has an ack sent: now when much was received or the last one was a while ago, else with the next record, or
// after a delay.
func (s *Session) scheduleAck() {
	pending := s.in.position - s.in.acked
	if pending == 0 || s.in.ackDue {
		return
	}
	delay := ackDelay
	if pending >= ackSome {
		delay = ackInterval - s.in.last.Sub(s.in.ackedAt)
	}
	if pending >= ackMuch || delay <= 0 {
		s.in.ackDue = true
		s.out.wake.Broadcast()
		return
	}
	at := s.in.last.Add(delay)
	switch {
	case s.in.ackTimer == nil:
		s.in.ackTimer = time.AfterFunc(delay, s.ackNow)
	case s.in.ackAt.IsZero() || at.Before(s.in.ackAt):
		s.in.ackTimer.Reset(delay)
	default:
		return
	}
	s.in.ackAt = at
}

// ackNow has an ack sent unless one has ridden along meanwhile.
func (s *Session) ackNow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.in.ackAt = time.Time{}
	if s.in.position != s.in.acked {
		s.in.ackDue = true
		s.out.wake.Broadcast()
	}
}

// acknowledged notes that an ack of all that was received is being sent.
func (s *Session) acknowledged() {
	s.in.acked = s.in.position
	s.in.ackedAt = s.in.last
	s.in.ackDue = false
}
