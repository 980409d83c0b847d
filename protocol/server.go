package protocol

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/gorilla/websocket"

	"culvert/certs"
)

// ServerConfig is a server's identity and whom it admits. Server does not change it.
type ServerConfig struct {
	// Key is the server's key pair.
	Key *certs.KeyPair
	// Cert enables version 2; without it only version 1 is spoken.
	Cert *certs.Certificate
	// CA must vouch for clients when RequireCert is set.
	CA *certs.Certificate
	// RequireCert requires a certificate of every client. It needs Cert and CA, and turns off
	// version 1, in which a client can't present one.
	RequireCert bool
	// Revoked lists client certificates to refuse; nil is none.
	Revoked *certs.Revocations
	// Admit decides in step 5, after everything else has been verified, whether to admit the
	// client. Its error is not sent: the client gets CloseNotAdmitted. A nil Admit admits nobody.
	Admit func(Peer) error
	// Extension is whether to answer the extension; see ClientConfig. The zero value answers it and
	// accepts a client without it.
	Extension ExtensionPolicy
	// Replay is shared by all connections of a server, and required.
	Replay *ReplayCache
	// PeerAddr is the client's address, if known. A client certificate that lists addresses must
	// list it.
	PeerAddr netip.Addr
	// Timeout bounds the whole handshake; 0 is DefaultHandshakeTimeout.
	Timeout time.Duration
	// MaxMessage is the largest payload of a record in bytes, both ways; 0 is DefaultMaxMessage.
	MaxMessage int

	rand io.Reader        // source of nonces and share keys; nil is crypto/rand
	now  func() time.Time // for certificates; nil is time.Now
}

// Server performs the server's side of the handshake and returns the secure context, in which the
// client has to write first. It takes over ws, and closes it on error. Apart from errors in cfg, an
// error is a *HandshakeError, and wraps ErrReplay, ErrNotAdmitted, a *certs.VerifyError, ErrTimeout
// or ctx's error, a *RefusedError if the client refused, and so on.
func Server(ctx context.Context, ws *websocket.Conn, cfg ServerConfig) (*Conn, error) {
	w := newWire(ws, false)
	h, err := newServerHandshake(cfg)
	if err != nil {
		return nil, w.end(err)
	}
	o, err := shake(ctx, w, h.timeout, h)
	if err != nil {
		return nil, err
	}
	return newConn(w, o, h.maxMessage, false), nil
}

// serverHandshake is the server's side of the specification, with one method per step. Steps take
// and return bytes; run connects them.
type serverHandshake struct {
	common
	cfg ServerConfig

	shared     *sharedKey // of step 3
	own        secrets    // of step 3
	offered    bool       // the ClientHello, as it arrived, offers the extension
	suite      string     // of step 3, "" when the extension is not used
	kemSecret  []byte     // of step 3, with a suite
	transcript transcript
	client     secrets // of step 5
	who        Peer
}

func newServerHandshake(cfg ServerConfig) (*serverHandshake, error) {
	common, err := withDefaults(cfg.Timeout, cfg.MaxMessage, cfg.rand, cfg.now)
	if err != nil {
		return nil, err
	}
	switch {
	case cfg.Key == nil:
		return nil, errors.New("protocol: configuration: no Key")
	case cfg.Replay == nil:
		return nil, errors.New("protocol: configuration: no Replay")
	case cfg.RequireCert && (cfg.Cert == nil || cfg.CA == nil):
		return nil, errors.New("protocol: configuration: RequireCert needs Cert and CA")
	case cfg.Cert != nil:
		err = checkOwnCertificate(cfg.Cert, cfg.Key, certs.UseServer)
	}
	if err != nil {
		return nil, err
	}
	return &serverHandshake{common: common, cfg: cfg}, nil
}

func (h *serverHandshake) run(w *wire) (outcome, error) {
	hello, err := receive(w, "3", maxClientHello)
	if err != nil {
		return outcome{}, err
	}
	answer, err := h.step3ServerHello(hello)
	if err != nil {
		return outcome{}, err
	}
	if err := transmit(w, "3", answer); err != nil {
		return outcome{}, err
	}
	ready, err := receive(w, "5", maxSealedMessage(h.who.Version))
	if err != nil {
		return outcome{}, err
	}
	return h.step5VerifyClientReady(ready)
}

