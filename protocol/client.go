package protocol

import (
	"context"
	"crypto/hpke"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/gorilla/websocket"

	"culvert/certs"
)

// ClientConfig is a client's identity and what it expects of the server. Client does not change it.
type ClientConfig struct {
	// Version of the handshake: 1 or 2.
	Version int
	// Key is the client's key pair.
	Key *certs.KeyPair
	// Cert is sent in version 2 to a server that requires a certificate. It may be nil.
	Cert *certs.Certificate
	// CA must vouch for the server in version 2.
	CA *certs.Certificate
	// ServerName is the URL's host without a port. In version 2 the server's certificate must be
	// for it: if it is a name, one of the certificate's names must cover it, whatever its address.
	ServerName string
	// ServerAddr is the server's address, if known. It is only for Peer.
	ServerAddr netip.Addr
	// VerifyServer decides in step 4 whether this is the right server, by a pin or a remembered key.
	// It is called after the server has proved that it holds the key, and in version 2 after its
	// certificate was verified. Its error reaches Client's caller in an *IdentityError, or as it is
	// when it is an *OwnFault. Version 1 requires VerifyServer, since nothing else identifies the
	// server. It runs within the handshake timeouts of both ends, so it must not wait for a person:
	// fail, ask, and connect again.
	VerifyServer func(Peer) error
	// Extension is whether to offer the extension: forward secrecy, and records at hardware speed.
	// The zero value offers it and accepts a server without it.
	Extension ExtensionPolicy
	// Timeout bounds the whole handshake; 0 is DefaultHandshakeTimeout.
	Timeout time.Duration
	// MaxMessage is the largest payload of a record in bytes, both ways; 0 is DefaultMaxMessage.
	MaxMessage int

	rand io.Reader        // source of nonces and share keys; nil is crypto/rand
	now  func() time.Time // for certificates; nil is time.Now
}

// Client performs the client's side of the handshake and returns the secure context. ws comes from
// a dialer of NewDialer. Client takes it over, and closes it on error. Apart from errors in cfg,
// and a ws from another dialer, an error is a *HandshakeError. It wraps an *IdentityError if this
// is the wrong server, a *RefusedError if the server refused, and ErrTimeout or ctx's error if time
// ran out.
//
// The server decides about the client after Client has returned: a refusal in step 5b is a
// *RefusedError from ReadRecord or WriteRecords.
func Client(ctx context.Context, ws *websocket.Conn, cfg ClientConfig) (*Conn, error) {
	w := newWire(ws, true)
	if _, ok := ws.NetConn().(*dialedConn); !ok {
		return nil, w.end(errForeignDialer)
	}
	h, err := newClientHandshake(cfg)
	if err != nil {
		return nil, w.end(err)
	}
	o, err := shake(ctx, w, h.timeout, h)
	if err != nil {
		return nil, err
	}
	return newConn(w, o, h.maxMessage, true), nil
}

// clientHandshake is the client's side of the specification, with one method per step. Steps take
// and return bytes; run connects them.
type clientHandshake struct {
	common
	cfg ClientConfig

	helloNonce [nonceSize]byte // of step 2
	kemKey     hpke.PrivateKey // of step 2, dropped in step 4; nil without an offer
	transcript transcript
	server     secrets // of step 4
	answer     *answer // of step 4; nil when the server has no extension
	kemSecret  []byte  // of step 4, with an answer
	own        secrets // of step 4a
	who        Peer
}

func newClientHandshake(cfg ClientConfig) (*clientHandshake, error) {
	common, err := withDefaults(cfg.Timeout, cfg.MaxMessage, cfg.rand, cfg.now)
	if err != nil {
		return nil, err
	}
	switch {
	case cfg.Key == nil:
		return nil, errors.New("protocol: configuration: no Key")
	case cfg.Version == Version1 && cfg.VerifyServer == nil:
		return nil, errors.New(
			"protocol: configuration: version 1 without VerifyServer would trust any server")
	case cfg.Version == Version2 && cfg.CA == nil:
		return nil, errors.New("protocol: configuration: version 2 without CA")
	case cfg.Version == Version2 && cfg.Cert != nil:
		err = checkOwnCertificate(cfg.Cert, cfg.Key, certs.UseClient)
	case cfg.Version != Version1 && cfg.Version != Version2:
		err = fmt.Errorf("protocol: configuration: Version %d", cfg.Version)
	}
	if err != nil {
		return nil, err
	}
	return &clientHandshake{common: common, cfg: cfg}, nil
}

