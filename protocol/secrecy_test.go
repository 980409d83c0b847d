package protocol

import (
	"encoding/binary"
	"testing"

	"golang.org/x/crypto/curve25519"
	"golang.org/x/crypto/nacl/secretbox"
)

// recording is what an eavesdropper has: the messages of a handshake and the first records each
// way.
type recording struct {
	hello, reply, ready []byte
	records             map[string][][]byte // by sender
}

func record(t *testing.T, p parties) (recording, *exchange) {
	t.Helper()
	e := newExchange(t, p)
	e.server.kemSecret = append([]byte(nil), e.server.kemSecret...)
	kept := append([]byte(nil), e.server.kemSecret...)
	atServer, err := e.server.step5VerifyClientReady(e.ready)
	if err != nil {
		t.Fatal(err)
	}
	atClient, err := e.client.step6SecureContext()
	if err != nil {
		t.Fatal(err)
	}
	e.server.kemSecret = kept // for the test of the test
	r := recording{e.hello, e.reply, e.ready, map[string][][]byte{}}
	for from, sealer := range map[string]sealer{
		"client": atClient.sealer, "server": atServer.sealer,
	} {
		for range 3 {
			b, err := sealer.seal(nil, []byte("the secret that was recorded"))
			if err != nil {
				t.Fatal(err)
			}
			r.records[from] = append(r.records[from], b)
		}
	}
	return r, e
}

// opensAny tries a key on every record, in every way that a record can be sealed. salts are nonces
// for secretbox.
func (r recording) opensAny(key [keySize]byte, nonces ...[nonceSize]byte) bool {
	for _, records := range r.records {
		for i, b := range records {
			for _, suite := range []string{suiteAESGCM, suiteChaCha20} {
				d, err := newAEADDirection(suite, key, ratchetEvery)
				if err != nil {
					return true // a broken test must not pass
				}
				d.next = uint64(i)
				if _, err := d.open(nil, b); err == nil {
					return true
				}
			}
			for _, start := range nonces {
				var n naclNonce
				n.set(binary.LittleEndian.Uint64(start[:]) + uint64(i))
				if _, ok := secretbox.Open(nil, b, (*[24]byte)(&n), &key); ok {
					return true
				}
			}
		}
	}
	return false
}

// TestStolenKeysOpenNoRecord: with both static secret keys and a recording, everything derivable is
// derived. It opens the handshake's boxes and not one record; without the extension, it opens every
// one.
func TestStolenKeysOpenNoRecord(t *testing.T) {
	for _, v := range variants {
		for _, policy := range []ExtensionPolicy{ExtensionAuto, ExtensionOff} {
			name := v.name + "/extended"
			if policy == ExtensionOff {
				name = v.name + "/as specified"
			}
			t.Run(name, func(t *testing.T) {
				p := newParties(t, v.version, v.requireCert)
				p.client.Extension, p.server.Extension = policy, policy
				r, e := record(t, p)
				opened := r.open(t, p)
				found := false
				for _, key := range opened.derivable(t, r) {
					found = found || r.opensAny(key, opened.server.nonce, opened.client.nonce,
						opened.hello)
				}
				if found != (policy == ExtensionOff) {
					t.Fatalf("records opened with stolen keys: %v", found)
				}
				if policy == ExtensionOff {
					return
				}
				// The same search finds the key with the one secret that is not in the recording.
				found = false
				for _, key := range opened.schedules(t, r, e.server.kemSecret) {
					found = found || r.opensAny(key)
				}
				if !found {
					t.Fatal("the search would not find a key that is there")
				}
			})
		}
	}
}

// openedHandshake is the contents of the boxes.
type openedHandshake struct {
	hello          [nonceSize]byte
	server, client secrets
	answer         *answer
	static         [][]byte // secrets that the long-term keys give
}

// open opens both boxes with the stolen keys.
func (r recording) open(t *testing.T, p parties) (o openedHandshake) {
	t.Helper()
	hello, err := parseClientHello(r.hello)
	if err != nil {
		t.Fatal(err)
	}
	o.hello = hello.nonce
	shared, err := newSharedKey(p.client.Key, p.server.Key.Public())
	if err != nil {
		t.Fatal(err)
	}
	reply, err := parseServerHello(r.reply, p.client.Version)
	if err != nil {
		t.Fatal(err)
	}
	inside, err := shared.open(reply.box, hello.nonce)
	if err != nil {
		t.Fatal("the ServerHello's box stays closed:", err)
	}
	var tail []byte
	o.server, tail, _ = parseSecrets(inside)
	if o.answer, err = parseAnswer(extensionMember(tail)); err != nil {
		t.Fatal(err)
	}
	ready, err := parseClientReady(r.ready, p.client.Version)
	if err != nil {
		t.Fatal(err)
	}
	if inside, err = shared.open(ready.box, o.server.nonce); err != nil {
		t.Fatal("the ClientReady's box stays closed:", err)
	}
	o.client, _, _ = parseSecrets(inside)

	serverPublic := p.server.Key.Public()
	dh, err := curve25519.X25519(p.client.Key.Secret()[:], serverPublic[:])
	if err != nil {
		t.Fatal(err)
	}
	o.static = [][]byte{shared[:], dh, p.client.Key.Secret()[:], p.server.Key.Secret()[:],
		make([]byte, keySize)}
	if hello.offer != nil && o.answer != nil {
		// The X25519 halves of the hybrid: the last 32 bytes of the public key and of the
		// encapsulation, each with each secret key that was stolen.
		for _, point := range [][]byte{
			hello.offer.kemKey[kemKeySize-32:], o.answer.enc[kemEncSize-32:],
		} {
			for _, stolen := range [][]byte{p.client.Key.Secret()[:], p.server.Key.Secret()[:]} {
				if dh, err := curve25519.X25519(stolen, point); err == nil {
					o.static = append(o.static, dh)
				}
			}
		}
	}
	return o
}

// derivable lists every key that follows from the stolen keys and the recording.
func (o openedHandshake) derivable(t *testing.T, r recording) [][keySize]byte {
	t.Helper()
	var keys [][keySize]byte
	candidates := append([][]byte{o.server.shareKey[:], o.client.shareKey[:]}, o.static...)
	for _, c := range candidates {
		keys = append(keys, [keySize]byte(c))
		keys = append(keys, o.schedules(t, r, c)...)
	}
	return keys
}

// schedules runs the key schedule with a guess instead of the KEM's secret.
func (o openedHandshake) schedules(t *testing.T, r recording, guess []byte) [][keySize]byte {
	t.Helper()
	var keys [][keySize]byte
	th := (&transcript{r.hello, r.reply, r.ready}).hash()
	for _, suite := range []string{suiteAESGCM, suiteChaCha20} {
		k, err := deriveKeys(suite, guess, o.server.shareKey[:], o.client.shareKey[:], th)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k.client, k.server, k.exporter)
	}
	return keys
}
