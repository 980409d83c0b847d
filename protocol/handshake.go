package protocol

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/crypto/nacl/box"

	"culvert/certs"
)

// handshake runs one end of a handshake over w and returns what it agreed on.
type handshake interface {
	run(w *wire) (outcome, error)
}

// shake runs h within its timeout. On failure it sends the peer a close code, if possible, closes w
// and returns a *HandshakeError.
func shake(ctx context.Context, w *wire, timeout time.Duration, h handshake) (outcome, error) {
	stop := w.limitTo(ctx, timeout)
	o, err := h.run(w)
	if cancelled := stop(); cancelled != nil {
		var he *HandshakeError
		if !errors.As(err, &he) {
			he = &HandshakeError{Step: "6"}
		}
		return outcome{}, w.end(&HandshakeError{Step: he.Step, Err: cancelled})
	}
	if err == nil {
		return o, nil
	}
	var he *HandshakeError
	if errors.As(err, &he) && he.Code != 0 {
		w.close(int(he.Code), he.reason(), err)
		return outcome{}, w.err()
	}
	return outcome{}, w.end(err)
}

// receive reads the next handshake message. step is the specification's step that handles it.
func receive(w *wire, step string, limit int) ([]byte, error) {
	w.limitMessages(limit)
	var b []byte
	err := w.readMessage(websocket.TextMessage, func(message []byte) error {
		b = bytes.Clone(message)
		return nil
	})
	if err == nil {
		return b, nil
	}
	code := faultCode(err)
	if _, malformed := errors.AsType[frameError](err); malformed {
		code = CloseBadMessage
	}
	if code != 0 {
		return nil, &HandshakeError{Step: step, Code: code, Err: err}
	}
	err = transportError("read", err)
	if errors.Is(err, ErrTimeout) {
		return nil, &HandshakeError{Step: step, Code: CloseTimeout, Err: err}
	}
	return nil, &HandshakeError{Step: step, Err: err}
}

// transmit sends a handshake message that the given step made.
func transmit(w *wire, step string, message []byte) error {
	if err := w.writeMessage(websocket.TextMessage, message); err != nil {
		return &HandshakeError{Step: step, Err: err}
	}
	return nil
}

// sharedKey is NaCl box's key of the two ends, computed once for the two boxes of a handshake.
type sharedKey [keySize]byte

// newSharedKey refuses keys of low order: with those the result is the same for every secret key.
// It refuses other spellings of a key: whoever is in the middle could make them of a client's, and
// have one nonce used for two boxes.
func newSharedKey(own *certs.KeyPair, peer certs.PublicKey) (*sharedKey, error) {
	if peer.IsLowOrder() || !peer.IsCanonical() {
		return nil, ErrWeakKey
	}
	var k sharedKey
	box.Precompute((*[keySize]byte)(&k), (*[keySize]byte)(&peer), own.Secret())
	return &k, nil
}

func (k *sharedKey) seal(plaintext []byte, nonce [nonceSize]byte) []byte {
	return box.SealAfterPrecomputation(nil, plaintext, (*[24]byte)(newNaclNonce(nonce)),
		(*[keySize]byte)(k))
}

// open returns ErrNotOpened when the box was not made by the peer for this nonce.
func (k *sharedKey) open(sealed []byte, nonce [nonceSize]byte) ([]byte, error) {
	b, ok := box.OpenAfterPrecomputation(nil, sealed, (*[24]byte)(newNaclNonce(nonce)),
		(*[keySize]byte)(k))
	if !ok {
		return nil, ErrNotOpened
	}
	return b, nil
}

// newSecrets draws a nonce, then a share key.
func newSecrets(random io.Reader) (s secrets, err error) {
	if _, err := io.ReadFull(random, s.nonce[:]); err != nil {
		return s, fmt.Errorf("randomness: %w", err)
	}
	if _, err := io.ReadFull(random, s.shareKey[:]); err != nil {
		return s, fmt.Errorf("randomness: %w", err)
	}
	return s, nil
}

// common holds the defaults that both configurations share.
type common struct {
	timeout    time.Duration
	maxMessage int
	random     io.Reader
	now        func() time.Time
}

func withDefaults(
	timeout time.Duration, maxMessage int, random io.Reader, now func() time.Time,
) (common, error) {
	c := common{timeout: timeout, maxMessage: maxMessage, random: random, now: now}
	if timeout < 0 || maxMessage < 0 {
		return c, errors.New("protocol: configuration: a negative Timeout or MaxMessage")
	}
	if c.timeout == 0 {
		c.timeout = DefaultHandshakeTimeout
	}
	if c.maxMessage == 0 {
		c.maxMessage = DefaultMaxMessage
	}
	if c.random == nil {
		c.random = rand.Reader
	}
	if c.now == nil {
		c.now = time.Now
	}
	return c, nil
}

// checkOwnCertificate checks that a configured certificate is for the configured key and this end.
// A peer would refuse another one, with a less helpful error.
func checkOwnCertificate(cert *certs.Certificate, key *certs.KeyPair, use certs.Use) error {
	if err := cert.VerifyKey(key.Public()); err != nil {
		return fmt.Errorf("protocol: configuration: Cert does not go with Key: %w", err)
	}
	if err := cert.VerifyUse(use); err != nil {
		return fmt.Errorf("protocol: configuration: Cert: %w", err)
	}
	return nil
}
