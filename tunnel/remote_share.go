package tunnel

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"

	"culvert/certs"
	"culvert/internal/bounds"
	"culvert/tunnel/mux"
	"culvert/tunnel/mux/budget"
	"culvert/tunnel/policy"

	"github.com/rs/zerolog"
)

// clientID is whose use of a remote is counted together: that of a key or, where anybody may make
// keys, that of an address.
type clientID struct {
	key  certs.PublicKey // zero where the address counts
	from netip.Prefix    // invalid where the key counts
}

func (c clientID) String() string {
	if c.from.IsValid() {
		return c.from.String()
	}
	return c.key.String()
}

// clientID returns the client that has a key and comes from an address, which is invalid when it
// is not known.
func (a *remoteAccess) clientID(key certs.PublicKey, from netip.Addr) clientID {
	if from.IsValid() && a.trust.Authorized == nil && !a.trust.RequireCert {
		return clientID{from: clientPrefix(from)}
	}
	return clientID{key: key}
}

// shareOf returns the share of a client.
func (a *remoteAccess) shareOf(id clientID) policy.Share {
	if rights, ok := a.rightsOf(id.key); ok {
		return rights.Share
	}
	return a.rights.Share
}

// shareDefaults replaces the zero fields of the share that clients have by default.
func shareDefaults(share policy.Share) policy.Share {
	share.Sessions = cmp.Or(share.Sessions, DefaultClientSessions)
	share.Streams = cmp.Or(share.Streams, DefaultClientStreams)
	return share
}

// remoteClient counts what a client uses of a remote. The remote's mutex guards it, except for the
// meter and the places.
type remoteClient struct {
	id        clientID
	share     policy.Share
	sessions  int
	uncounted int            // of them, those that hold no place: see admission
	streams   int            // in all sessions
	tests     int            // speed tests, in all sessions
	memory    *budget.Member // holds streamMemory for each of them
	refusals  *logLimit      // of log entries about streams that were refused
	meter     *clientMeter   // of all streams
	clientPlaces
	clientCallers
}

// clientPlaces bound what the streams in all sessions of a client may have at once. A stream gives
// back what it took where it took it: its session may count with another client by then.
type clientPlaces struct {
	exits     places         // for UDP sockets
	lookups   policy.Lookups // of the names of targets
	exitLoad  *exitLoad
	listeners places // for -R
}

func newClientPlaces(
	counts *bounds.Counts, names policy.Lookups, reserve reserveFunc,
) clientPlaces {
	return clientPlaces{
		exits:     newPlaces(maxClientExits),
		lookups:   names,
		exitLoad:  newExitLoad(counts, names, reserve),
		listeners: newPlaces(maxClientListeners),
	}
}

// held returns how many sessions the client has of those that it may have.
func (c *remoteClient) held() int { return c.sessions - c.uncounted }

// clientOf returns the client that has a key and comes from an address. Called with the mutex held.
func (r *Remote) clientOf(key certs.PublicKey, from netip.Addr) *remoteClient {
	id := r.access.clientID(key, from)
	if client := r.clients[id]; client != nil {
		return client
	}
	share := r.access.shareOf(id)
	return &remoteClient{
		id: id, share: share, meter: newClientMeter(r, id.String(), share),
		refusals: newLogLimit(r.cfg.Log.With().Stringer("client", id).Logger(), 1,
			shareLogPause, nil),
		clientPlaces: newClientPlaces(r.cfg.Bounds, r.names.For(id.String()),
			func(bytes int) func() { return r.session.Memory.Reserve(id.String(), bytes) }),
	}
}

// count counts a session with a client, nil for none, and no longer with the one before. Called
// with the mutex held.
func (r *Remote) count(a *admission, client *remoteClient) {
	before := a.client
	if before == client {
		return
	}
	if a.client = client; client != nil {
		client.sessions++
		if a.uncounted {
			client.uncounted++
		}
		if client.memory == nil {
			client.memory = r.session.Memory.JoinFixed(client.id.String())
		}
		r.clients[client.id] = client
	}
	if before != nil {
		before.sessions--
		if a.uncounted {
			before.uncounted--
		}
		r.dropUnused(before)
	}
}

// uncount makes a session hold no place any more. Called with the mutex held.
func (r *Remote) uncount(a *admission) {
	if !a.uncounted {
		a.uncounted = true
		a.client.uncounted++
		r.uncounted++
		r.fullUntil = time.Time{}
	}
}

