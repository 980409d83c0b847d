package protocol

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"strconv"
	"strings"
)

// refusalProofSize is the size of a proof in bytes. A forger has one attempt per connection.
const refusalProofSize = 16

// refusalProof returns what only the two ends of a handshake can append to the reason of a close
// frame. Close frames are not sealed, so a man-in-the-middle can send one; the proof lets the
// client distinguish its refusal from that of the verified server.
func refusalProof(exporter [keySize]byte, code CloseCode) (string, error) {
	info := labelRefusal + "\x00" + strconv.Itoa(int(code))
	b, err := hkdf.Expand(sha256.New, exporter[:], info, refusalProofSize)
	return base64.RawURLEncoding.EncodeToString(b), err
}

// authenticate removes a valid proof from the reason, and sets Authenticated.
func (e *RefusedError) authenticate(exporter [keySize]byte) {
	want, err := refusalProof(exporter, e.Code)
	at := strings.LastIndexByte(e.Reason, ' ')
	if err != nil || at < 0 || len(e.Reason)-at-1 != len(want) {
		return
	}
	if subtle.ConstantTimeCompare([]byte(e.Reason[at+1:]), []byte(want)) == 1 {
		e.Authenticated = true
		e.Reason = e.Reason[:at]
	}
}
