package tunnel

import (
	"net/http"
	"net/netip"

	"culvert/protocol"
	"culvert/tunnel/mux"
)

// shakeHands makes a session of a request, or answers it with an error.
func (r *Remote) shakeHands(w http.ResponseWriter, request *http.Request) (s *mux.Session, state protocol.State, resumed bool, err error) {
	ws, err := protocol.Upgrade(w, request)
	if err != nil {
		return nil, protocol.State{}, false, err
	}
	r.mu.Lock()
	identity, trust := r.identity, r.trust
	r.mu.Unlock()
	cfg := protocol.ServerConfig{
		Key:         identity.Key,
		Cert:        identity.Cert,
		CA:          trust.CA,
		RequireCert: trust.RequireCert,
		Revoked:     trust.Revoked,
		Admit:       trust.admit,
		Replay:      r.replay,
		MaxMessage:  mux.MaxRecordSize,
	}
	if r.cfg.RequireForwardSecrecy {
		cfg.Extension = protocol.ExtensionRequired
	}
	if addr, err := netip.ParseAddrPort(request.RemoteAddr); err == nil {
		cfg.PeerAddr = addr.Addr().Unmap()
	}
	conn, err := protocol.Server(r.ctx, ws, cfg)
	if err != nil {
		return nil, protocol.State{}, false, err
	}
	state = conn.State()
	s, resumed, err = r.host.Accept(r.ctx, conn, r.session, state.Peer.Key.String())
	return s, state, resumed, err
}

// full says that there is no room for another session, also not for one that would take the place of its own. Called with
// the mutex held.
func (r *Remote) full() bool {
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

// addSession fails once the remote drains, or when there are too many.
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
}
