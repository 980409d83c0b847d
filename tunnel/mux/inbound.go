package mux

import (
	"time"

	"culvert/internal/bounds"
)

// recordInput is the record that a link's reader is handling.
type recordInput struct {
	block *block // holds the record, until its data is adopted; nil when it is in none
	end   int    // of the frame that is being handled, in that record
	next  *block // for the next record, and for the rest of this one; nil for any

	cost int // of the frames that were handled of the last record; for the reader alone
}

// What a record, and each frame of one that was received, costs in addition to its bytes: see
// package pollbreak. A frame that opens a stream makes much that has to be collected.
const (
	recordCost = 2 << 10
	frameCost  = 512
	openCost   = 4 << 10
)

// handleRecord handles all frames of a record. The record is in the array of c, or else c holds
// nothing; a large piece of data stays where it is. It returns the block for the next record: c, or
// another if c is still needed.
func (l *link) handleRecord(record []byte, c *block) (*block, error) {
	s := l.session
	s.mu.Lock()
	defer s.mu.Unlock()
	for l.held() && s.err == nil && s.link == l {
		s.changed.Wait()
	}
	switch {
	case s.err != nil:
		return c, s.err
	case s.link != l:
		return c, errReplaced
	}
	if len(record) > MaxRecordSize {
		err := protocolErrorf("record of %d bytes, at most %d allowed", len(record), MaxRecordSize)
		return c, &bounds.Error{Bound: bounds.Record, Err: err}
	}
	l.lastRead = time.Now()
	inBlock := len(record) > 0 && &record[0] == &c.buf[0]
	if inBlock {
		l.input.block = c
	}
	err := l.handleFramesLocked(record)
	if inBlock && l.input.block == nil {
		if c = l.input.next; c == nil {
			c = newBlock(largeBlock)
		}
	}
	l.input.block, l.input.next = nil, nil
	if err != nil {
		return c, err
	}
	if err := s.checkAnswersLocked(); err != nil {
		return c, err
	}
	s.boundMemoryLocked()
	s.settleMemoryLocked()
	l.scheduleAckLocked()
	if l.receiving && l.check.at.Sub(l.lastRead) > quietTime {
		l.scheduleCheckLocked()
	}
	return c, nil
}

func (l *link) handleFramesLocked(record []byte) error {
	l.input.cost = 0
	for rest := record; len(rest) > 0; {
		f, after, err := parseFrame(rest)
		if err != nil {
			return err
		}
		l.input.cost += frameCost
		if f.kind == kindOpen {
			l.input.cost += openCost
		}
		l.input.end = len(record) - len(after)
		rest = after
		if f.kind&sequencedBit != 0 {
			l.session.received += uint64(f.size())
		}
		if err := f.checkPayload(); err != nil {
			return err
		}
		whole := l.input.block != nil
		if err := l.handleFrameLocked(f); err != nil {
			return err
		}
		if whole && l.input.block == nil && len(rest) > 0 {
			rest = l.moveRest(rest)
		}
	}
	return nil
}

// moveRest copies the rest of a record whose block a stream has adopted: when a frame of the rest
// ends that stream, the block is free for others.
func (l *link) moveRest(rest []byte) []byte {
	next := newBlock(largeBlock)
	l.input.next = next
	return next.buf[:copy(next.buf, rest)]
}

func (l *link) handleFrameLocked(f frame) error {
	l.receiving = l.receiving || f.kind == kindData || f.kind == kindDatagram
	switch f.kind {
	case kindPing, kindPong, kindAck, kindClose, kindDraining:
		return l.handleSessionFrameLocked(f)
	case kindOpen:
		return l.session.handleOpenLocked(f, &l.input)
	case kindOpened, kindRefused, kindData, kindCredit, kindFin, kindReset:
		return l.session.handleStreamFrameLocked(f, &l.input)
	case kindDatagram:
		return l.session.handleDatagramLocked(f)
	}
	if f.kind&optionalBit != 0 {
		return nil
	}
	return protocolErrorf("unknown frame 0x%02x", uint8(f.kind))
}