func (h *clientHandshake) run(w *wire) (outcome, error) {
	hello, err := h.step2ClientHello()
	if err != nil {
		return outcome{}, err
	}
	if err := transmit(w, "2", hello); err != nil {
		return outcome{}, err
	}
	answer, err := receive(w, "4", maxSealedMessage(h.cfg.Version))
	if err != nil {
		return outcome{}, err
	}
	ready, err := h.step4VerifyServerHello(answer)
	if err != nil {
		return outcome{}, err
	}
	if err := transmit(w, "4a", ready); err != nil {
		return outcome{}, err
	}
	return h.step6SecureContext()
}

// step2ClientHello makes the first message. It offers the extension unless that is turned off.
func (h *clientHandshake) step2ClientHello() ([]byte, error) {
	if _, err := io.ReadFull(h.random, h.helloNonce[:]); err != nil {
		return nil, &HandshakeError{Step: "2", Code: CloseInternal,
			Err: fmt.Errorf("randomness: %w", err)}
	}
	m := clientHello{version: h.cfg.Version, publicKey: h.cfg.Key.Public(), nonce: h.helloNonce}
	if h.cfg.Extension != ExtensionOff {
		kem, _, _ := kemSuite()
		var err error
		if h.kemKey, err = kem.GenerateKey(); err != nil {
			return nil, &HandshakeError{Step: "2", Code: CloseInternal,
				Err: fmt.Errorf("ext: %w", err)}
		}
		m.offer = &offer{suites: preferredSuites(), kemKey: h.kemKey.PublicKey().Bytes()}
	}
	h.transcript.clientHello = m.marshal()
	return h.transcript.clientHello, nil
}

// step4VerifyServerHello verifies the server's answer and decides: grant4a makes the ClientReady,
// reject4b the error.
func (h *clientHandshake) step4VerifyServerHello(message []byte) (ready []byte, err error) {
	m, err := parseServerHello(message, h.cfg.Version)
	if err != nil {
		return nil, h.reject4b(messageCode(err), err)
	}
	h.who = Peer{Version: m.version, Key: m.publicKey, Addr: h.cfg.ServerAddr}
	shared, err := newSharedKey(h.cfg.Key, m.publicKey)
	if err != nil {
		return nil, h.rejectIdentity4b(CloseIdentity, err)
	}
	opened, err := shared.open(m.box, h.helloNonce)
	if err != nil {
		return nil, h.rejectIdentity4b(CloseNotOpened, err)
	}
	server, tail, ok := parseSecrets(opened)
	if !ok {
		return nil, h.reject4b(CloseBadMessage,
			fmt.Errorf("ServerHello: %w: box of %d bytes", ErrBadMessage, len(opened)))
	}
	h.server = server
	h.transcript.serverHello = message
	if err := h.verifyAnswer(tail); err != nil {
		return nil, err
	}
	certRequired := false
	if h.cfg.Version == Version2 {
		var cert *certs.Certificate
		if cert, certRequired, err = parseServerTail(tail); err != nil {
			return nil, h.reject4b(messageCode(err), fmt.Errorf("ServerHello: %w", err))
		}
		if err := h.verifyCertificate(cert); err != nil {
			return nil, h.rejectIdentity4b(CloseIdentity, err)
		}
		h.who.Cert = cert
	}
	if h.cfg.VerifyServer != nil {
		err := h.cfg.VerifyServer(h.who)
		if _, ours := errors.AsType[*OwnFault](err); ours {
			return nil, h.reject4b(CloseInternal, err)
		}
		if err != nil {
			return nil, h.rejectIdentity4b(CloseIdentity, err)
		}
	}
	if certRequired && h.cfg.Cert == nil {
		return nil, h.reject4b(CloseCertificate, ErrCertificateRequired)
	}
	return h.grant4a(shared, certRequired)
}

// verifyAnswer checks the server's part of the extension, and recovers the KEM's secret. The
// ephemeral key is dropped.
func (h *clientHandshake) verifyAnswer(tail []byte) error {
	key := h.kemKey
	h.kemKey = nil
	if key == nil {
		return nil
	}
	var err error
	if h.answer, err = parseAnswer(extensionMember(tail)); err != nil {
		return h.reject4b(messageCode(err), fmt.Errorf("ServerHello: %w", err))
	}
	if h.answer == nil {
		if h.cfg.Extension == ExtensionRequired {
			return h.reject4b(CloseNoSecrecy, ErrNoForwardSecrecy)
		}
		return nil
	}
	helloHash := hashHello(h.transcript.clientHello)
	if !sameHello(h.answer.hello, helloHash) {
		return h.reject4b(CloseDowngrade, ErrDowngrade)
	}
	if !slices.Contains(preferredSuites(), h.answer.suite) {
		return h.reject4b(CloseBadMessage,
			fmt.Errorf("ServerHello: %w: ext: a suite that was not offered", ErrBadMessage))
	}
	if h.kemSecret, err = decapsulate(key, h.answer.enc, helloHash); err != nil {
		return h.reject4b(messageCode(err), fmt.Errorf("ServerHello: %w", err))
	}
	return nil
}

