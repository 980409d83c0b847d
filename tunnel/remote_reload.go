package tunnel

import (
	"time"

	"culvert/certs"
	"culvert/protocol"
	"culvert/tunnel/mux"
	"culvert/tunnel/policy"
)

// Reload replaces what the Remote presents to later clients, whom it admits, which targets later
// streams may have, also those of existing sessions, and what may be bound. It ends the sessions of
// clients that are no longer admitted, and closes the listeners that are no longer granted. After
// an error nothing has changed.
func (r *Remote) Reload(
	identity RemoteIdentity, trust RemoteTrust, rules *policy.Rules, reverse *policy.ReverseRules,
) error {
	access, err := newRemoteAccess(identity, trust, rules, reverse)
	if err != nil {
		return err
	}
	var ended []*mux.Session
	r.mu.Lock()
	r.access = access
	r.endBinds(false)
	for session, peer := range r.sessions {
		if err := readmit(trust, peer); err != nil {
			r.cfg.Log.Info().Err(err).Stringer("client", peer.Key).Msg("client no longer admitted")
			ended = append(ended, session)
		}
	}
	r.mu.Unlock()
	for _, session := range ended {
		session.CloseWith(mux.CodeNotAllowed, "no longer admitted")
	}
	return nil
}

// readmit decides on a client whose certificate was verified under another RemoteTrust.
func readmit(trust RemoteTrust, peer protocol.Peer) error {
	if trust.RequireCert && peer.Cert != nil {
		options := certs.VerifyOptions{CA: trust.CA, Now: time.Now(), Revoked: trust.Revoked}
		if err := peer.Cert.Verify(options); err != nil {
			return err
		}
	}
	return trust.admit(peer)
}

// currentAccess returns what was last loaded.
func (r *Remote) currentAccess() *remoteAccess {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.access
}
