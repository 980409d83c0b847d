package protocol

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

// TestEveryByteFlipped flips a bit of each byte of ServerHello and ClientReady. Each is refused in
// its own branch; a change inside the box's numbers leaves a box that does not open, or a malformed
// array.
func TestEveryByteFlipped(t *testing.T) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			p := newParties(t, v.version, v.requireCert)
			e := newExchange(t, p)
			flip := func(message []byte, step string, verify func([]byte) error) {
				box := bytes.Index(message, []byte(`"s_blackbox_a":[`)) + len(`"s_blackbox_a":[`)
				key := bytes.Index(message, []byte(`"server_public_key":[`)) +
					len(`"server_public_key":[`)
				notOpened := 0
				for i := range message {
					altered := slices.Clone(message)
					altered[i] ^= 1
					var he *HandshakeError
					if err := verify(altered); !errors.As(err, &he) || he.Step != step {
						t.Fatalf("byte %d of %q: got %v, want step %s", i,
							message[max(0, i-20):i+1], err, step)
					}
					inKey := i >= key && i < box
					switch {
					case he.Code == CloseNotOpened && (inKey || i >= box):
						notOpened++
					case he.Code == CloseBadMessage:
					case he.Code == CloseVersion && i == len(`{"version":`):
					default:
						t.Fatalf("byte %d (%q): code %d: %v", i, message[i], int(he.Code), he)
					}
				}
				if notOpened < len(message)/4 {
					t.Fatalf("only %d flips of %d left a message that parses", notOpened,
						len(message))
				}
			}
			flip(e.reply, "4b", func(b []byte) error {
				_, err := e.client.step4VerifyServerHello(b)
				return err
			})
			flip(e.ready, "5b", func(b []byte) error {
				_, err := e.server.step5VerifyClientReady(b)
				return err
			})
		})
	}
}

// TestHandshakesDoNotMix gives messages of one handshake to another between the same two ends.
func TestHandshakesDoNotMix(t *testing.T) {
	p := newParties(t, Version1, false)
	one, two := newExchange(t, p), newExchange(t, p)
	_, err := one.client.step4VerifyServerHello(two.reply)
	wantHandshakeError(t, err, "4b", CloseNotOpened)
	_, err = one.server.step5VerifyClientReady(two.ready)
	wantHandshakeError(t, err, "5b", CloseNotOpened)
}