// verifyCertificate checks that the CA vouches for the server's key, and for the host of the URL.
// The addresses in a certificate are of no account when that is a name: they may be those of any
// machine, a client's for example, and whoever controls the DNS or the path leads there.
func (h *clientHandshake) verifyCertificate(cert *certs.Certificate) error {
	if err := cert.Verify(certs.VerifyOptions{CA: h.cfg.CA, Now: h.now()}); err != nil {
		return err
	}
	if err := cert.VerifyKey(h.who.Key); err != nil {
		return err
	}
	if err := cert.VerifyUse(certs.UseServer); err != nil {
		return err
	}
	err := cert.VerifyHost(h.cfg.ServerName)
	if addr, notAddr := netip.ParseAddr(h.cfg.ServerName); err != nil && notAddr == nil {
		err = cert.VerifyAddr(addr)
	}
	return err
}

// grant4a makes the ClientReady: a fresh nonce, the client's share key and, in version 2, its
// certificate or {}.
func (h *clientHandshake) grant4a(shared *sharedKey, showCert bool) ([]byte, error) {
	var err error
	if h.own, err = newSecrets(h.random); err != nil {
		return nil, &HandshakeError{Step: "4a", Code: CloseInternal, Err: err}
	}
	var tail []byte
	if h.cfg.Version == Version2 {
		tail = []byte("{}")
		if showCert {
			tail = h.cfg.Cert.JSON()
		}
	}
	if h.cfg.Extension != ExtensionOff {
		tail = appendMember(nil, tail, &confirmation{hashHello(h.transcript.clientHello)})
	}
	plaintext := append(h.own.append(nil), tail...)
	m := clientReady{version: h.cfg.Version, box: shared.seal(plaintext, h.server.nonce)}
	h.transcript.clientReady = m.marshal()
	return h.transcript.clientReady, nil
}

// reject4b ends the handshake: the caller closes the WebSocket with code.
func (h *clientHandshake) reject4b(code CloseCode, err error) error {
	return &HandshakeError{Step: "4b", Code: code, Err: err}
}

// rejectIdentity4b is reject4b for a server that is not, or cannot prove to be, the right one.
func (h *clientHandshake) rejectIdentity4b(code CloseCode, err error) error {
	return h.reject4b(code, &IdentityError{Key: h.who.Key, Err: err})
}

// step6SecureContext returns the keys of the secure context.
func (h *clientHandshake) step6SecureContext() (outcome, error) {
	if h.answer == nil {
		return specifiedOutcome(h.own, h.server, h.who), nil
	}
	k, err := deriveKeys(h.answer.suite, h.kemSecret, h.server.shareKey[:], h.own.shareKey[:],
		h.transcript.hash())
	clear(h.kemSecret)
	if err != nil {
		return outcome{}, err
	}
	return extendedOutcome(h.answer.suite, k.client, k.server, k.exporter, h.who)
}

// parseServerTail reads what version 2 adds to the ServerHello's box:
// {"cert":…,"requireCert":bool}. The reference accepts any truthy value but sends a boolean, and
// only a boolean is accepted here.
func parseServerTail(tail []byte) (cert *certs.Certificate, required bool, err error) {
	o, err := parseObject(tail, "cert", "requireCert")
	if err != nil {
		return nil, false, err
	}
	if cert, err = certs.ParseCertificate(o["cert"]); err != nil {
		return nil, false, fmt.Errorf("%w: cert: %w", ErrBadMessage, err)
	}
	if raw, ok := o["requireCert"]; ok {
		if err := json.Unmarshal(raw, &required); err != nil {
			return nil, false, fmt.Errorf("%w: requireCert is not a boolean", ErrBadMessage)
		}
	}
	return cert, required, nil
}

// messageCode returns the close code for a message that does not parse.
func messageCode(err error) CloseCode {
	switch {
	case errors.Is(err, ErrVersion):
		return CloseVersion
	case errors.Is(err, ErrTooLarge):
		return CloseTooLarge
	default:
		return CloseBadMessage
	}
}
