package tunnel

import (
	"errors"
	"net/http"
	"net/netip"
	"time"

	"culvert/certs"
	"culvert/protocol"
	"culvert/tunnel/mux"
)

// admit makes a session of a request, or answers it with an error. The session may be one that was
// resumed.
func (r *Remote) admit(w http.ResponseWriter, request *http.Request) (
	session *mux.Session, state protocol.State, resumed bool, err error,
) {
	ws, err := protocol.Upgrade(w, request)
	if err != nil {
		return nil, protocol.State{}, false, err
	}
	conn, err := protocol.Server(r.ctx, ws, r.handshake(request))
	if err != nil {
		return nil, protocol.State{}, false, err
	}
	state = conn.State()
	session, resumed, err = r.host.Accept(r.ctx, conn, r.session, state.Peer.Key.String())
	return session, state, resumed, err
}

// handshake configures the handshake for a request.
func (r *Remote) handshake(request *http.Request) protocol.ServerConfig {
	access := r.currentAccess()
	cfg := protocol.ServerConfig{
		Key:         access.identity.Key,
		Cert:        access.identity.Cert,
		CA:          access.trust.CA,
		RequireCert: access.trust.RequireCert,
		Revoked:     access.trust.Revoked,
		Admit:       access.trust.admit,
		Replay:      r.replay,
		MaxMessage:  mux.MaxRecordSize,
	}
	if r.cfg.RequireForwardSecrecy {
		cfg.Extension = protocol.ExtensionRequired
	}
	if addr, err := netip.ParseAddrPort(request.RemoteAddr); err == nil {
		cfg.PeerAddr = addr.Addr().Unmap()
	}
	return cfg
}

// isFull reports whether there is no room for a session. A session that has lost its connection
// makes room, since the new connection may resume it. Called with the mutex held.
func (r *Remote) isFull() bool {
	if len(r.sessions) < r.cfg.MaxSessions {
		return false
	}
	for session := range r.sessions {
		if session.Stats().Away {
			return false
		}
	}
	return true
}

// admission is what a remote knows of the client of a session.
type admission struct {
	peer    protocol.Peer // of the newest handshake
	revoked bool          // the session is about to end
	expiry  *time.Timer   // checks the certificate again; nil when there is none
}

// addSession registers a session, or begins to close it: when the remote drains or has too many,
// and when the client is not admitted. That is decided here, under the lock under which Reload
// looks for sessions to end, since the handshake may have been verified before a reload.
func (r *Remote) addSession(session *mux.Session, peer protocol.Peer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := readmit(r.access.trust, peer, r.now()); err != nil {
		session.BeginClose(mux.CodeNotAllowed, notAdmitted)
		return err
	}
	if r.draining || !r.makeRoom() {
		session.BeginClose(mux.CodeDraining, "")
		return errNoRoom
	}
	a := &admission{peer: peer}
	r.sessions[session] = a
	r.watchExpiry(session, a)
	return nil
}

// renewSession decides on the client of a session that was resumed, as addSession does. From now on
// the session rests on the certificate of the newest handshake.
func (r *Remote) renewSession(session *mux.Session, peer protocol.Peer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.sessions[session]
	if a == nil || a.revoked { // about to be registered, or to end
		return nil
	}
	a.peer = peer
	err := r.checkAdmission(session, a)
	if err != nil {
		r.endBinds(false)
	}
	return err
}

// checkAdmission begins to close a session whose client is no longer admitted, and returns why.
// From here on the client can neither open streams nor resume the session; the caller ends its
// reverse listeners with endBinds. Called with the mutex held.
func (r *Remote) checkAdmission(session *mux.Session, a *admission) error {
	err := readmit(r.access.trust, a.peer, r.now())
	if err == nil {
		r.watchExpiry(session, a)
		return nil
	}
	a.revoked = true
	session.BeginClose(mux.CodeNotAllowed, notAdmitted)
	r.cfg.Log.Info().Err(err).Stringer("client", a.peer.Key).Msg("client no longer admitted")
	return err
}

// watchExpiry sees to it that the session ends when the client's certificate expires, if it rests
// on one. Called with the mutex held.
func (r *Remote) watchExpiry(session *mux.Session, a *admission) {
	if a.expiry != nil {
		a.expiry.Stop()
	}
	if a.peer.Cert == nil || !r.access.trust.RequireCert {
		a.expiry = nil
		return
	}
	a.expiry = time.AfterFunc(expiryPause(a.peer.Cert, r.now()), func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.sessions[session] == a && !a.revoked && r.checkAdmission(session, a) != nil {
			r.endBinds(false)
		}
	})
}

// expiryPause returns how long to wait before checking again whether a certificate has expired. The
// clock may be set meanwhile, which timers don't notice, or the machine may sleep.
func expiryPause(cert *certs.Certificate, now time.Time) time.Duration {
	return max(0, min(cert.Expires().Sub(now), expiryCheck))
}

const notAdmitted = "no longer admitted"

var errNoRoom = errors.New("draining, or too many sessions")

// makeRoom reports whether another session may be registered. A session that waits for its client
// makes room for one whose client is here. Called with the mutex held.
func (r *Remote) makeRoom() bool {
	if len(r.sessions) < r.cfg.MaxSessions {
		return true
	}
	away := r.dispensable()
	if away == nil {
		return false
	}
	r.cfg.Log.Info().Stringer("client", r.sessions[away].peer.Key).
		Msg("session without a connection ended for another client")
	r.forget(away)
	r.serving.Go(func() { away.CloseWith(mux.CodeOverload, "") })
	return true
}

// dispensable returns the session that has been without a connection for the longest time, among
// those of the client that has most of them: one that crashes again and again must not cost the
// others theirs. It returns nil if all have a connection. Called with the mutex held.
func (r *Remote) dispensable() *mux.Session {
	held := map[certs.PublicKey]int{}
	since := map[*mux.Session]time.Time{}
	for session, a := range r.sessions {
		if at := session.Stats().AwaySince; !at.IsZero() {
			held[a.peer.Key]++
			since[session] = at
		}
	}
	var found *mux.Session
	for session, at := range since {
		n := held[r.sessions[session].peer.Key]
		if found == nil || n > held[r.sessions[found].peer.Key] ||
			n == held[r.sessions[found].peer.Key] && at.Before(since[found]) {
			found = session
		}
	}
	return found
}

func (r *Remote) removeSession(session *mux.Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(session)
	r.changed.Broadcast()
}

// forget takes a session off the list, if it is on it. Called with the mutex held.
func (r *Remote) forget(session *mux.Session) {
	if a := r.sessions[session]; a != nil && a.expiry != nil {
		a.expiry.Stop()
	}
	delete(r.sessions, session)
}
