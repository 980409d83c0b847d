package protocol

import (
	"encoding/binary"

	"golang.org/x/crypto/nacl/box"
	"golang.org/x/crypto/nacl/secretbox"
)

// boxOverhead is what NaCl's box and secretbox add, in bytes: a Poly1305 tag.
const boxOverhead = secretbox.Overhead

// The two constructions have the same overhead, or this does not compile.
var _ [box.Overhead]struct{} = [boxOverhead]struct{}{}

// naclNonce is what box and secretbox take.
type naclNonce [24]byte

// set fills n with the 8-byte nonce repeated three times.
func (n *naclNonce) set(counter uint64) {
	binary.LittleEndian.PutUint64(n[0:], counter)
	binary.LittleEndian.PutUint64(n[8:], counter)
	binary.LittleEndian.PutUint64(n[16:], counter)
}

// newNaclNonce expands a handshake nonce.
func newNaclNonce(nonce [nonceSize]byte) *naclNonce {
	var n naclNonce
	n.set(binary.LittleEndian.Uint64(nonce[:]))
	return &n
}

// counter is a direction's 64-bit little-endian record counter. It starts at a random value, wraps
// at 2^64 and is exhausted when it comes back to its start.
type counter struct {
	start, current uint64
	exhausted      bool
}

func newCounter(nonce [nonceSize]byte) counter {
	start := binary.LittleEndian.Uint64(nonce[:])
	return counter{start: start, current: start}
}

func (c *counter) advance() {
	c.current++
	c.exhausted = c.current == c.start
}

// suiteSecretbox names the specification's cipher: XSalsa20-Poly1305 under the sender's share key.
const suiteSecretbox = "xsalsa20-poly1305"

// secretboxDirection is one direction's key and counter. nonce is scratch space, kept so that it is
// not allocated for each record.
type secretboxDirection struct {
	key     [keySize]byte
	counter counter
	nonce   naclNonce
}

func newSecretboxDirection(s secrets) *secretboxDirection {
	return &secretboxDirection{key: s.shareKey, counter: newCounter(s.nonce)}
}

func (d *secretboxDirection) seal(dst, payload []byte) ([]byte, error) {
	if d.counter.exhausted {
		return nil, ErrCounterExhausted
	}
	d.nonce.set(d.counter.current)
	d.counter.advance()
	return secretbox.Seal(dst, payload, (*[24]byte)(&d.nonce), &d.key), nil
}

// open leaves the counter where it is when the record does not open, as the reference does; the
// connection ends anyway.
func (d *secretboxDirection) open(dst, record []byte) ([]byte, error) {
	if d.counter.exhausted {
		return nil, ErrCounterExhausted
	}
	d.nonce.set(d.counter.current)
	payload, ok := secretbox.Open(dst, record, (*[24]byte)(&d.nonce), &d.key)
	if !ok {
		return nil, ErrNotOpened
	}
	d.counter.advance()
	return payload, nil
}
