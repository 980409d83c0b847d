package mux

import (
	"context"
	"errors"
	"time"

	"culvert/internal/bounds"
)

// streamTable is a session's streams, guarded by its mutex.
type streamTable struct {
	byID      map[uint32]*stream
	leftovers map[*stream]struct{}        // streams that have ended with data which may still be read
	incoming  []Incoming                  // that Accept has yet to return
	ours      int                         // streams in byID that this side opened
	theirs    int                         // streams that the peer opened: in byID, or not yet released
	nextID    uint32                      // id of the next stream that this side opens
	lastTheir uint32                      // highest id that the peer has opened
	draining  draining                    // new streams come no more
	opened    uint64                      // streams that were in byID so far
	cut       int                         // streams that the end of the session has cut short
	onEnd     func(StreamInfo, StreamEnd) // of OnStreamEnd; may be nil
}

func newStreamTable(client bool) streamTable {
	t := streamTable{
		byID:      make(map[uint32]*stream),
		leftovers: make(map[*stream]struct{}),
		nextID:    2,
	}
	if client {
		t.nextID = 1
	}
	return t
}

// add puts a new stream into the table.
func (t *streamTable) add(st *stream) {
	st.opened = time.Now()
	t.opened++
	t.byID[st.id] = st
}

// isOwn reports whether this side opens streams with this id.
func (s *Session) isOwn(id uint32) bool { return (id%2 == 1) == s.client }

// Open opens a stream and waits for the peer's answer. A refusal is an *OpenError.
func (s *Session) Open(ctx context.Context, target Target) (*Stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.openStreamLocked(target)
	if err != nil {
		return nil, err
	}
	if err := st.awaitAnswerLocked(ctx); err != nil {
		return nil, err
	}
	return st, nil
}

// OpenAtOnce opens a stream and does not wait for the peer's answer: what is written meanwhile
// follows the open frame. It fails as Open does where that needs no answer. A refusal cuts the
// stream: an error of its reads and writes is then a *ResetError that wraps the *OpenError. A Close
// before the answer gives the stream up, with what was written.
//
// answered, unless it is nil, is called when the answer arrives, with nil or the *OpenError, or
// when the stream ends before that, with the cause. It is called with the session locked: it must
// not wait, and must not call methods of the session and its streams.
func (s *Session) OpenAtOnce(target Target, answered func(error)) (*Stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.openStreamLocked(target)
	if err != nil {
		return nil, err
	}
	st.answered = answered
	if answered == nil {
		st.answered = func(error) {}
	}
	return st, nil
}

// ResetUnconfirmed resets the streams of OpenAtOnce that the peer has not answered, and returns how
// many there were. It is for a session that may not get another carrier for long: whoever uses such
// a stream has sent little, and can do so again in another session.
func (s *Session) ResetUnconfirmed() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.streams.byID {
		if st.answered != nil && st.state == opening {
			st.resetLocked(CodeCancelled)
			n++
		}
	}
	return n
}

// OpenFlow opens a flow of datagrams and waits for the peer's answer. A refusal is an *OpenError.
func (s *Session) OpenFlow(ctx context.Context, address string) (*Flow, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.openFlowLocked(address)
	if err != nil {
		return nil, err
	}
	if err := f.awaitAnswerLocked(ctx); err != nil {
		return nil, err
	}
	return f, nil
}

// OpenFlowAtOnce opens a flow and does not wait for the peer's answer: what is sent meanwhile
// follows the open frame. A refusal is an *OpenError of Receive and later calls.
func (s *Session) OpenFlowAtOnce(address string) (*Flow, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.openFlowLocked(address)
}

// openStreamLocked makes a stream and queues its open frame.
func (s *Session) openStreamLocked(target Target) (*Stream, error) {
	if target.Kind == StreamUDP { // which is for flows
		return nil, &OpenError{Code: CodeBadTarget}
	}
	id, err := s.nextIDLocked(target)
	if err != nil {
		return nil, err
	}
	st := newStream(s, id, target, true)
	s.addOwnLocked(&st.stream)
	return st, nil
}

