package protocol

import (
	"bytes"
	"crypto/hpke"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/ascii85"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// The extension's sizes in bytes: those of MLKEM768X25519.
const (
	kemKeySize = 1216 // public key
	kemEncSize = 1120 // encapsulated secret
)

const (
	// maxOfferedSuites and maxSuiteName bound an offer. A later version may have more suites than
	// this one.
	maxOfferedSuites = 16
	maxSuiteName     = 64
)

var (
	// ErrDowngrade is wrapped when the offer, as one end made it, is not what the other end
	// received: it was altered or removed in transit.
	ErrDowngrade = errors.New("the extension's offer was altered in transit")

	// ErrNoForwardSecrecy is wrapped when the configuration requires forward secrecy and the peer
	// does not support it.
	ErrNoForwardSecrecy = errors.New("the peer has no forward secrecy")
)

// ExtensionPolicy is how an end treats the extension.
type ExtensionPolicy int

// The policies.
const (
	ExtensionAuto     ExtensionPolicy = iota // used when the peer has it
	ExtensionRequired                        // a peer without it is refused with CloseNoSecrecy
	ExtensionOff                             // neither offered nor answered
)

// extensionMember returns the raw member "ext" of what follows the secrets in an opened box, nil if
// there is none. A reference peer may put anything there, so anything but a JSON object is ignored.
func extensionMember(tail []byte) json.RawMessage {
	o, err := parseObject(tail, "ext")
	if err != nil {
		return nil
	}
	return o["ext"]
}

// kemSuite returns the extension's suite of HPKE (RFC 9180), in export-only mode.
func kemSuite() (hpke.KEM, hpke.KDF, hpke.AEAD) {
	return hpke.MLKEM768X25519(), hpke.HKDFSHA256(), hpke.ExportOnly()
}

// kemInfo binds the HPKE context to the ClientHello as sent.
func kemInfo(helloHash digest) []byte {
	return append([]byte(labelExtension+"\x00"), helloHash[:]...)
}

// offer is the client's part, in clear in its ClientHello:
//
//	"ext":{"suites":["aes-256-gcm","chacha20-poly1305"],"kem":"…"}
//
// where kem is an MLKEM768X25519 public key of 1,216 bytes in text85.
type offer struct {
	suites []string
	kemKey []byte
}

func (o *offer) append(b []byte) []byte {
	b = append(b, `{"suites":[`...)
	for i, name := range o.suites {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), name...), '"')
	}
	return append(append(append(b, `],"kem":"`...), encode85(o.kemKey)...), `"}`...)
}

// parseOffer reads an offer; nil when there is none.
func parseOffer(raw json.RawMessage) (*offer, error) {
	if raw == nil {
		return nil, nil
	}
	m, err := parseObject(raw, "suites", "kem")
	if err != nil {
		return nil, fmt.Errorf("ext: %w", err)
	}
	var o offer
	if json.Unmarshal(m["suites"], &o.suites) != nil || len(o.suites) == 0 ||
		len(o.suites) > maxOfferedSuites ||
		slices.ContainsFunc(o.suites, func(name string) bool { return len(name) > maxSuiteName }) {
		return nil, fmt.Errorf("%w: ext: suites", ErrBadMessage)
	}
	if o.kemKey, err = m.text85("kem", kemKeySize); err != nil {
		return nil, err
	}
	return &o, nil
}

// choose picks the suite for an offer, "" when there is none in common. The client's order decides,
// with one exception: a server without AES instructions chooses ChaCha20 if the client has it,
// since the slower end limits the rate.
func (o *offer) choose() string {
	known := preferredSuites()
	if known[0] == suiteChaCha20 && slices.Contains(o.suites, suiteChaCha20) {
		return suiteChaCha20
	}
	for _, name := range o.suites {
		if slices.Contains(known, name) {
			return name
		}
	}
	return ""
}

// answer is the server's part, sealed in its ServerHello:
//
//	"ext":{"suite":"…","enc":"…","hello":"…"}
//
// where enc is the encapsulated secret of 1,120 bytes and hello the SHA-256 of the ClientHello as
// received, both in text85.
type answer struct {
	suite string
	enc   []byte
	hello digest
}

func (a *answer) append(b []byte) []byte {
	b = append(append(b, `{"suite":"`...), a.suite...)
	b = append(append(b, `","enc":"`...), encode85(a.enc)...)
	return append(append(append(b, `","hello":"`...), encode85(a.hello[:])...), `"}`...)
}

// parseAnswer reads an answer; nil when there is none.
func parseAnswer(raw json.RawMessage) (*answer, error) {
	if raw == nil {
		return nil, nil
	}
	m, err := parseObject(raw, "suite", "enc", "hello")
	if err != nil {
		return nil, fmt.Errorf("ext: %w", err)
	}
	var a answer
	if json.Unmarshal(m["suite"], &a.suite) != nil {
		return nil, fmt.Errorf("%w: ext: suite", ErrBadMessage)
	}
	if a.enc, err = m.text85("enc", kemEncSize); err != nil {
		return nil, err
	}
	if a.hello, err = m.digest("hello"); err != nil {
		return nil, err
	}
	return &a, nil
}

