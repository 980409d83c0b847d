package mux

import (
	"errors"
	"time"
)

// StreamEnd is how a stream ended.
type StreamEnd struct {
	Result Result
	Code   Code // with which it was refused or reset; 0 if it was neither, or ended with its session
	Lasted time.Duration
}

// OnStreamEnd makes the session call f when a stream ends from now on, and when one is refused.
// Streams that make the peer listen, or lead to the server itself, are left out. f is called with
// the session's mutex held: it must not wait, nor call the session.
func (s *Session) OnStreamEnd(f func(StreamInfo, StreamEnd)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams.onEnd = f
}

// notifyEndLocked reports the end of a stream that was taken out of the table.
func (st *stream) notifyEndLocked(result Result) {
	if f := st.session.streams.onEnd; f != nil {
		f(st.infoLocked(), StreamEnd{result, st.endCodeLocked(result), time.Since(st.opened)})
	}
}

// endCodeLocked returns the code with which a stream ended that had a result.
func (st *stream) endCodeLocked(result Result) Code {
	var refused *OpenError
	var reset *ResetError
	switch {
	case result == ResultOK:
	case errors.As(st.openResult, &refused):
		return refused.Code
	case errors.As(st.send.err, &reset), errors.As(st.recv.err, &reset):
		return reset.Code
	}
	return 0
}

// notifyRefusedLocked reports a stream that was refused before it was in the table. Its id is 0 if
// it got none.
func (s *Session) notifyRefusedLocked(id uint32, target Target, ours bool, code Code) {
	if f := s.streams.onEnd; f != nil {
		info := StreamInfo{ID: id, Target: target, Ours: ours, Since: time.Now()}
		f(info, StreamEnd{Result: ResultOf(code), Code: code})
	}
}
