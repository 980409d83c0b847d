package tunnel

import (
	"net/http"
	"net/netip"

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

// addSession registers a session, unless the remote drains or has too many. It reports whether it
// did.
func (r *Remote) addSession(session *mux.Session, peer protocol.Peer) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.draining || len(r.sessions) >= r.cfg.MaxSessions {
		return false
	}
	r.sessions[session] = peer
	return true
}

func (r *Remote) removeSession(session *mux.Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sessions, session)
	r.changed.Broadcast()
}
