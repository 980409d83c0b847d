package socks

import (
	"crypto/sha256"
	"crypto/subtle"
)

// credentials holds the SHA-256 digests of the credentials that clients must present. The time to
// compare digests depends on the client's input only, so it reveals nothing.
type credentials struct {
	username, password [sha256.Size]byte
}

// newCredentials returns nil, for no authentication, if the user name is empty.
func newCredentials(username, password string) *credentials {
	if username == "" {
		return nil
	}
	return &credentials{sha256.Sum256([]byte(username)), sha256.Sum256([]byte(password))}
}

// Valid implements gosocks5.CredentialStore. It also compares an unknown user's password, so that
// its time reveals nothing.
func (c *credentials) Valid(username, password string) bool {
	u, p := sha256.Sum256([]byte(username)), sha256.Sum256([]byte(password))
	return subtle.ConstantTimeCompare(u[:], c.username[:])&
		subtle.ConstantTimeCompare(p[:], c.password[:]) == 1
}
