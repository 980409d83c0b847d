package mux

import (
	"context"
	"errors"
)

// streamTable is a session's streams, guarded by its mutex.
type streamTable struct {
	byID      map[uint32]*Stream
	leftovers map[*Stream]struct{} // streams that have ended with data which may still be read
	incoming  []*Stream            // streams that Accept has yet to return
	ours      int                  // streams in byID that this side opened
	theirs    int                  // streams that the peer opened: in byID, or not yet released
	nextID    uint32               // id of the next stream that this side opens
	lastTheir uint32               // highest id that the peer has opened
	draining  bool                 // this side takes no new streams
	peerDrain bool                 // the peer takes none
}

func newStreamTable(client bool) streamTable {
	t := streamTable{
		byID:      make(map[uint32]*Stream),
		leftovers: make(map[*Stream]struct{}),
		nextID:    2,
	}
	if client {
		t.nextID = 1
	}
	return t
}

// isOwn reports whether this side opens streams with this id.
func (s *Session) isOwn(id uint32) bool { return (id%2 == 1) == s.client }

// Open opens a stream and waits for the peer's answer. A refusal is an *OpenError.
func (s *Session) Open(ctx context.Context, target Target) (*Stream, error) {
	if len(target.Address) > maxTarget {
		return nil, &OpenError{Code: CodeBadTarget}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.openLocked(target)
	if err != nil {
		return nil, err
	}
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
			return nil, context.Cause(ctx)
		}
		st.recv.wake.Wait()
	}
	if st.state == openConfirmed {
		return st, nil
	}
	st.releaseLocked()
	st.dropReceivedLocked()
	if st.openResult != nil {
		return nil, st.openResult
	}
	var reset *ResetError
	if errors.As(st.send.err, &reset) {
		return nil, &OpenError{Code: reset.Code}
	}
	return nil, st.send.err
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
	if len(target.Address) > maxTarget {
		return nil, &OpenError{Code: CodeBadTarget}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.openLocked(target)
	if err != nil {
		return nil, err
	}
	st.answered = answered
	return st, nil
}

// openLocked makes a stream and queues its open frame.
func (s *Session) openLocked(target Target) (*Stream, error) {
	t := &s.streams
	switch {
	case s.err != nil:
		return nil, &SessionError{s.err}
	case t.draining, t.peerDrain:
		return nil, &OpenError{Code: CodeDraining}
	case uint64(t.ours) >= uint64(s.peer.maxStreams):
		return nil, &OpenError{Code: CodeTooManyStreams}
	case t.nextID > 1<<32-3:
		return nil, ErrNoMoreStreams
	}
	st := newStream(s, t.nextID, target, true)
	t.nextID += 2
	t.ours++
	t.byID[st.id] = st
	s.queueControlLocked(kindOpen, st.id, openPayload(target, nil))
	return st, nil
}

// reportOpenLocked reports the result of opening to the callback of OpenAtOnce, once.
func (st *Stream) reportOpenLocked(err error) {
	if answered := st.answered; answered != nil {
		st.answered = nil
		answered(err)
	}
}

// refuseOwnLocked ends a stream whose target the peer has not reached. No end of the peer's half,
// and nothing that came before, makes that look like a clean one.
func (st *Stream) refuseOwnLocked(code Code, text string) {
	refusal := &OpenError{Code: code, Text: text}
	st.state = openRefused
	st.openResult = refusal
	st.cutLocked(&ResetError{Code: code, Remote: true, refusal: refusal})
}

// Accept waits for the next stream that the peer opens. The caller answers it with Confirm or
// Refuse. After the session has died, Accept returns a *SessionError.
func (s *Session) Accept(ctx context.Context) (*Stream, error) {
	var st *Stream
	err := s.await(ctx, func() bool {
		waiting := s.streams.incoming
		if len(waiting) > 0 {
			st = waiting[0]
			waiting[0] = nil
			s.streams.incoming = waiting[1:]
		}
		return st != nil
	})
	return st, err
}

// forgetLocked takes a stream out of the table.
func (s *Session) forgetLocked(st *Stream) {
	if st.removed {
		return
	}
	st.removed = true
	s.memory.grown -= st.recv.window - uint64(s.cfg.Window)
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
