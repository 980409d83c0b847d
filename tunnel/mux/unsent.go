package mux

// unsent is what was written to a stream that has ended before its answer, and was not sent. The
// session's mutex guards it.
type unsent struct {
	data  []byte
	whole bool // data is all that was written
}

// Unsent returns what was written to a stream, and reports whether the stream has ended without the
// peer's answer, and before any of that was put into a record. The peer can't have passed on any of
// it then, so the stream may be opened in another session. It is false when there is more than 16
// KiB, and for a stream that the peer has refused.
func (st *Stream) Unsent() (data []byte, ok bool) {
	st.session.mu.Lock()
	defer st.session.mu.Unlock()
	u := &st.send.unsent
	return u.data, u.whole
}

// keepUnsentLocked moves what is queued to be sent to a place for Unsent. The stream is about to
// end.
func (st *stream) keepUnsentLocked() {
	h := &st.send
	h.unsent.whole = st.ours && st.state == opening && st.flow == nil && h.sent == 0
	h.unsent.take(&h.queue)
}

// take appends what a queue holds, unless there is too much.
func (u *unsent) take(q *queue) {
	if u.whole = u.whole && len(u.data)+q.len <= maxUnsent; !u.whole {
		u.data = nil
		return
	}
	piece := make([]byte, q.len)
	q.read(piece)
	u.data = append(u.data, piece...)
}