// dropUnused forgets a client that uses nothing. Called with the mutex held.
func (r *Remote) dropUnused(client *remoteClient) {
	if client.sessions == 0 && client.streams == 0 {
		client.meter.quota.end()
		client.memory.Leave()
		client.refusals.close()
		delete(r.clients, client.id)
	}
}

// clientStream is a stream that is counted with its client.
type clientStream struct {
	*remoteClient
	crowded bool // the client has so many that this one's socket gets small buffers
}

// takeStream counts another stream of the client of a session until leaveStream, unless its share
// has no room. It doesn't matter who opens the stream.
func (r *Remote) takeStream(session *mux.Session) (clientStream, *mux.OpenError) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.sessions[session]
	if a == nil { // about to end
		return clientStream{}, &mux.OpenError{Code: mux.CodeDraining}
	}
	client := a.client
	if refusal := r.refuseStream(client); refusal != nil {
		switch refusal.Code {
		case mux.CodeTooManyStreams:
			r.cfg.Bounds.Refused(bounds.ClientStreams)
		case mux.CodeOverload:
			r.cfg.Bounds.Refused(bounds.Memory)
		}
		if client.refusals.Sample(zerolog.InfoLevel) {
			log := r.sessionLog(a).Hook(client.refusals)
			log.Info().Err(refusal).Uint16("code", uint16(refusal.Code)).Msg("stream refused")
		}
		return clientStream{}, refusal
	}
	client.streams++
	r.streams++
	client.memory.Hold(client.streams * streamMemory)
	return clientStream{client, client.streams > crowd}, nil
}

// refuseStream returns why there is no room for another stream of a client, nil if there is. Called
// with the mutex held.
func (r *Remote) refuseStream(c *remoteClient) *mux.OpenError {
	switch {
	case c.streams >= leastStreams && c.streams >= r.roomForStreams():
		return &mux.OpenError{
			Code: mux.CodeOverload,
			Text: fmt.Sprintf("no memory for more than %d streams", c.streams),
		}
	case c.streams >= c.share.Streams:
		return &mux.OpenError{
			Code: mux.CodeTooManyStreams,
			Text: fmt.Sprintf("limit of %d for all sessions of a client", c.share.Streams),
		}
	case c.meter.quota.isUsed():
		return &mux.OpenError{
			Code: mux.CodeQuota,
			Text: fmt.Sprintf("%d bytes, until midnight UTC", c.share.Quota),
		}
	}
	return nil
}

// mostStreams returns how many streams refuseStream lets a client have, but for its quota. Called
// with the mutex held.
func (r *Remote) mostStreams(c *remoteClient) int {
	return min(c.share.Streams, max(leastStreams, r.roomForStreams()))
}

// roomForStreams returns how many streams a client may have for the memory that they need apart
// from their data, however much that is: half of what all clients' streams leave of the shares, of
// which the budget sets a part aside for them. So a client that is alone comes to a quarter of the
// budget, and there is always room for another. Called with the mutex held.
func (r *Remote) roomForStreams() int {
	all := r.session.Memory.Shares() / streamMemory
	return max(int(all)-r.streams, 0) / 2
}

// leaveStream ends what takeStream began.
func (r *Remote) leaveStream(client *remoteClient) {
	r.mu.Lock()
	defer r.mu.Unlock()
	client.streams--
	r.streams--
	client.memory.Hold(client.streams * streamMemory)
	r.dropUnused(client)
}

// applyShares counts all sessions again after a reload, and begins to close those beyond their
// client's share, which it returns. Called with the mutex held.
func (r *Remote) applyShares() (ended []*mux.Session) {
	for _, a := range r.sessions {
		r.count(a, r.clientOf(a.peer.Key, a.from))
	}
	for _, client := range r.clients {
		client.share = r.access.shareOf(client.id)
		client.meter.set(client.share)
		for client.held() > client.share.Sessions {
			if r.setAside(client) {
				continue
			}
			session := r.leastOf(func(a *admission, _ bool) bool { return a.client == client })
			ended = append(ended, session)
			r.endForRoom(session, r.refuseShare(client))
		}
	}
	return ended
}

// isFull reports whether there is no room for a session, whoever's it is. It remembers for fullTime
// that there is none, unless a session ends: strangers may ask often, and to find out takes a look
// at all sessions. Called with the mutex held.
func (r *Remote) isFull() bool {
	if r.held() < r.cfg.MaxSessions {
		return false
	}
	now := time.Now()
	if now.Before(r.fullUntil) {
		return true
	}
	if r.dispensable(&remoteClient{}) != nil {
		return false
	}
	r.fullUntil = now.Add(fullTime)
	return true
}

