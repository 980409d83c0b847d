package tunnel

import (
	"errors"

	"culvert/certs"
	"culvert/protocol"
)

// Identity is what a Remote shows its clients.
type RemoteIdentity struct {
	Key  *certs.KeyPair
	Cert *certs.Certificate // enables version 2 of the handshake; must be for Key
}

// Trust says which clients a Remote admits. Each condition that is given must hold.
type RemoteTrust struct {
	// Authorized, when set, must list the client's key.
	Authorized *certs.AuthorizedKeys

	// RequireCert makes the client show a certificate of CA, which only version 2 of the handshake can.
	RequireCert bool
	CA          *certs.Certificate
	Revoked     *certs.Revocations

	// Anyone admits every client that meets the conditions above, and there need be none.
	Anyone bool
}

// ErrNobodyAdmitted says that a Trust would admit nobody.
var ErrNobodyAdmitted = errors.New("no client could be admitted")

// check refuses a Trust that admits nobody, or that asks for certificates of no CA.
func (t *RemoteTrust) check() error {
	if t.RequireCert && t.CA == nil {
		return errors.New("a client certificate is required, but no CA is given")
	}
	if t.Authorized == nil && !t.RequireCert && !t.Anyone {
		return ErrNobodyAdmitted
	}
	return nil
}

var (
	errKeyNotListed = errors.New("key not listed")
	errNoCert       = errors.New("no certificate")
)

// admit decides on a client whose certificate, if it showed one, has been verified.
func (t *RemoteTrust) admit(peer protocol.Peer) error {
	if t.RequireCert && peer.Cert == nil {
		return errNoCert
	}
	if t.Authorized != nil {
		if _, ok := t.Authorized.Lookup(peer.Key); !ok {
			return errKeyNotListed
		}
	}
	return nil
}
