package tunnel

import (
	"culvert/internal/state"
	"culvert/tunnel/mux"
)

// Labels of streams that no listener of a fixed address has brought.
const (
	labelProxy = "proxy" // the port for SOCKS and HTTP proxy clients
	labelStdio = "stdio"
)

// State returns a snapshot, without rates and without what the Local doesn't know of the process.
// It costs nothing until it is called, and then as much as there are streams.
func (l *Local) State() state.State {
	taken := state.State{
		Sessions: []state.Session{},
		Streams:  []state.Stream{},
		Events:   l.cfg.Events.Recent(),
		Totals:   l.sums.read().state(),
	}
	taken.Node.Remote = l.cfg.Address.String()
	current := l.connection()
	if current != nil {
		taken.Node.Remote = current.connector.address.String()
	}
	for _, conn := range l.connections() {
		in := conn.session.Inspect(state.MaxSessionStreams)
		if conn.session.Err() != nil {
			continue
		}
		session := sessionState(in)
		session.Key = conn.state.Peer.Key.String()
		session.Since = conn.sessionSince
		taken.Sessions = append(taken.Sessions, session)
		taken.Streams = append(taken.Streams, streamStates(session.ID, in)...)
		if conn != current {
			continue
		}
		taken.Node.Draining = in.Draining
		if in.Away.IsZero() {
			taken.Carrier = localCarrier(conn, in)
		}
	}
	return taken
}

// localCarrier describes the carrier of a session.
func localCarrier(conn *localConnection, in mux.Inspection) *state.Carrier {
	carrier := carrierState(conn.since, conn.state, conn.path.congestion)
	carrier.RoundTripSeconds = in.RTT.Seconds()
	if conn.path.remote.IsValid() {
		carrier.Address = conn.path.remote.String()
	}
	return carrier
}

// event adds an event of the session to those that observers see.
func (l *Local) event(kind string, conn *localConnection, reason error) {
	e := state.Event{Kind: kind}
	if reason != nil {
		e.Reason = reason.Error()
	}
	if conn != nil {
		e.Session = conn.session.ID()
		e.Key = conn.state.Peer.Key.String()
	}
	l.cfg.Events.Add(e)
}
