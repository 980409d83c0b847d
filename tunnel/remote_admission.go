package tunnel

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"culvert/protocol"
	"culvert/tunnel/mux"
)

// admitted is a session with its newest carrier.
type admitted struct {
	*mux.Session
	state      protocol.State // of the carrier's handshake
	resumed    bool           // the session is older than the carrier
	congestion string         // control in force on the carrier's socket; "" if it is not known
}

// admit makes a session of a request, or answers it with an error. A new session is registered.
// With an error, the state is known if the handshake has succeeded.
func (r *Remote) admit(
	ctx context.Context, w http.ResponseWriter, request *http.Request,
) (a admitted, err error) {
	ws, err := protocol.Upgrade(w, request)
	if err != nil {
		return a, err
	}
	a.congestion = r.congestion.apply(ws.NetConn())
	conn, err := protocol.Server(ctx, ws, r.handshake(request))
	if err != nil {
		return a, err
	}
	a.state = conn.State()
	from := clientAddr(request)
	var added *mux.Session
	a.Session, a.resumed, err = r.host.Accept(ctx, busyConn{conn}, r.session, mux.Peer{
		Identity: a.state.Peer.Key.String(),
		Owner:    r.currentAccess().clientID(a.state.Peer.Key, from).String(),
		Admit: func(session *mux.Session) error {
			added = session
			return r.addSession(session, a.state.Peer, from, routeNameOf(request))
		},
	})
	if err != nil && added != nil {
		r.removeSession(added)
	}
	return a, err
}

// CloseBusy is the code with which a remote closes a connection that has no session yet, since it
// ends or others need the place. It is one of those for the layers above the handshake.
const CloseBusy protocol.CloseCode = 4450

// busyConn is a carrier that is closed with CloseBusy before there is a session.
type busyConn struct{ *protocol.Conn }

// CloseEarly implements mux.EarlyCloser.
func (c busyConn) CloseEarly() error { return c.CloseWith(CloseBusy, "busy") }

// clientAddr returns the address that a request comes from; it is invalid where there is none, as
// on a unix socket.
func clientAddr(request *http.Request) netip.Addr {
	addr, err := netip.ParseAddrPort(request.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Addr().Unmap()
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
		Admit: func(peer protocol.Peer) error {
			if err := access.trust.admit(peer, access.trust.lists); err != nil {
				return &refusedKeyError{peer.Key, err}
			}
			return nil
		},
		Replay:     r.moving.replay,
		MaxMessage: mux.MaxRecordSize,
	}
	if r.cfg.RequireForwardSecrecy {
		cfg.Extension = protocol.ExtensionRequired
	}
	cfg.PeerAddr = clientAddr(request)
	return cfg
}

// admission is what a remote knows of the client of a session.
type admission struct {
	peer    protocol.Peer // of the newest handshake
	from    netip.Addr    // where that came from; invalid when unknown
	route   string        // of its sessionHeader; "" for none
	client  *remoteClient // with which the session is counted
	since   time.Time     // when it was admitted
	revoked bool          // the session is about to end
	name    string        // of the session, for people; "" until noteCarrier gives it
	carried carried
	move    sessionMove
	expiry  *time.Timer // checks the certificate again; nil when there is none

	// uncounted means that the session holds none of the places that its client and the remote have
	// for sessions: it moves, and its client may come back to this node, or it has ended, and targets
	// may take long to accept what it has brought.
	uncounted bool
}

// addSession registers a session, unless the client is not admitted, the client's share or the
// remote has no room for it, or the remote drains. That is decided here, under the lock under which
// Reload looks for sessions to end, since the handshake may have been verified before a reload. It
// is decided before the client is answered, so that it doesn't take itself for admitted.
func (r *Remote) addSession(
	session *mux.Session, peer protocol.Peer, from netip.Addr, route string,
) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.access.readmit(peer, r.now()); err != nil {
		return fmt.Errorf("%w: %w", &mux.RefusedError{Code: mux.CodeNotAllowed}, err)
	}
	if r.draining {
		return &mux.RefusedError{Code: mux.CodeDraining}
	}
	if err := r.makeRoom(r.clientOf(peer.Key, from)); err != nil {
		return err
	}
	a := &admission{peer: peer, from: from, route: route, since: time.Now()}
	r.sessions[session] = a
	r.countRoute(route, +1)
	r.gate.count(r.sourceOf(from), +1)
	r.count(a, r.clientOf(peer.Key, from)) // again, since makeRoom may have dropped it
	r.watchExpiry(session, a)
	r.watchAge(session, a)
	return nil
}

// renewSession decides on the client of a session that was resumed, as addSession does. From now on
// the session rests on the certificate of the newest handshake, and counts where that came from.
func (r *Remote) renewSession(session *mux.Session, peer protocol.Peer, from netip.Addr) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.sessions[session]
	if a == nil || a.revoked { // about to be registered, or to end
		return nil
	}
	r.gate.count(r.sourceOf(from), +1)
	r.gate.count(r.sourceOf(a.from), -1)
	a.peer, a.from = peer, from
	r.count(a, r.clientOf(peer.Key, from))
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
	err := r.access.readmit(a.peer, r.now())
	if err == nil {
		r.watchExpiry(session, a)
		return nil
	}
	a.revoked = true
	session.BeginClose(mux.CodeNotAllowed, notAdmitted)
	log := r.sessionLog(a)
	log.Info().Err(err).Msg("client no longer admitted")
	return err
}

// watchExpiry makes the session end when the client's certificate expires, if it rests on one.
// Called with the mutex held.
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

const notAdmitted = "no longer admitted"

func (r *Remote) removeSession(session *mux.Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(session)
	r.changed.Broadcast()
}

// noteEnd notes that a session has ended, though it may still deliver what it has brought.
func (r *Remote) noteEnd(session *mux.Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a := r.sessions[session]; a != nil {
		r.uncount(a)
	}
}

// forget takes a session off the list, if it is on it. Called with the mutex held.
func (r *Remote) forget(session *mux.Session) {
	a := r.sessions[session]
	if a == nil {
		return
	}
	if a.expiry != nil {
		a.expiry.Stop()
	}
	if a.move.timer != nil {
		a.move.timer.Stop()
	}
	if a.uncounted {
		r.uncounted--
	}
	delete(r.sessions, session)
	r.fullUntil = time.Time{}
	r.countRoute(a.route, -1)
	r.gate.count(r.sourceOf(a.from), -1)
	r.count(a, nil)
}
