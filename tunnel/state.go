package tunnel

import (
	"cmp"
	"slices"
	"time"

	"culvert/internal/printable"
	"culvert/internal/state"
	"culvert/protocol"
	"culvert/tunnel/mux"
)

// state returns the totals as observers see them.
func (t Totals) state() state.Totals {
	totals := state.Totals{
		Sessions:    t.Sessions,
		Resumptions: t.Resumptions,
		Traffic:     traffic64(t.Payload),
		ResentBytes: t.Resent.Sent,
	}
	for _, n := range t.Lost {
		totals.CarriersLost += n
	}
	for c := range t.Open {
		totals.Streams += uint64(t.Open[c])
		for _, n := range t.Ended[c] {
			totals.Streams += n
		}
	}
	return totals
}

// carrierState describes a carrier by its handshake.
func carrierState(since time.Time, s protocol.State, congestion string) *state.Carrier {
	c := &state.Carrier{
		Since:             since,
		PeerKey:           s.Peer.Key.String(),
		Version:           s.Version,
		Suite:             s.Suite,
		ForwardSecrecy:    s.ForwardSecrecy,
		CongestionControl: congestion,
	}
	if cert := s.Peer.Cert; cert != nil {
		c.Certificate = &state.Certificate{Expires: cert.Expires()}
		if names := cert.Names(); len(names) > 0 {
			c.Certificate.Subject = names[0]
		}
	}
	return c
}

// sessionState describes a session, without what only the node knows.
func sessionState(in mux.Inspection) state.Session {
	s := state.Session{
		ID:          in.ID,
		State:       state.SessionCarried,
		Streams:     in.Open,
		Opened:      in.Opened,
		Traffic:     traffic64(in.Payload),
		MemoryBytes: int64(in.Held),
	}
	if in.Draining {
		s.State = state.SessionEnding
	}
	if !in.Away.IsZero() {
		s.State = state.SessionAway
		s.AwaySince = &in.Away
	}
	return s
}

func traffic64(c mux.Traffic) state.Traffic {
	return state.Traffic{SentBytes: c.Sent, ReceivedBytes: c.Received}
}

// streamStates describes the streams of a session, the oldest first.
func streamStates(session string, in mux.Inspection) []state.Stream {
	streams := make([]state.Stream, 0, len(in.Streams))
	for _, info := range in.Streams {
		streams = append(streams, state.Stream{
			ID:       info.ID,
			Session:  session,
			Kind:     kindNames[info.Target.Kind],
			Listener: info.Label,
			Target:   printable.Line(info.Target.Address), // a peer has named it
			Since:    info.Since,
			State:    stateNames[info.State],
			Traffic:  traffic64(info.Payload),
		})
	}
	slices.SortFunc(streams, func(a, b state.Stream) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.ID, b.ID))
	})
	return streams
}

var kindNames = map[mux.StreamKind]string{
	mux.StreamTCP:     "tcp",
	mux.StreamUDP:     "udp",
	mux.StreamUnix:    "unix",
	mux.StreamReverse: "reverse",
	mux.StreamListen:  "listen",
	mux.StreamService: "service",
}

var stateNames = map[mux.StreamState]string{
	mux.StreamOpening:    state.StreamOpening,
	mux.StreamOpen:       state.StreamOpen,
	mux.StreamHalfClosed: state.StreamHalfClosed,
	mux.StreamEnding:     state.StreamEnding,
}
