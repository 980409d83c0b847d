package protocol

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"culvert/certs"

	"github.com/gorilla/websocket"
)

// CloseCode is a WebSocket close code of the private range (RFC 6455, section 7.4.2) that gives the
// peer the reason for the end of a connection. The codes 4400 to 4449 belong to this package, 4450
// to 4499 to the layers above.
type CloseCode int

// The reasons of this package.
const (
	CloseBadMessage  CloseCode = 4400 // a message that the specification does not have here
	CloseIdentity    CloseCode = 4401 // step 4b: the server is not the one that the client wants
	CloseVersion     CloseCode = 4402 // a version that this end, or its configuration, refuses
	CloseNotAdmitted CloseCode = 4403 // step 5b: the client's key is not admitted
	CloseCertificate CloseCode = 4404 // a certificate is missing or does not verify
	CloseNotOpened   CloseCode = 4405 // a box or a record does not open
	CloseDowngrade   CloseCode = 4406 // the extension's offer was altered or removed in transit
	CloseNoSecrecy   CloseCode = 4407 // forward secrecy is required, and the peer lacks it
	CloseTimeout     CloseCode = 4408 // the handshake took too long
	CloseReplayed    CloseCode = 4409 // the server has seen this ClientHello before
	CloseInternal    CloseCode = 4410 // the sender of this code is at fault, not its peer
	CloseTooLarge    CloseCode = 4413 // a message exceeds its limit

	firstCloseCode CloseCode = 4400
	lastCloseCode  CloseCode = 4499
)

// String returns the short text that is sent with the code. The texts are fixed, so that an error's
// details never reach a peer.
func (c CloseCode) String() string {
	switch c {
	case CloseBadMessage:
		return "bad message"
	case CloseIdentity:
		return "wrong server"
	case CloseVersion:
		return "version not supported"
	case CloseNotAdmitted:
		return "not admitted"
	case CloseCertificate:
		return "certificate refused"
	case CloseNotOpened:
		return "does not open"
	case CloseDowngrade:
		return "extension altered in transit"
	case CloseNoSecrecy:
		return "forward secrecy required"
	case CloseTimeout:
		return "handshake timed out"
	case CloseReplayed:
		return "hello seen before"
	case CloseInternal:
		return "internal error"
	case CloseTooLarge:
		return "message too large"
	default:
		return fmt.Sprintf("code %d", int(c))
	}
}

// ours reports whether a received close code is one that CloseCode covers.
func (c CloseCode) ours() bool { return c >= firstCloseCode && c <= lastCloseCode }

var (
	// ErrTimeout is wrapped when a handshake, a read or a write passed its deadline. It wraps
	// os.ErrDeadlineExceeded.
	ErrTimeout = fmt.Errorf("timed out: %w", os.ErrDeadlineExceeded)

	// ErrClosed is returned by a connection's methods after it was closed on this side. It wraps
	// net.ErrClosed.
	ErrClosed = fmt.Errorf("protocol: connection closed: %w", net.ErrClosed)

	// ErrBadMessage is wrapped when a message is not what the specification has at this point.
	ErrBadMessage = errors.New("bad message")

	// ErrVersion is wrapped when the peer speaks another version than this end is configured for.
	ErrVersion = errors.New("version not supported")

	// ErrNotOpened is wrapped when a box or a record does not open: it was altered, is out of
	// order, or was made with other keys.
	ErrNotOpened = errors.New("does not open")

	// ErrTooLarge is wrapped when a message exceeds its limit.
	ErrTooLarge = errors.New("message too large")

	// ErrReplay is wrapped when a server has seen the (client key, nonce) pair of a ClientHello
	// before.
	ErrReplay = errors.New("hello seen before")

	// ErrNotAdmitted is wrapped when Admit refused a client, or is nil.
	ErrNotAdmitted = errors.New("client not admitted")

	// ErrCertificateRequired is wrapped by a client that is asked for a certificate and has none,
	// and by a server whose client presents none.
	ErrCertificateRequired = errors.New("client certificate required")

	// ErrWeakKey is wrapped when a peer's public key is of low order, so that anyone could open
	// what is sealed for it, or another spelling of a key.
	ErrWeakKey = errors.New("public key of low order, or not in its canonical form")

	// ErrServerSpeaksSecond is returned by a server's WriteRecords before a record of the client
	// has been read. The connection remains usable.
	ErrServerSpeaksSecond = errors.New(
		"protocol: the server may not write before it has read a record")

	// ErrCounterExhausted is wrapped when a direction has used all of its 2^64 nonces.
	ErrCounterExhausted = errors.New("record counter exhausted")
)

