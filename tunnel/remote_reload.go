package tunnel

import (
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

// currentAccess returns what was last loaded.
func (r *Remote) currentAccess() *remoteAccess {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.access
}
