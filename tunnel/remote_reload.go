package tunnel

import (
	"time"

	"culvert/certs"
	"culvert/protocol"
	"culvert/tunnel/mux"
	"culvert/tunnel/policy"
)

// reverseFor returns the rules that now hold for what a client may bind: those of its key's line, if that has any.
func (r *Remote) reverseFor(client certs.PublicKey) *policy.ReverseRules {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reverseRules(client)
}

// reverseRules is reverseFor, called with the mutex held.
func (r *Remote) reverseRules(client certs.PublicKey) *policy.ReverseRules {
	if rules, ok := r.keyReverse[client]; ok {
		return rules
	}
	return r.reverse
}

// Reload replaces what later clients are shown, who is admitted, and which targets later streams may have, also of
// sessions that exist, and what may be bound. It ends the sessions of those who are no longer admitted, and closes the
// listeners that are no longer granted.
func (r *Remote) Reload(identity RemoteIdentity, trust RemoteTrust, rules *policy.Rules, reverse *policy.ReverseRules) error {
	if err := trust.check(); err != nil {
		return err
	}
	keyRules, err := rules.ForKeys(trust.Authorized)
	if err != nil {
		return err
	}
	keyReverse, err := policy.ReverseRulesForKeys(trust.Authorized)
	if err != nil {
		return err
	}
	var ended []*mux.Session
	r.mu.Lock()
	r.identity, r.trust, r.rules, r.keyRules = identity, trust, rules, keyRules
	r.reverse, r.keyReverse = reverse, keyReverse
	r.endBinds(false)
	for session, peer := range r.sessions {
		if err := r.readmit(trust, peer); err != nil {
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

// readmit decides on a client whose certificate was verified under another Trust.
func (r *Remote) readmit(trust RemoteTrust, peer protocol.Peer) error {
	if trust.RequireCert && peer.Cert != nil {
		if err := peer.Cert.Verify(certs.VerifyOptions{CA: trust.CA, Now: time.Now(), Revoked: trust.Revoked}); err != nil {
			return err
		}
	}
	return trust.admit(peer)
}

// rulesFor returns the rules that now hold for a client's streams.
func (r *Remote) rulesFor(client certs.PublicKey) *policy.Rules {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rules, ok := r.keyRules[client]; ok {
		return rules
	}
	return r.rules
}
