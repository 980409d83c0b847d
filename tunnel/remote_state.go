package tunnel

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"culvert/certs"
	"culvert/internal/logburst"
	"culvert/internal/state"
	"culvert/protocol"
	"culvert/tunnel/mux"

	"github.com/rs/zerolog"
)

// remoteObserved is what a remote keeps for its observers.
type remoteObserved struct {
	sums sums

	// refusals bounds the events about clients that are refused, which strangers can cause at will:
	// others would not be seen any more.
	refusals *logburst.Sampler
}

func newRemoteObserved() remoteObserved {
	return remoteObserved{refusals: logburst.New(maxRefusalEvents, refusalEventsPeriod)}
}

// carried is what a remote knows of the newest carrier of a session.
type carried struct {
	since      time.Time
	handshake  protocol.State
	congestion string // control in force; "" if it is not known
}

// State returns a snapshot, without rates and without what the Remote doesn't know of the process.
// It costs nothing until it is called, and then as much as there are sessions and streams.
func (r *Remote) State() state.State {
	taken := state.State{
		Sessions: []state.Session{},
		Streams:  []state.Stream{},
		Events:   r.cfg.Events.Recent(),
		Totals:   r.observed.sums.read().state(),
	}
	r.mu.Lock()
	taken.Node.Draining = r.draining
	sessions := make(map[*mux.Session]described, len(r.sessions))
	for session, a := range r.sessions {
		sessions[session] = r.describe(a)
	}
	r.mu.Unlock()
	for session, known := range sessions {
		most := min(state.MaxSessionStreams, state.MaxStreams-len(taken.Streams))
		in := session.Inspect(most)
		s := sessionState(in)
		s.ID, s.Key, s.Comment, s.From, s.Since = known.ID, known.Key, known.Comment, known.From,
			known.Since
		if known.State != "" {
			s.State = known.State
		}
		s.Limits, s.Carrier = known.Limits, known.Carrier
		if s.Limits != nil && s.Limits.QuotaBytes > 0 { // without the mutex: the ledger has its own
			s.Limits.QuotaUsedBytes = known.meter.quota.used()
		}
		if s.Carrier != nil {
			s.Carrier.RoundTripSeconds = in.RTT.Seconds()
		}
		taken.Sessions = append(taken.Sessions, s)
		taken.Streams = append(taken.Streams, streamStates(s.ID, in)...)
	}
	slices.SortFunc(taken.Sessions, func(a, b state.Session) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.ID, b.ID))
	})
	return taken
}

// described is what a remote knows of a session.
type described struct {
	state.Session
	meter *clientMeter // of the client, if that has limits
}

// describe describes a session as far as the remote knows it. Called with the mutex held.
func (r *Remote) describe(a *admission) described {
	s := described{Session: state.Session{
		ID:      a.name,
		Key:     a.peer.Key.String(),
		Comment: r.access.commentOf(a.peer.Key),
		Since:   a.since,
	}}
	if a.revoked {
		s.State = state.SessionEnding
	}
	if a.from.IsValid() {
		s.From = a.from.String()
	}
	if c := a.client; c != nil {
		s.Limits = &state.Limits{
			Client:   c.id.String(),
			Sessions: c.held(), MaxSessions: c.share.Sessions,
			Streams: c.streams, MaxStreams: c.share.Streams,
			RateUp: c.share.Up, RateDown: c.share.Down,
			QuotaBytes: c.share.Quota,
		}
		s.meter = c.meter
	}
	if !a.carried.since.IsZero() {
		s.Carrier = carrierState(a.carried.since, a.carried.handshake, a.carried.congestion)
	}
	return s
}

// retire takes a session that has ended off the list, and counts what it has done.
func (r *Remote) retire(session *mux.Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(session)
	r.observed.sums.end(session)
	r.changed.Broadcast()
}

// unnamed numbers the sessions of all remotes of the process that have no id.
var unnamed atomic.Uint32

// noteCarrier records the carrier with which a session began or was resumed, and returns the
// session's name.
func (r *Remote) noteCarrier(a admitted) string {
	id := a.ID()
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.sessions[a.Session]
	if known == nil { // about to end
		return id
	}
	if known.name == "" {
		known.name = cmp.Or(id, fmt.Sprintf("n%07x", unnamed.Add(1)))
	}
	known.carried = carried{time.Now(), a.state, a.congestion}
	return known.name
}

// event adds an event of a session, or of a client that gets none, to those that observers see.
func (r *Remote) event(kind, session string, key certs.PublicKey, from netip.Addr, reason error) {
	if r.cfg.Events == nil ||
		kind == state.EventRefused && !r.observed.refusals.Sample(zerolog.InfoLevel) ||
		kind != state.EventRefused && !r.comingsOf(key, from).event() {
		return
	}
	e := state.Event{Kind: kind, Session: session}
	if key != (certs.PublicKey{}) {
		e.Key = key.String()
		e.Comment = r.currentAccess().commentOf(key)
	}
	if from.IsValid() {
		e.From = from.String()
	}
	if reason != nil {
		e.Reason = reason.Error()
	}
	r.cfg.Events.Add(e)
}
