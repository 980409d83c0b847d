package mux

import (
	"encoding/hex"
	"time"
)

// Inspection is what an observer gets to see of a session.
type Inspection struct {
	// ID names the session: the first bytes of its id, in hexadecimal. It is empty for one that can't
	// be resumed.
	ID       string
	Open     int    // streams open now
	Opened   uint64 // streams opened so far, by either side
	Payload  Traffic
	Held     int // bytes of memory held by queues and by what is not acknowledged
	Away     time.Time
	RTT      time.Duration // smoothed round trip, 0 before the first was measured
	Streams  []StreamInfo
	Draining bool // this side takes no new streams
}

// StreamInfo is what an observer gets to see of a stream or a flow.
type StreamInfo struct {
	ID      uint32
	Target  Target
	Label   string    // of SetLabel
	Ours    bool      // this side has opened it
	Since   time.Time // when it was opened
	State   StreamState
	Payload Traffic
}

// StreamState is how far a stream is.
type StreamState uint8

// The states.
const (
	StreamOpening    StreamState = iota // not answered
	StreamOpen                          // both directions
	StreamHalfClosed                    // one direction has ended
	StreamEnding                        // closed here; what was written is still being sent
)

// Inspect returns a snapshot of the session with up to most of its streams; which of more, is not
// defined. It holds the session's mutex for as long as it takes to copy them.
func (s *Session) Inspect(most int) Inspection {
	s.mu.Lock()
	defer s.mu.Unlock()
	in := Inspection{
		Open:     len(s.streams.byID),
		Opened:   s.streams.opened,
		Payload:  s.totals.Payload,
		Held:     s.memory.buffered + s.memory.queued + s.memory.stalled + s.out.retained.mem,
		Away:     s.lost.since,
		RTT:      s.smoothedRTTLocked(),
		Draining: s.streams.draining.ours,
		Streams:  make([]StreamInfo, 0, min(most, len(s.streams.byID))),
	}
	in.ID = s.idLocked()
	for _, st := range s.streams.byID {
		if len(in.Streams) == most {
			break
		}
		in.Streams = append(in.Streams, st.infoLocked())
	}
	return in
}

// ID returns the name of the session that Inspection has.
func (s *Session) ID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.idLocked()
}

func (s *Session) idLocked() string {
	if s.resumption == nil {
		return ""
	}
	return hex.EncodeToString(s.resumption.id[:4])
}

func (st *stream) infoLocked() StreamInfo {
	info := StreamInfo{
		ID: st.id, Target: st.target, Label: st.label, Ours: st.ours, Since: st.opened,
		State:   st.stateLocked(),
		Payload: Traffic{st.send.sent, st.recv.received},
	}
	if st.flow != nil {
		info.Payload = st.flow.carried
	}
	return info
}

func (st *stream) stateLocked() StreamState {
	switch {
	case st.state == opening:
		return StreamOpening
	case st.closed || st.send.ends() && st.recv.fin:
		return StreamEnding
	case st.send.ends() || st.recv.fin:
		return StreamHalfClosed
	}
	return StreamOpen
}

// SetLabel names, for observers, the listener through which the stream came.
func (st *stream) SetLabel(label string) {
	st.session.mu.Lock()
	defer st.session.mu.Unlock()
	st.label = label
}

// Label returns the label of SetLabel.
func (st *stream) Label() string {
	st.session.mu.Lock()
	defer st.session.mu.Unlock()
	return st.label
}
