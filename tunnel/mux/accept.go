package mux

import "context"

// Incoming is a stream or a flow that the peer has opened and that waits for an answer: an
// *IncomingStream or an *IncomingFlow. It must be answered once, with Confirm of these types or
// with Refuse.
type Incoming interface {
	// Target returns where it should lead.
	Target() Target

	// ID returns its id, which is unique in its session.
	ID() uint32

	// Refuse tells the opener that the target was not reached. The text is for the opener's log; it
	// is cut to 256 bytes.
	Refuse(code Code, text string)

	// NotifyEnd is that of Stream and Flow: the opener may give up.
	NotifyEnd(f func(unread bool))

	unanswered() *stream
}

// IncomingStream is a stream that the peer has opened.
type IncomingStream struct {
	incoming
	stream *Stream
}

// IncomingFlow is a flow that the peer has opened.
type IncomingFlow struct {
	incoming
	flow *Flow
}

// incoming is what the kinds of Incoming have in common.
type incoming struct{ st *stream }

var (
	_ Incoming = (*IncomingStream)(nil)
	_ Incoming = (*IncomingFlow)(nil)
)

// Accept waits for the next stream or flow that the peer opens and has not given up since. Once the
// session has ended, Accept returns a *SessionError.
func (s *Session) Accept(ctx context.Context) (Incoming, error) {
	var in Incoming
	err := s.await(ctx, func() bool {
		in = s.nextIncomingLocked()
		return in != nil
	})
	if err != nil {
		return nil, err
	}
	return in, nil
}

// TakeIncoming makes a session that was configured with NoIncoming take streams that the peer opens
// from now on. Somebody must call Accept.
func (s *Session) TakeIncoming() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg.NoIncoming = false
}

// nextIncomingLocked returns the next stream or flow that waits to be accepted, nil when there is
// none. It drops those that the opener has given up, with nothing left to deliver: one that opens
// and resets streams as fast as it can must not cost more than that.
func (s *Session) nextIncomingLocked() Incoming {
	t := &s.streams
	for len(t.incoming) > 0 {
		in := t.incoming[0]
		t.incoming[0] = nil
		t.incoming = t.incoming[1:]
		st := in.unanswered()
		if !st.removed || st.recv.mem() > 0 {
			return in
		}
		st.releaseLocked()
	}
	return nil
}

// Confirm tells the opener that the target was reached, and returns the stream. When it fails, the
// stream has ended. It does not fail when the opener has sent data and then cut the stream short:
// the target is still to get the data.
func (in *IncomingStream) Confirm() (*Stream, error) {
	if err := in.st.confirm(); err != nil {
		return nil, err
	}
	return in.stream, nil
}

// Confirm tells the opener that the target was reached, and returns the flow. When it fails, the
// flow has ended.
func (in *IncomingFlow) Confirm() (*Flow, error) {
	if err := in.st.confirm(); err != nil {
		return nil, err
	}
	return in.flow, nil
}

// Target returns where it should lead.
func (in incoming) Target() Target { return in.st.Target() }

// ID returns its id, which is unique in its session.
func (in incoming) ID() uint32 { return in.st.ID() }

// Refuse tells the opener that the target was not reached. The text is for the opener's log; it is
// cut to 256 bytes.
func (in incoming) Refuse(code Code, text string) { in.st.refuse(code, text) }

// NotifyEnd registers f to be called once the opener has given up, as NotifyEnd of Stream does.
func (in incoming) NotifyEnd(f func(unread bool)) { in.st.NotifyEnd(f) }

func (in incoming) unanswered() *stream { return in.st }

// confirm answers the opener.
func (st *stream) confirm() error {
	s := st.session
	s.mu.Lock()
	defer s.mu.Unlock()
	ended := st.send.err != nil
	if unread := st.flow == nil && st.recv.queue.len > 0; ended && !unread {
		st.releaseLocked()
		st.dropReceivedLocked()
		return st.send.err
	}
	if err := s.endingLocked(); err != nil && s.err == nil { // the opener will not hear of it
		st.releaseLocked()
		st.cutLocked(&SessionError{err})
		return &SessionError{err}
	}
	if st.state == opening {
		st.state = openConfirmed
		if !ended {
			s.queueControlLocked(kindOpened, st.id, nil)
		}
	}
	return nil
}

// refuse answers the opener and ends the stream; one that was answered already is reset.
func (st *stream) refuse(code Code, text string) {
	s := st.session
	s.mu.Lock()
	defer s.mu.Unlock()
	st.releaseLocked()
	if st.state != opening {
		st.resetLocked(code)
		return
	}
	if !st.removed && s.err == nil {
		st.state = openRefused
		s.queueControlLocked(kindRefused, st.id, codePayload(code, s.refusalTextLocked(text)))
	}
	st.cutLocked(&ResetError{Code: code})
}
