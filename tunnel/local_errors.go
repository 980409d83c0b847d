package tunnel

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"time"

	"culvert/protocol"
	"culvert/tunnel/mux"
)

// ConnectError is the failure of a step on the way to a session.
type ConnectError struct {
	Step   Step
	Err    error
	Remote Address // the zero value if it isn't known

	handshake time.Duration // how long that took, or has taken; 0 before it
}

func (e *ConnectError) Error() string { return fmt.Sprintf("%s: %v", e.Step, e.Err) }

// Unwrap returns the cause.
func (e *ConnectError) Unwrap() error { return e.Err }

// httpRefusal is an HTTP response that refuses what was asked for. All of it is as untrusted as
// whoever answered.
type httpRefusal struct {
	Code       int
	Status     string        // as http.Response.Status
	Location   string        // of a redirect, or ""
	RetryAfter time.Duration // how long the server asks to wait; 0 if it doesn't
}

// maxQuoted bounds a text from outside in an error, in bytes.
const maxQuoted = 200

func (r *httpRefusal) describe(who string) string {
	text := fmt.Sprintf("the %s answered %.*q", who, maxQuoted, r.Status)
	if r.Location != "" {
		text += fmt.Sprintf(", which points to %.*q", maxQuoted, r.Location)
	}
	return text
}

// StatusError is the error when the server answers the WebSocket upgrade with another HTTP status.
type StatusError struct {
	httpRefusal

	// NoUpgrade reports that the request or the response has lost its Upgrade header on the way,
	// as it does in a proxy that does not know WebSockets.
	NoUpgrade bool

	Page bool // the response has a page for people
}

func (e *StatusError) Error() string {
	if e.NoUpgrade {
		return fmt.Sprintf("a proxy on the way removes the Upgrade header: %s", e.describe("server"))
	}
	return e.describe("server")
}

// TimeoutError is the error when an attempt to connect takes longer than it may.
type TimeoutError struct{ After time.Duration }

func (e *TimeoutError) Error() string { return fmt.Sprintf("timed out after %v", e.After) }

// Unwrap returns os.ErrDeadlineExceeded.
func (e *TimeoutError) Unwrap() error { return os.ErrDeadlineExceeded }

// ErrNeedsTLS is the error when a server is asked by ws:// and speaks TLS.
var ErrNeedsTLS = errors.New("the server speaks TLS")

// ErrNotHTTP is the error when a server answers the request for an upgrade with something else than
// a response.
var ErrNotHTTP = errors.New("the server's answer is not HTTP")

// ErrNoSession is the error for a new connection while there is no session with the remote.
var ErrNoSession = errors.New("no session with the remote")

// IsIdentityError reports whether the remote is not the right one by its key, its certificate or
// that of its TLS, whether the handshake was altered in transit, or whether the remote lacks a
// forward secrecy that was required.
func IsIdentityError(err error) bool {
	var identity *protocol.IdentityError
	var verification *tls.CertificateVerificationError
	return errors.As(err, &identity) || errors.As(err, &verification) || IsDowngradeError(err) ||
		errors.Is(err, protocol.ErrNoForwardSecrecy)
}

// IsDowngradeError reports whether either end found that the offer of the handshake was altered.
func IsDowngradeError(err error) bool {
	var refused *protocol.RefusedError
	return errors.Is(err, protocol.ErrDowngrade) ||
		(errors.As(err, &refused) && refused.Code == protocol.CloseDowngrade)
}

// IsAdmissionError reports whether the remote does not admit this client.
func IsAdmissionError(err error) bool {
	if errors.Is(err, protocol.ErrCertificateRequired) || isRefusedSession(err) {
		return true
	}
	refused, ok := errors.AsType[*protocol.RefusedError](err)
	return ok && refusesClient(refused.Code)
}

// refusesClient reports whether a remote that ends a handshake with a code does not admit the
// client.
func refusesClient(code protocol.CloseCode) bool {
	switch code {
	case protocol.CloseNotAdmitted,
		protocol.CloseCertificate,
		protocol.CloseVersion,
		protocol.CloseNoSecrecy:
		return true
	}
	return false
}

// isRefusedSession reports whether the remote, in a connection that the handshake has secured, no
// longer admits this client.
func isRefusedSession(err error) bool {
	refused, ok := errors.AsType[*mux.RefusedError](err)
	return ok && refused.Code == mux.CodeNotAllowed
}

// isRoomError reports whether the remote, in a connection that the handshake has secured, has no
// room for another session of this client at present.
func isRoomError(err error) bool {
	_, ok := errors.AsType[*mux.RefusedError](err)
	return ok && !isRefusedSession(err)
}

// isFinal reports whether another attempt can't help, as long as there was no session: the URL, a
// key or a certificate is likely to be wrong.
func isFinal(err error) bool { return IsIdentityError(err) || IsAdmissionError(err) }

// isRemotesWord reports whether an error is proved to be a refusal by the remote itself. After a
// session with it, any other failure may be that of a network which leads elsewhere.
func isRemotesWord(err error) bool {
	refused, ok := errors.AsType[*protocol.RefusedError](err)
	return ok && refused.Authenticated && IsAdmissionError(err) || isRefusedSession(err) ||
		errors.Is(err, protocol.ErrCertificateRequired)
}

// askedPause returns how long an HTTP server asked to wait before the next attempt, bounded.
func askedPause(err error) time.Duration {
	var asked time.Duration
	if refused, ok := errors.AsType[*StatusError](err); ok {
		asked = refused.RetryAfter
	} else if refused, ok := errors.AsType[*ProxyError](err); ok {
		asked = refused.RetryAfter
	}
	return min(asked, maxRetryAfter)
}
