package mux

// OpenAtOnce opens a stream and does not wait for the peer's answer: what is written meanwhile follows the open frame. It
// fails as Open does where that needs no answer. A refusal cuts the stream: an error of its reads and writes is then a
// *ResetError that wraps the *OpenError. A Close before the answer gives the stream up, with what was written.
//
// answered, unless it is nil, is called once the answer is there: with nil, or with the *OpenError. When the stream ends
// before, it gets what that ended of. It is called with the session locked: it must not wait, and must not call methods of
// the session and its streams.
func (s *Session) OpenAtOnce(target Target, answered func(error)) (*Stream, error) {
	if len(target.Address) > maxTarget {
		return nil, &OpenError{Code: CodeBadTarget}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.newOutgoing(target)
	if err != nil {
		return nil, err
	}
	st.answered = answered
	return st, nil
}

// tellAnswer tells, unless it was told, how the opening went.
func (st *Stream) tellAnswer(err error) {
	if answered := st.answered; answered != nil {
		st.answered = nil
		answered(err)
	}
}

// refused ends a stream whose target the peer has not reached. No end of the peer's half, and nothing that came before,
// makes that look like a clean one.
func (st *Stream) refused(code Code, text string) {
	refusal := &OpenError{Code: code, Text: text}
	st.state = openRefused
	st.openResult = refusal
	st.cut(&ResetError{Code: code, Remote: true, refusal: refusal})
}
