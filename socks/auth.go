package socks

import (
	"crypto/sha256"
	"crypto/subtle"
)

// credentials holds the SHA-256 digests of what clients must present. Comparing
// digests takes a time that depends on what the client sent and on nothing that
// it could learn from.
type credentials struct {
	username, password [sha256.Size]byte
}

// newCredentials returns nil, for none asked, when the user name is empty.
func newCredentials(username, password string) *credentials {
	if username == "" {
		return nil
	}
	return &credentials{sha256.Sum256([]byte(username)), sha256.Sum256([]byte(password))}
}

// Valid implements gosocks5.CredentialStore. It looks at the password of an
// unknown user too.
func (c *credentials) Valid(username, password string) bool {
	u, p := sha256.Sum256([]byte(username)), sha256.Sum256([]byte(password))
	return subtle.ConstantTimeCompare(u[:], c.username[:])&
		subtle.ConstantTimeCompare(p[:], c.password[:]) == 1
}