// confirmation is the client's second part, sealed in its ClientReady, whether or not the server
// answered:
//
//	"ext":{"hello":"…"}
//
// where hello is the SHA-256 of the ClientHello as sent. It confirms the offer, and the whole
// message with it.
type confirmation struct{ hello digest }

func (c *confirmation) append(b []byte) []byte {
	return append(append(append(b, `{"hello":"`...), encode85(c.hello[:])...), `"}`...)
}

// parseConfirmation reads a confirmation; nil when there is none.
func parseConfirmation(raw json.RawMessage) (*confirmation, error) {
	if raw == nil {
		return nil, nil
	}
	m, err := parseObject(raw, "hello")
	if err != nil {
		return nil, fmt.Errorf("ext: %w", err)
	}
	hello, err := m.digest("hello")
	return &confirmation{hello}, err
}

// appendMember appends the JSON object to b, with the member "ext" added; a new one if there is
// none.
func appendMember(b []byte, object []byte, part interface{ append([]byte) []byte }) []byte {
	body := bytes.TrimSuffix(bytes.TrimSpace(object), []byte("}"))
	if len(body) == 0 {
		body = []byte("{")
	}
	b = append(b, body...)
	if len(body) > 1 {
		b = append(b, ',')
	}
	return append(part.append(append(b, `"ext":`...)), '}')
}

// sameHello compares hashes of ClientHellos.
func sameHello(a, b digest) bool { return subtle.ConstantTimeCompare(a[:], b[:]) == 1 }

// encapsulate makes a fresh secret for the holder of the offer's key.
func (o *offer) encapsulate(helloHash digest) (enc, secret []byte, err error) {
	kem, kdf, aead := kemSuite()
	key, err := kem.NewPublicKey(o.kemKey)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: ext: kem is no public key", ErrBadMessage)
	}
	enc, sender, err := hpke.NewSender(key, kdf, aead, kemInfo(helloHash))
	if err != nil {
		return nil, nil, fmt.Errorf("ext: %w", err)
	}
	secret, err = sender.Export(labelKEM, keySize)
	return enc, secret, err
}

// decapsulate recovers the secret with the ephemeral private key, which the caller then drops.
func decapsulate(key hpke.PrivateKey, enc []byte, helloHash digest) (secret []byte, err error) {
	_, kdf, aead := kemSuite()
	recipient, err := hpke.NewRecipient(enc, key, kdf, aead, kemInfo(helloHash))
	if err != nil {
		return nil, fmt.Errorf("%w: ext: enc", ErrBadMessage)
	}
	return recipient.Export(labelKEM, keySize)
}

func hashHello(message []byte) digest { return sha256.Sum256(message) }

// text85 is Ascii85 (as in PostScript) but for the two characters that JSON would have to escape: v
// replaces the quotation mark and w the backslash. A byte in a sealed part costs 3.6 bytes on the
// wire, since boxes travel as JSON arrays of decimal numbers; against base64 it saves 6 % of the
// secrets, and the handshake fits in 8 KiB.
const (
	quote85, insteadOfQuote         = '"', 'v'
	backslash85, insteadOfBackslash = '\\', 'w'
)

func encode85(data []byte) []byte {
	b := make([]byte, ascii85.MaxEncodedLen(len(data)))
	b = b[:ascii85.Encode(b, data)]
	for i, c := range b {
		switch c {
		case quote85:
			b[i] = insteadOfQuote
		case backslash85:
			b[i] = insteadOfBackslash
		}
	}
	return b
}

// text85 reads a member of exactly size bytes, a multiple of 4.
func (o object) text85(name string, size int) ([]byte, error) {
	bad := fmt.Errorf("%w: ext: %s", ErrBadMessage, name)
	var text string
	if json.Unmarshal(o[name], &text) != nil || len(text) > ascii85.MaxEncodedLen(size) {
		return nil, bad
	}
	b := []byte(text)
	for i, c := range b {
		switch {
		case c == insteadOfQuote:
			b[i] = quote85
		case c == insteadOfBackslash:
			b[i] = backslash85
		case c <= ' ' || c == quote85 || c == backslash85:
			return nil, bad // the decoder would skip it, or it has another spelling
		}
	}
	data := make([]byte, size+4)
	n, used, err := ascii85.Decode(data, b, true)
	if err != nil || used != len(b) || n != size {
		return nil, bad
	}
	return data[:size], nil
}

func (o object) digest(name string) (d digest, err error) {
	b, err := o.text85(name, hashSize)
	copy(d[:], b)
	return d, err
}
