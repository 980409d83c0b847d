package tunnel

import (
	"time"

	"culvert/certs"
	"culvert/protocol"
	"culvert/tunnel/mux"
	"culvert/tunnel/policy"
)

// Reload replaces what the Remote presents to later clients, whom it admits, and what clients may
// do: which targets later streams may have, also those of existing sessions, what may be bound, and
// what share each client has. It ends the sessions of clients that are no longer admitted, all at
// once: none of them opens a stream, resumes or keeps a listener from the moment of the change. It
// closes the listeners that are no longer granted, and ends sessions beyond a client's share. After
// an error nothing has changed.
func (r *Remote) Reload(identity RemoteIdentity, trust RemoteTrust, rights policy.Rights) error {
	access, err := newRemoteAccess(identity, trust, rights)
	if err != nil {
		return err
	}
	var ended []*mux.Session
	r.mu.Lock()
	r.access = access
	for session, a := range r.sessions {
		if !a.revoked && r.checkAdmission(session, a) != nil {
			ended = append(ended, session)
		}
	}
	ended = append(ended, r.applyShares()...)
	r.endBinds(false)
	r.mu.Unlock()
	for _, session := range ended { // they close in parallel
		session.Wait()
	}
	return nil
}

// readmit decides on a client whose certificate was verified under another RemoteTrust.
func readmit(trust RemoteTrust, peer protocol.Peer, now time.Time) error {
	if trust.RequireCert && peer.Cert != nil {
		options := certs.VerifyOptions{CA: trust.CA, Now: now, Revoked: trust.Revoked}
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
