package tunnel

import (
	"crypto/tls"
	"errors"
	"fmt"

	"culvert/protocol"
)

// ConnectError says at which step a session to the remote could not be had.
type ConnectError struct {
	Step Step
	Err  error
}

func (e *ConnectError) Error() string { return fmt.Sprintf("%s: %v", e.Step, e.Err) }

// Unwrap returns the cause.
func (e *ConnectError) Unwrap() error { return e.Err }

// StatusError says that the server answered the WebSocket upgrade with another HTTP status.
type StatusError struct {
	Code   int
	Status string // as http.Response.Status
}

func (e *StatusError) Error() string { return fmt.Sprintf("the server answered %q", e.Status) }

// ErrNoSession is returned for a new connection while the remote can't be reached.
var ErrNoSession = errors.New("no session with the remote")

// IsIdentityError says that the remote isn't who it should be: its key or certificate, or that of its TLS; or that
// somebody in between has altered the handshake, or that it lacks a forward secrecy that was required.
func IsIdentityError(err error) bool {
	var identity *protocol.IdentityError
	var verification *tls.CertificateVerificationError
	return errors.As(err, &identity) || errors.As(err, &verification) || IsDowngradeError(err) ||
		errors.Is(err, protocol.ErrNoForwardSecrecy)
}

// IsDowngradeError says that either end has found the handshake's offer altered.
func IsDowngradeError(err error) bool {
	var refused *protocol.RefusedError
	return errors.Is(err, protocol.ErrDowngrade) ||
		(errors.As(err, &refused) && refused.Code == protocol.CloseDowngrade)
}

// IsAdmissionError says that the remote does not admit this client.
func IsAdmissionError(err error) bool {
	if errors.Is(err, protocol.ErrCertificateRequired) {
		return true
	}
	var refused *protocol.RefusedError
	if !errors.As(err, &refused) {
		return false
	}
	switch refused.Code {
	case protocol.CloseNotAdmitted, protocol.CloseCertificate, protocol.CloseVersion, protocol.CloseNoSecrecy:
		return true
	}
	return false
}

// isFinal says that trying again can't help.
func isFinal(err error) bool { return IsIdentityError(err) || IsAdmissionError(err) }