func (l *link) handleSessionFrameLocked(f frame) error {
	if f.stream != 0 {
		return protocolErrorf("frame 0x%02x of the session on stream %d", uint8(f.kind), f.stream)
	}
	switch f.kind {
	case kindDraining:
		l.session.handleDrainingLocked()
	case kindClose:
		code, text := f.code()
		return &CloseError{Code: code, Text: text}
	case kindPing:
		l.handlePingLocked(f.uint64())
	case kindPong:
		return l.handlePongLocked(f.uint64())
	case kindAck:
		return l.handleAckLocked(f.uint64())
	}
	return nil
}

// handleOpenLocked takes a new stream in, or refuses it.
func (s *Session) handleOpenLocked(f frame, record *recordInput) error {
	target, first, err := parseOpen(f.payload)
	if err != nil {
		return err
	}
	t := &s.streams
	if f.stream == 0 || s.isOwn(f.stream) || f.stream <= t.lastTheir {
		return protocolErrorf("open of stream %d after %d", f.stream, t.lastTheir)
	}
	t.lastTheir = f.stream
	switch {
	case t.draining.theirs || s.out.closing:
		return s.refuseLocked(f.stream, target, CodeDraining)
	case s.cfg.NoIncoming:
		return s.refuseLocked(f.stream, target, CodeNotAllowed)
	case t.theirs >= s.cfg.MaxStreams:
		s.cfg.Bounds.Refused(bounds.Streams)
		return s.refuseLocked(f.stream, target, CodeTooManyStreams)
	}
	var st *stream
	var in Incoming
	if target.Kind == StreamUDP {
		flow := newFlow(s, f.stream, target.Address, false)
		st, in = &flow.stream, &IncomingFlow{incoming{&flow.stream}, flow}
	} else {
		opened := newStream(s, f.stream, target, false)
		st, in = &opened.stream, &IncomingStream{incoming{&opened.stream}, opened}
	}
	t.add(st)
	st.countOpenLocked()
	t.theirs++
	t.incoming = append(t.incoming, in)
	s.changed.Broadcast()
	return st.handleDataLocked(first, record)
}

func (s *Session) refuseLocked(id uint32, target Target, code Code) error {
	s.reportRefusedLocked(id, target, false, code)
	s.queueControlLocked(kindRefused, id, codePayload(code, ""))
	return nil
}

// handleStreamFrameLocked handles a frame of a stream that was opened. Frames of streams that have
// ended are late, not wrong.
func (s *Session) handleStreamFrameLocked(f frame, in *recordInput) error {
	st := s.streams.byID[f.stream]
	if st == nil {
		if !s.wasOpenedLocked(f.stream) {
			return protocolErrorf("frame 0x%02x for stream %d, which was never opened",
				uint8(f.kind), f.stream)
		}
		return nil
	}
	switch f.kind {
	case kindOpened, kindRefused:
		return st.handleAnswerLocked(f)
	case kindData:
		return st.handleDataLocked(f.payload, in)
	case kindCredit:
		st.handleCreditLocked(f.uint64())
	case kindFin:
		return st.handleFinLocked()
	case kindReset:
		code, _ := f.code()
		st.handleResetLocked(code)
	}
	return nil
}

// wasOpenedLocked reports whether there was ever a stream with this id.
func (s *Session) wasOpenedLocked(id uint32) bool {
	switch {
	case id == 0:
		return false
	case s.isOwn(id):
		return id < s.streams.nextID
	}
	return id <= s.streams.lastTheir
}

// handleAnswerLocked takes the peer's answer to an open.
func (st *stream) handleAnswerLocked(f frame) error {
	if !st.ours || st.state != opening {
		return protocolErrorf("answer to stream %d, which waits for none", st.id)
	}
	if f.kind == kindOpened {
		st.state = openConfirmed
		st.reportOpenLocked(nil)
		st.recv.wake.Broadcast()
		return nil
	}
	st.refuseOwnLocked(f.code())
	return nil
}
