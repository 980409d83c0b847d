package tunnel

import (
	"crypto/tls"
	"errors"
	"fmt"

	"culvert/protocol"
)

// ConnectError is the failure of a step on the way to a session.
type ConnectError struct {
	Step Step
	Err  error
}

func (e *ConnectError) Error() string { return fmt.Sprintf("%s: %v", e.Step, e.Err) }

// Unwrap returns the cause.
func (e *ConnectError) Unwrap() error { return e.Err }

// StatusError is the error when the server answers the WebSocket upgrade with another HTTP status.
type StatusError struct {
	Code   int
	Status string // as http.Response.Status
}

func (e *StatusError) Error() string { return fmt.Sprintf("the server answered %q", e.Status) }

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
	if errors.Is(err, protocol.ErrCertificateRequired) {
		return true
	}
	var refused *protocol.RefusedError
	if !errors.As(err, &refused) {
		return false
	}
	switch refused.Code {
	case protocol.CloseNotAdmitted,
		protocol.CloseCertificate,
		protocol.CloseVersion,
		protocol.CloseNoSecrecy:
		return true
	}
	return false
}

// isFinal reports whether another attempt can't help.
func isFinal(err error) bool { return IsIdentityError(err) || IsAdmissionError(err) }
