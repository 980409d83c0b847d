package protocol

import (
	"net/netip"

	"culvert/certs"
)

// suite makes the two directions of a secure context from what the handshake left. It is the seam for other ciphers:
// everything after the handshake sees a sealer and an opener.
type suite interface {
	// name is the suite's name for people and metrics.
	name() string
	// forwardSecrecy reports whether the record keys stay secret when both long-term keys become known.
	forwardSecrecy() bool
	// overhead is what a record is longer than its payload, in bytes.
	overhead() int
	newSealer(own secrets) sealer
	newOpener(peer secrets) opener
}

// sealer seals one direction's records in order. It is not safe for concurrent use.
type sealer interface {
	// seal appends the next record to dst and returns the result. payload must not overlap dst's spare capacity. It
	// fails without output when the direction's nonces are used up.
	seal(dst, payload []byte) ([]byte, error)
}

// opener opens one direction's records in order. It is not safe for concurrent use, and not for use after an error.
type opener interface {
	// open appends the payload of the next record to dst and returns the result. record must not overlap dst's spare
	// capacity.
	open(dst, record []byte) ([]byte, error)
}

// secrets is what one end contributes in its box: the nonce at which its record counter starts, and the key of its
// records.
type secrets struct {
	nonce    [nonceSize]byte
	shareKey [keySize]byte
}

func (s *secrets) append(b []byte) []byte {
	return append(append(b, s.nonce[:]...), s.shareKey[:]...)
}

// parseSecrets splits an opened box into the sender's secrets and what follows them.
func parseSecrets(b []byte) (s secrets, tail []byte, ok bool) {
	if len(b) < secretsSize {
		return s, nil, false
	}
	copy(s.nonce[:], b)
	copy(s.shareKey[:], b[nonceSize:])
	return s, b[secretsSize:], true
}

// outcome is what a completed handshake leaves to the secure context.
type outcome struct {
	suite suite
	own   secrets
	peer  secrets
	who   Peer
}

// Peer is the other end, as far as the handshake knows it.
type Peer struct {
	Version int
	Key     certs.PublicKey
	// Cert is set in version 2 when the peer showed a certificate and it verified.
	Cert *certs.Certificate
	// Addr is the address that the configuration gave; it may be the zero Addr.
	Addr netip.Addr
}