// openFlowLocked makes a flow and queues its open frame.
func (s *Session) openFlowLocked(address string) (*Flow, error) {
	id, err := s.nextIDLocked(Target{StreamUDP, address})
	if err != nil {
		return nil, err
	}
	f := newFlow(s, id, address, true)
	s.addOwnLocked(&f.stream)
	return f, nil
}

// lastID is the last id of either side that leaves room for the step to the next.
const lastID = 1<<32 - 3

// nextIDLocked returns the id of the stream that this side opens next, or why it must not.
func (s *Session) nextIDLocked(target Target) (uint32, error) {
	t := &s.streams
	switch code := s.openRefusalLocked(target); {
	case s.err != nil:
		return 0, &SessionError{s.err}
	case code != 0:
		s.reportRefusedLocked(0, target, true, code)
		return 0, &OpenError{Code: code}
	case t.nextID > lastID: // another session has them all
		s.drainLocked()
		return 0, &OpenError{Code: CodeDraining}
	}
	return t.nextID, nil
}

// openRefusalLocked returns why this side opens no stream for a target, 0 if it may.
func (s *Session) openRefusalLocked(target Target) Code {
	t := &s.streams
	switch {
	case len(target.Address) > maxTarget:
		s.cfg.Bounds.Refused(bounds.Target)
		return CodeBadTarget
	case t.draining.ours:
		return CodeDraining
	case uint64(t.ours) >= uint64(s.peer.maxStreams):
		s.cfg.Bounds.Refused(bounds.Streams)
		return CodeTooManyStreams
	case s.overloadedLocked():
		s.cfg.Bounds.Refused(bounds.ControlFrames)
		return CodeTooManyStreams
	}
	return 0
}

// addOwnLocked puts a stream of this side with the next id into the table, and queues its open
// frame.
func (s *Session) addOwnLocked(st *stream) {
	s.streams.nextID += 2
	s.streams.ours++
	s.streams.add(st)
	st.countOpenLocked()
	s.queueControlLocked(kindOpen, st.id, openPayload(st.target, nil))
}

// awaitAnswerLocked waits until the peer has confirmed the stream. When it returns an error, the
// stream has ended.
func (st *stream) awaitAnswerLocked(ctx context.Context) error {
	s := st.session
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		st.recv.wake.Broadcast()
	})
	defer stop()
	for st.state == opening && st.send.err == nil {
		if ctx.Err() != nil {
			st.releaseLocked()
			st.resetLocked(CodeCancelled)
			return context.Cause(ctx)
		}
		st.recv.wake.Wait()
	}
	if st.state == openConfirmed {
		return nil
	}
	st.releaseLocked()
	st.dropReceivedLocked()
	if st.openResult != nil {
		return st.openResult
	}
	var reset *ResetError
	if errors.As(st.send.err, &reset) {
		return &OpenError{Code: reset.Code}
	}
	return st.send.err
}

// reportOpenLocked reports the result of opening to the callback of OpenAtOnce, once.
func (st *stream) reportOpenLocked(err error) {
	if answered := st.answered; answered != nil {
		st.answered = nil
		answered(err)
	}
}

// refuseOwnLocked ends a stream whose target the peer has not reached. No end of the peer's half,
// and nothing that came before, makes that look like a clean one.
func (st *stream) refuseOwnLocked(code Code, text string) {
	refusal := &OpenError{Code: code, Text: text}
	st.state = openRefused
	st.openResult = refusal
	st.cutLocked(&ResetError{Code: code, Remote: true, refusal: refusal})
}

// forgetLocked takes a stream out of the table.
func (s *Session) forgetLocked(st *stream) {
	if st.removed {
		return
	}
	st.removed = true
	st.reportEndLocked()
	s.memory.grown -= int64(st.recv.window) - int64(s.cfg.Window)
	s.sched.remove(st)
	delete(s.streams.byID, st.id)
	if st.recv.mem() > 0 {
		s.streams.leftovers[st] = struct{}{}
	}
	switch {
	case st.ours:
		s.streams.ours--
	case st.closed:
		s.streams.theirs--
	}
	s.changed.Broadcast()
}
