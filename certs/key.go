package certs

import (
	"crypto/ecdh"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
)

// PublicKey is a Box (X25519) public key.
type PublicKey [32]byte

// keyText is strict, so that a key has one spelling only.
var keyText = base64.RawURLEncoding.Strict()

// ParsePublicKey reads what String prints: 43 characters of unpadded base64url. It refuses keys of
// low order.
func ParsePublicKey(s string) (PublicKey, error) {
	var k PublicKey
	if len(s) != keyText.EncodedLen(len(k)) {
		return PublicKey{}, fmt.Errorf("%w: want %d characters of base64url, got %d", ErrPublicKey,
			keyText.EncodedLen(len(k)), len(s))
	}
	// The decoder skips line breaks, which leaves fewer than 32 bytes. Its own error would reveal
	// where it stopped, and the text may be a mistyped secret, so that error is dropped.
	if n, err := keyText.Decode(k[:], []byte(s)); err != nil || n != len(k) {
		return PublicKey{}, fmt.Errorf("%w: not base64url", ErrPublicKey)
	}
	if k.IsLowOrder() {
		return PublicKey{}, fmt.Errorf("%w: of low order", ErrPublicKey)
	}
	return k, nil
}

// String returns the 43 characters that ParsePublicKey reads.
func (k PublicKey) String() string { return keyText.EncodeToString(k[:]) }

// MarshalText returns what String does.
func (k PublicKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads what ParsePublicKey does.
func (k *PublicKey) UnmarshalText(text []byte) error {
	parsed, err := ParsePublicKey(string(text))
	if err != nil {
		return err
	}
	*k = parsed
	return nil
}

// Equal compares in constant time.
func (k PublicKey) Equal(other PublicKey) bool {
	return subtle.ConstantTimeCompare(k[:], other[:]) == 1
}

// IsLowOrder reports whether k is one of the few points with which every secret key has the same
// shared key (RFC 7748, section 6.1; the list is at cr.yp.to/ecdh.html). NaCl box seals for such a
// key without an error, and anyone can open the result: a peer that presents one has proved
// nothing.
func (k PublicKey) IsLowOrder() bool {
	k[31] &= 0x7F // X25519 ignores the highest bit
	switch hex.EncodeToString(k[:]) {
	case "0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
		"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f":
		return true
	}
	return false
}

// IsCanonical reports whether k is how X25519 writes a public key: less than 2^255 - 19, as a
// number in little-endian order. X25519 takes others for the keys that they equal modulo that
// (RFC 7748, section 5), so that one key could be taken for two.
func (k PublicKey) IsCanonical() bool {
	if k[31] != 0x7F {
		return k[31] < 0x7F
	}
	for _, b := range k[1:31] {
		if b != 0xFF {
			return true
		}
	}
	return k[0] < 0xED
}

// KeyPair is a Box (X25519) key pair. It is made by NewKeyPair, GenerateKeyPair, ReadKeyPair or
// LoadOrCreateKeyPair and never changes, so that goroutines may share it. Printing, logging or
// marshalling one shows the public key only.
type KeyPair struct {
	// secret is a function because fmt follows pointers: for a KeyPair in an unexported field of a
	// printed value, fmt doesn't call KeyPair's methods, and a mismatched verb, such as %s, prints
	// what a pointer points to.
	secret func() *[32]byte
	public PublicKey
}

// GenerateKeyPair makes a key pair from 32 bytes of rand.
func GenerateKeyPair(rand io.Reader) (*KeyPair, error) {
	var secret [32]byte
	if _, err := io.ReadFull(rand, secret[:]); err != nil {
		return nil, fmt.Errorf("read randomness for a key: %w", err)
	}
	return NewKeyPair(secret)
}

// NewKeyPair derives the public key from the secret one. It refuses a secret of zeros, which can
// only come from a broken source of randomness or an empty field.
func NewKeyPair(secret [32]byte) (*KeyPair, error) {
	if subtle.ConstantTimeCompare(secret[:], make([]byte, len(secret))) == 1 {
		return nil, fmt.Errorf("%w: the secret key is zero", ErrMalformedKey)
	}
	private, err := ecdh.X25519().NewPrivateKey(secret[:])
	if err != nil {
		return nil, fmt.Errorf("%w: not an X25519 secret key", ErrMalformedKey)
	}
	kp := &KeyPair{
		secret: func() *[32]byte { return &secret },
		public: PublicKey(private.PublicKey().Bytes()),
	}
	return kp, nil
}

// Public returns the public half.
func (k *KeyPair) Public() PublicKey { return k.public }

// Secret returns the pair's own copy of the secret half, as nacl/box takes it. The caller must
// neither change nor print it.
func (k *KeyPair) Secret() *[32]byte { return k.secret() }

// String names the pair by its public key.
func (k KeyPair) String() string { return "KeyPair(" + k.public.String() + ")" }

// GoString returns what String does.
func (k KeyPair) GoString() string { return k.String() }

// Format prints what String does, whatever the verb.
func (k KeyPair) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// MarshalText returns what String does, and so encoding/json prints that too: only WriteFile writes
// the secret to a file.
func (k KeyPair) MarshalText() ([]byte, error) { return []byte(k.String()), nil }