// RefusedError is returned when the peer ended the connection with one of the CloseCodes. A client
// can get it after its own handshake is done: a server refuses in step 5b, and sends no message
// when it grants.
type RefusedError struct {
	Code   CloseCode
	Reason string // the peer's text; as untrusted as everything that arrives

	// Authenticated reports whether the refusal is proved to be the server's, and not that of a
	// man-in-the-middle. Only refusals in step 5b by a server with the extension have a proof.
	Authenticated bool
}

func (e *RefusedError) Error() string {
	if e.Reason == "" || e.Reason == e.Code.String() {
		return fmt.Sprintf("protocol: refused by the peer: %s (%d)", e.Code, int(e.Code))
	}
	return fmt.Sprintf("protocol: refused by the peer: %s (%d): %q", e.Code, int(e.Code), e.Reason)
}

// PeerClosedError is returned when the peer closed the WebSocket with a code that is not one of the
// CloseCodes. It unwraps to io.EOF for a planned close (1000, 1001 or no code).
type PeerClosedError struct {
	Code   int    // RFC 6455, section 7.4
	Reason string // the peer's text; as untrusted as everything that arrives
}

func (e *PeerClosedError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("protocol: closed by the peer (%d)", e.Code)
	}
	return fmt.Sprintf("protocol: closed by the peer (%d): %q", e.Code, e.Reason)
}

// Refuses reports whether the code means that the peer does not want the connection, rather than
// that it stops or fails. Anybody on the way can have sent it.
func (e *PeerClosedError) Refuses() bool {
	switch e.Code {
	case websocket.CloseNormalClosure, websocket.CloseNoStatusReceived,
		websocket.ClosePolicyViolation:
		return true
	}
	return false
}

// Unwrap returns io.EOF for a planned close, otherwise nil.
func (e *PeerClosedError) Unwrap() error {
	switch e.Code {
	case websocket.CloseNormalClosure, websocket.CloseGoingAway, websocket.CloseNoStatusReceived:
		return io.EOF
	}
	return nil
}

// IdentityError is returned when the server is not the one that the client wants: it could not
// prove its key, its certificate does not verify, or VerifyServer refused it. It ends a handshake
// in step 4b.
type IdentityError struct {
	Key certs.PublicKey // claimed by the server
	Err error
}

func (e *IdentityError) Error() string { return "the server's identity: " + e.Err.Error() }

// Unwrap returns the reason.
func (e *IdentityError) Unwrap() error { return e.Err }

// OwnFault is what ClientConfig.VerifyServer returns when it can't decide for reasons of this side,
// such as a file that can't be written: the server is told so, and isn't called a wrong one.
type OwnFault struct{ Err error }

func (e *OwnFault) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *OwnFault) Unwrap() error { return e.Err }

// HandshakeError is the reason why a handshake ended, and the step of the specification.
type HandshakeError struct {
	Step string    // "2" to "5", with "a" or "b" where the specification has branches
	Code CloseCode // sent to the peer; 0 if it could not be sent, or the peer closed first
	Err  error

	proof string // proves to the client that the server refused; may be empty
}

// reason returns the text of the close frame.
func (e *HandshakeError) reason() string {
	if e.proof == "" {
		return e.Code.String()
	}
	return e.Code.String() + " " + e.proof
}

func (e *HandshakeError) Error() string {
	return "protocol: handshake step " + e.Step + ": " + e.Err.Error()
}

// Unwrap returns the reason.
func (e *HandshakeError) Unwrap() error { return e.Err }