// step3ServerHello answers a ClientHello. The specification has no branch here; what cannot be
// answered is refused as in step 5b.
func (h *serverHandshake) step3ServerHello(message []byte) (answer []byte, err error) {
	m, err := parseClientHello(message)
	if err != nil {
		return nil, h.reject3(messageCode(err), err)
	}
	switch {
	case m.version == Version2 && h.cfg.Cert == nil:
		return nil, h.reject3(CloseVersion, fmt.Errorf("%w: 2, and there is no certificate to show",
			ErrVersion))
	case m.version == Version1 && h.cfg.RequireCert:
		return nil, h.reject3(CloseVersion, fmt.Errorf("%w: 1, and %w", ErrVersion,
			ErrCertificateRequired))
	}
	h.who = Peer{Version: m.version, Key: m.publicKey, Addr: h.cfg.PeerAddr}
	if h.shared, err = newSharedKey(h.cfg.Key, m.publicKey); err != nil {
		return nil, h.reject3(CloseNotAdmitted, err)
	}
	// The client chose the nonce under which the answer is sealed, so each is used once.
	if !h.cfg.Replay.add(m.publicKey, m.nonce) {
		return nil, h.reject3(CloseReplayed, ErrReplay)
	}
	if h.own, err = newSecrets(h.random); err != nil {
		return nil, h.reject3(CloseInternal, err)
	}
	h.transcript.clientHello = message
	var tail []byte
	if m.version == Version2 {
		tail = append(append(tail, `{"cert":`...), h.cfg.Cert.JSON()...)
		tail = strconv.AppendBool(append(tail, `,"requireCert":`...), h.cfg.RequireCert)
		tail = append(tail, '}')
	}
	answer3, err := h.answerOffer(m.offer)
	if err != nil {
		return nil, err
	}
	if answer3 != nil {
		tail = appendMember(nil, tail, answer3)
	}
	plaintext := append(h.own.append(nil), tail...)
	reply := serverHello{version: m.version, publicKey: h.cfg.Key.Public(),
		box: h.shared.seal(plaintext, m.nonce)}
	h.transcript.serverHello = reply.marshal()
	return h.transcript.serverHello, nil
}

// answerOffer makes the server's part of the extension, nil when it is turned off, not offered, or
// has no suite in common.
func (h *serverHandshake) answerOffer(o *offer) (*answer, error) {
	h.offered = o != nil
	suite := ""
	if o != nil && h.cfg.Extension != ExtensionOff {
		suite = o.choose()
	}
	if suite == "" {
		return nil, nil
	}
	helloHash := hashHello(h.transcript.clientHello)
	enc, secret, err := o.encapsulate(helloHash)
	if err != nil {
		return nil, h.reject3(messageCode(err), fmt.Errorf("ClientHello: %w", err))
	}
	h.suite, h.kemSecret = suite, secret
	return &answer{suite: suite, enc: enc, hello: helloHash}, nil
}

// reject3 ends the handshake before there was anything to verify: the caller closes the WebSocket
// with code.
func (h *serverHandshake) reject3(code CloseCode, err error) error {
	return &HandshakeError{Step: "3", Code: code, Err: err}
}

// step5VerifyClientReady verifies the client's last message and decides: grant5a or reject5b.
func (h *serverHandshake) step5VerifyClientReady(message []byte) (outcome, error) {
	m, err := parseClientReady(message, h.who.Version)
	if err != nil {
		return outcome{}, h.reject5b(messageCode(err), err)
	}
	opened, err := h.shared.open(m.box, h.own.nonce)
	if err != nil {
		return outcome{}, h.reject5b(CloseNotOpened, err)
	}
	client, tail, ok := parseSecrets(opened)
	if !ok {
		err := fmt.Errorf("ClientReady: %w: box of %d bytes", ErrBadMessage, len(opened))
		return outcome{}, h.reject5b(CloseBadMessage, err)
	}
	h.client = client
	h.transcript.clientReady = message
	if err := h.verifyConfirmation(tail); err != nil {
		return outcome{}, err
	}
	if h.cfg.RequireCert {
		if h.who.Cert, err = h.verifyCertificate(tail); err != nil {
			return outcome{}, h.refuse5b(CloseCertificate, err)
		}
	}
	if h.cfg.Admit == nil {
		return outcome{}, h.refuse5b(CloseNotAdmitted, ErrNotAdmitted)
	}
	if err := h.cfg.Admit(h.who); err != nil {
		return outcome{}, h.refuse5b(CloseNotAdmitted, fmt.Errorf("%w: %w", ErrNotAdmitted, err))
	}
	return h.grant5a()
}

