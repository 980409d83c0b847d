package protocol

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"runtime"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/sys/cpu"
)

// The names of the extension's suites, in offers and answers, and for people.
const (
	suiteAESGCM   = "aes-256-gcm"
	suiteChaCha20 = "chacha20-poly1305"
)

// aeadOverhead is the tag that both suites add to a record, in bytes. The nonce is implied.
const aeadOverhead = 16

// ratchetEvery is how many records of a direction share a key. That is 2^36 blocks of AES with the
// largest records, of 1 MiB, and 2^31 with a tunnel's, of 32 KiB. AES-GCM keeps both confidential
// by a wide margin (RFC 8446, section 5.5, gives 2^34.5 blocks at an advantage of 2^-57).
const ratchetEvery = 1 << 20

// newAEAD returns the cipher of a suite.
func newAEAD(suite string, key []byte) (cipher.AEAD, error) {
	switch suite {
	case suiteAESGCM:
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		return cipher.NewGCM(block)
	case suiteChaCha20:
		return chacha20poly1305.New(key)
	}
	return nil, fmt.Errorf("protocol: unknown suite %q", suite)
}

// preferredSuites lists the suites, the faster one on this machine first.
func preferredSuites() []string {
	if hasAESInstructions() {
		return []string{suiteAESGCM, suiteChaCha20}
	}
	return []string{suiteChaCha20, suiteAESGCM}
}

// hasAESInstructions reports whether AES-GCM runs in hardware. Without hardware it is several times
// slower than ChaCha20, and its timing may depend on the key.
func hasAESInstructions() bool {
	switch runtime.GOARCH {
	case "amd64":
		return cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ
	case "arm64":
		return runtime.GOOS == "darwin" || (cpu.ARM64.HasAES && cpu.ARM64.HasPMULL)
	case "s390x":
		return cpu.S390X.HasAES && cpu.S390X.HasAESGCM
	}
	return false
}

// aeadDirection is one direction's key and counter under the extension. The nonce of a record is 4
// zero bytes and the record's number from 0, big-endian, which continues when the key changes.
type aeadDirection struct {
	suite string
	every uint64 // records a key
	key   [keySize]byte
	aead  cipher.AEAD
	next  uint64   // number of the next record
	nonce [12]byte // scratch space, kept so that it is not allocated for each record
}

func newAEADDirection(suite string, key [keySize]byte, every uint64) (*aeadDirection, error) {
	d := &aeadDirection{suite: suite, every: every, key: key}
	var err error
	d.aead, err = newAEAD(suite, d.key[:])
	return d, err
}

// prepare sets the nonce of the next record.
func (d *aeadDirection) prepare() error {
	if d.next == math.MaxUint64 {
		return ErrCounterExhausted
	}
	binary.BigEndian.PutUint64(d.nonce[4:], d.next)
	return nil
}

// advance counts a record, and changes the key when due.
func (d *aeadDirection) advance() error {
	d.next++
	if d.next%d.every == 0 {
		return d.ratchet()
	}
	return nil
}

// ratchet replaces the key by a one-way function of it: a key that is stolen later opens nothing
// that was sent before.
func (d *aeadDirection) ratchet() error {
	next, err := hkdf.Expand(sha256.New, d.key[:], labelRatchet, keySize)
	if err != nil {
		return fmt.Errorf("protocol: ratchet: %w", err)
	}
	copy(d.key[:], next)
	clear(next)
	d.aead, err = newAEAD(d.suite, d.key[:])
	return err
}

func (d *aeadDirection) seal(dst, payload []byte) ([]byte, error) {
	if err := d.prepare(); err != nil {
		return nil, err
	}
	record := d.aead.Seal(dst, d.nonce[:], payload, nil)
	return record, d.advance()
}

func (d *aeadDirection) open(dst, record []byte) ([]byte, error) {
	if err := d.prepare(); err != nil {
		return nil, err
	}
	payload, err := d.aead.Open(dst, d.nonce[:], record, nil)
	if err != nil {
		return nil, ErrNotOpened
	}
	return payload, d.advance()
}
