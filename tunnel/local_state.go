package tunnel

import "culvert/internal/state"

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
	l.mu.Lock()
	conn := l.current
	l.mu.Unlock()
	if conn == nil {
		return taken
	}
	in := conn.session.Inspect(state.MaxSessionStreams)
	if conn.session.Err() != nil {
		return taken
	}
	taken.Node.Draining = in.Draining
	session := sessionState(in)
	session.Key = conn.state.Peer.Key.String()
	session.Since = conn.sessionSince
	taken.Sessions = append(taken.Sessions, session)
	taken.Streams = streamStates(session.ID, in)
	if in.Away.IsZero() {
		taken.Carrier = carrierState(conn.since, conn.state, conn.path.congestion)
		taken.Carrier.RoundTripSeconds = in.Trip.Seconds()
		if conn.path.remote.IsValid() {
			taken.Carrier.Address = conn.path.remote.String()
		}
	}
	return taken
}

// event adds an event of the session to those that observers see.
func (l *Local) event(kind string, conn *localConnection, reason error) {
	e := state.Event{Kind: kind}
	if reason != nil {
		e.Reason = reason.Error()
	}
	if conn != nil {
		e.Session = conn.session.Inspect(0).ID
		e.Key = conn.state.Peer.Key.String()
	}
	l.cfg.Events.Add(e)
}