// verifyConfirmation compares the offer that the client confirms, sealed, with the one that
// arrived. It runs before any other check of the client, so that a downgrade is reported as one.
func (h *serverHandshake) verifyConfirmation(tail []byte) error {
	confirmed, err := parseConfirmation(extensionMember(tail))
	if err != nil {
		return h.reject5b(messageCode(err), fmt.Errorf("ClientReady: %w", err))
	}
	if (confirmed != nil) != h.offered ||
		(confirmed != nil && !sameHello(confirmed.hello, hashHello(h.transcript.clientHello))) {
		return h.reject5b(CloseDowngrade, ErrDowngrade)
	}
	if h.suite == "" && h.cfg.Extension == ExtensionRequired {
		return h.reject5b(CloseNoSecrecy, ErrNoForwardSecrecy)
	}
	return nil
}

// verifyCertificate checks that the CA vouches for the client's key and, when the certificate lists
// addresses, for the client's address.
func (h *serverHandshake) verifyCertificate(tail []byte) (*certs.Certificate, error) {
	if o, err := parseObject(tail, "desc", "sign"); err == nil && len(o) == 0 {
		return nil, ErrCertificateRequired
	}
	cert, err := certs.ParseCertificate(certificateOf(tail))
	if err != nil {
		return nil, err
	}
	if err := cert.Verify(certs.VerifyOptions{CA: h.cfg.CA, Now: h.now(),
		Revoked: h.cfg.Revoked}); err != nil {
		return nil, err
	}
	if err := cert.VerifyKey(h.who.Key); err != nil {
		return nil, err
	}
	if err := cert.VerifyUse(certs.UseClient); err != nil {
		return nil, err
	}
	if len(cert.IPs()) > 0 {
		if err := cert.VerifyAddr(h.cfg.PeerAddr); err != nil {
			return nil, err
		}
	}
	return cert, nil
}

// certificateOf returns the certificate in a tail, without the extension's member: that doesn't
// count for how large a certificate may be.
func certificateOf(tail []byte) []byte {
	o, err := parseObject(tail, "desc", "sign")
	if err != nil || o["desc"] == nil || o["sign"] == nil {
		return tail // whose error is told
	}
	return slices.Concat([]byte(`{"desc":`), o["desc"], []byte(`,"sign":`), o["sign"], []byte("}"))
}

// grant5a returns the keys of the secure context, which is step 6.
func (h *serverHandshake) grant5a() (outcome, error) {
	if h.suite == "" {
		return specifiedOutcome(h.own, h.client, h.who), nil
	}
	k, err := h.deriveKeys()
	if err != nil {
		return outcome{}, h.reject5b(CloseInternal, err)
	}
	o, err := extendedOutcome(h.suite, k.server, k.client, k.exporter, h.who)
	if err != nil {
		return outcome{}, h.reject5b(CloseInternal, err)
	}
	return o, nil
}

// reject5b ends the handshake: the caller closes the WebSocket with code.
func (h *serverHandshake) reject5b(code CloseCode, err error) error {
	return &HandshakeError{Step: "5b", Code: code, Err: err}
}

// deriveKeys derives the extension's keys, once, after the client has confirmed its offer.
func (h *serverHandshake) deriveKeys() (trafficKeys, error) {
	defer clear(h.kemSecret)
	return deriveKeys(h.suite, h.kemSecret, h.own.shareKey[:], h.client.shareKey[:],
		h.transcript.hash())
}

// refuse5b is reject5b after the client has confirmed its offer. With the extension it adds a
// proof.
func (h *serverHandshake) refuse5b(code CloseCode, err error) error {
	refusal := &HandshakeError{Step: "5b", Code: code, Err: err}
	if h.suite == "" {
		return refusal
	}
	if k, err := h.deriveKeys(); err == nil {
		refusal.proof, _ = refusalProof(k.exporter, code)
	}
	return refusal
}