// held returns how many sessions there are of those that the remote may have. Called with the mutex
// held.
func (r *Remote) held() int { return len(r.sessions) - r.uncounted }

// makeRoom makes room for another session of a client, or returns why there is none. A session of
// the client itself that has lost its connection makes room within the client's share. If the
// client uses nothing else, it is dropped. Called with the mutex held.
func (r *Remote) makeRoom(client *remoteClient) error {
	if client.held() >= client.share.Sessions && !r.setAside(client) {
		own := r.leastOf(func(a *admission, away bool) bool { return a.client == client && away })
		if own == nil {
			r.probe(client)
			return r.refuseShare(client)
		}
		r.endForRoom(own, r.refuseShare(client))
	}
	if r.held() < r.cfg.MaxSessions {
		return nil
	}
	r.cfg.Bounds.Refused(bounds.Sessions)
	other := r.dispensable(client)
	if other == nil {
		return &mux.RefusedError{Code: mux.CodeFull}
	}
	r.endForRoom(other, &mux.RefusedError{Code: mux.CodeFull})
	return nil
}

// setAside makes a session of a client hold no place that the client has retired: it opens no more
// streams there, as after a failover, and waits for those that there are. It reports false if there
// is none, or as many are set aside as may be. Called with the mutex held.
func (r *Remote) setAside(client *remoteClient) bool {
	most := max(client.share.Sessions, leastRetired)
	if client.uncounted >= most || r.uncounted >= r.cfg.MaxSessions {
		return false
	}
	for session, a := range r.sessions {
		if a.client == client && !a.uncounted && session.IsRetired() {
			r.uncount(a)
			return true
		}
	}
	return false
}

// refuseShare returns why a client gets no other session, or loses one, and counts it.
func (r *Remote) refuseShare(client *remoteClient) *mux.RefusedError {
	r.cfg.Bounds.Refused(bounds.ClientSessions)
	return &mux.RefusedError{
		Code: mux.CodeShare, Text: fmt.Sprintf("limit of %d sessions", client.share.Sessions),
	}
}

// probe finds out soon which of a client's sessions have lost their connection without notice: its
// next attempt may replace one. Called with the mutex held.
func (r *Remote) probe(client *remoteClient) {
	for session, a := range r.sessions {
		if a.client == client {
			session.Probe()
		}
	}
}

// dispensable returns the session that makes room for another one of a client, nil if there is
// none: a session of whoever holds most. So nobody takes sessions from those that hold less,
// however many it opens or abandons. Called with the mutex held.
func (r *Remote) dispensable(client *remoteClient) *mux.Session {
	return r.leastOf(func(a *admission, away bool) bool {
		if away {
			return a.client == client || a.client.held() > client.held()
		}
		return a.client.held() > client.held()+1
	})
}

// leastOf returns the session that is missed least among those of which choose returns true, nil if
// there is none, among those that hold a place: of the client that holds most, without a connection
// for the longest time or else admitted last. Called with the mutex held.
func (r *Remote) leastOf(choose func(a *admission, away bool) bool) (found *mux.Session) {
	var best *admission
	var bestSince time.Time
	for session, a := range r.sessions {
		if a.uncounted {
			continue
		}
		since := session.Stats().AwaySince
		if away := !since.IsZero(); !choose(a, away) {
			continue
		}
		if best == nil || cmp.Or(
			cmp.Compare(a.client.held(), best.client.held()),
			compareAway(since, bestSince),
			a.since.Compare(best.since)) > 0 {
			found, best, bestSince = session, a, since
		}
	}
	return found
}

// compareAway compares since when two sessions have no connection, the zero time for one that has:
// the one that waits longer is greater.
func compareAway(a, b time.Time) int {
	if a.IsZero() || b.IsZero() {
		return a.Compare(b)
	}
	return b.Compare(a)
}

// endForRoom begins to close a session that makes room. Called with the mutex held.
func (r *Remote) endForRoom(session *mux.Session, why *mux.RefusedError) {
	a := r.sessions[session]
	log := r.sessionLog(a).Sample(r.gate.comings.of(a.client.id))
	log.Info().Err(why).Bool("connected", session.Stats().AwaySince.IsZero()).
		Msg("session ended to make room")
	r.forget(session)
	session.BeginClose(why.Code, why.Text)
}
