package protocol

import (
	"net/netip"

	"culvert/certs"
)

// sealer seals one direction's records in order. It is not safe for concurrent use.
type sealer interface {
	// seal appends the next record to dst and returns the result. payload must not overlap dst's
	// spare capacity. It fails without output when the direction's nonces are used up.
	seal(dst, payload []byte) ([]byte, error)
}

// opener opens one direction's records in order. It is not safe for concurrent use, and not for use
// after an error.
type opener interface {
	// open appends the payload of the next record to dst and returns the result. record must not
	// overlap dst's spare capacity.
	open(dst, record []byte) ([]byte, error)
}

// secrets is what one end contributes in its box: the nonce at which its record counter starts, and
// the key of its records.
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

// outcome is what a completed handshake leaves to the secure context. Everything after the
// handshake sees only a sealer and an opener.
type outcome struct {
	suite    string // for people and metrics
	overhead int    // of a record over its payload, in bytes
	sealer   sealer
	opener   opener
	exporter *[keySize]byte // nil without the extension, and so without forward secrecy
	who      Peer
}

// specifiedOutcome is the secure context of the specification: XSalsa20-Poly1305 under each
// sender's share key.
func specifiedOutcome(own, peer secrets, who Peer) outcome {
	return outcome{
		suite:    suiteSecretbox,
		overhead: boxOverhead,
		sealer:   newSecretboxDirection(own),
		opener:   newSecretboxDirection(peer),
		who:      who,
	}
}

// extendedOutcome is the secure context of the extension.
func extendedOutcome(
	suite string, sendKey, receiveKey, exporter [keySize]byte, who Peer,
) (outcome, error) {
	sealer, err := newAEADDirection(suite, sendKey, ratchetEvery)
	if err != nil {
		return outcome{}, err
	}
	opener, err := newAEADDirection(suite, receiveKey, ratchetEvery)
	if err != nil {
		return outcome{}, err
	}
	return outcome{suite: suite, overhead: aeadOverhead, sealer: sealer, opener: opener,
		exporter: &exporter, who: who}, nil
}

// Peer is the other end, as the handshake identified it.
type Peer struct {
	Version int
	Key     certs.PublicKey
	// Cert is set in version 2 if the peer presented a certificate and it verified.
	Cert *certs.Certificate
	// Addr is the address that the configuration gave; it may be the zero Addr.
	Addr netip.Addr
}
