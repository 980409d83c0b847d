package protocol

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// The labels that keep the uses of a key apart. See README.md.
const (
	labelExtension    = "culvert extension 1"                   // HPKE info
	labelKEM          = "culvert extension 1 shared secret"     // HPKE exporter context
	labelClientRecord = "culvert extension 1 client to server " // followed by the suite's name
	labelServerRecord = "culvert extension 1 server to client " // followed by the suite's name
	labelExporter     = "culvert extension 1 exporter"
	labelExport       = "culvert extension 1 export" // followed by the user's label and a hash
	labelRatchet      = "culvert extension 1 ratchet"
	labelRefusal      = "culvert extension 1 refusal" // followed by the close code
)

const hashSize = sha256.Size

// digest is a SHA-256 hash.
type digest = [hashSize]byte

// transcript is the three messages of a handshake, as sent.
type transcript struct {
	clientHello, serverHello, clientReady []byte
}

// hash is SHA-256 over the messages, each after its length as 8 bytes, big-endian, so that the
// boundaries are unambiguous.
func (t *transcript) hash() digest {
	h := sha256.New()
	for _, message := range [][]byte{t.clientHello, t.serverHello, t.clientReady} {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(message)))
		h.Write(size[:])
		h.Write(message)
	}
	return digest(h.Sum(nil))
}

// trafficKeys are the keys that the extension's handshake yields.
type trafficKeys struct {
	client, server [keySize]byte // of the records that each end sends
	exporter       [keySize]byte
}

// deriveKeys is the key schedule: HKDF-Extract (RFC 5869) over the KEM's secret and both share
// keys, salted with the hash of the transcript, then one HKDF-Expand for each key.
func deriveKeys(
	suite string, kem, serverShare, clientShare []byte, th digest,
) (k trafficKeys, err error) {
	secret := make([]byte, 0, 3*keySize)
	secret = append(append(append(secret, kem...), serverShare...), clientShare...)
	root, err := hkdf.Extract(sha256.New, secret, th[:])
	clear(secret)
	if err != nil {
		return k, fmt.Errorf("protocol: key schedule: %w", err)
	}
	defer clear(root)
	for _, out := range []struct {
		key   *[keySize]byte
		label string
	}{
		{&k.client, labelClientRecord + suite},
		{&k.server, labelServerRecord + suite},
		{&k.exporter, labelExporter},
	} {
		b, err := hkdf.Expand(sha256.New, root, out.label, keySize)
		if err != nil {
			return k, fmt.Errorf("protocol: key schedule: %w", err)
		}
		copy(out.key[:], b)
		clear(b)
	}
	return k, nil
}

// ErrNoExporter is returned by Export on a connection without the extension, whose keys follow from
// the long-term secrets.
var ErrNoExporter = errors.New("protocol: nothing can be exported without forward secrecy")

// export derives n bytes for use outside of the records.
func export(exporter [keySize]byte, label string, context []byte, n int) ([]byte, error) {
	contextHash := sha256.Sum256(context)
	b, err := hkdf.Expand(sha256.New, exporter[:],
		labelExport+"\x00"+label+"\x00"+string(contextHash[:]), n)
	if err != nil {
		return nil, fmt.Errorf("protocol: export: %w", err)
	}
	return b, nil
}
