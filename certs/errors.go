package certs

import (
	"errors"
	"fmt"
	"strconv"

	"culvert/internal/secretfile"
)

var (
	// ErrPublicKey is wrapped by ParsePublicKey's errors: the text is no public key.
	ErrPublicKey = errors.New("not a public key")

	// ErrMalformedKey is wrapped when a key file's content is not what the reference writes, or its
	// halves do not belong together. Nothing of the content is in the error.
	ErrMalformedKey = errors.New("malformed key file")

	// ErrKeyFileMode is wrapped when others than the owner may read or write a key file. Run
	// chmod 600 on it.
	ErrKeyFileMode = secretfile.ErrMode

	// ErrWritable is wrapped when others than its owner may write to a file that decides whom to
	// trust, and ErrOwner when the file belongs to neither the user nor root.
	ErrWritable = secretfile.ErrWritable
	ErrOwner    = secretfile.ErrOwner

	// ErrMalformedCertificate is wrapped when bytes are not a certificate at all, as opposed to one
	// that does not verify.
	ErrMalformedCertificate = errors.New("malformed certificate")

	// ErrTooLarge is wrapped when a file or a document is larger than its limit.
	ErrTooLarge = errors.New("too large")

	// ErrUnknownRemote is returned by KnownRemotes.Check for an address without a remembered key.
	ErrUnknownRemote = errors.New("unknown remote")

	// ErrLocked is wrapped when another process kept the known-remotes file locked for too long.
	ErrLocked = errors.New("locked by another process")
)

// syntaxError is the position at which a document stops being JSON. It quotes nothing, since the
// document may be secret.
type syntaxError struct {
	Offset  int    // in bytes, from 0
	Problem string // one of a fixed set of phrases
}

func (e *syntaxError) Error() string {
	return "not JSON: " + e.Problem + " at byte " + strconv.Itoa(e.Offset)
}

// LineError is an error in a line of a file of keys or revocations. It does not quote the line.
type LineError struct {
	Path string // empty when the lines came from a reader
	Line int    // from 1
	Err  error
}

func (e *LineError) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("line %d: %v", e.Line, e.Err)
	}
	return fmt.Sprintf("%s:%d: %v", e.Path, e.Line, e.Err)
}

func (e *LineError) Unwrap() error { return e.Err }

// RequestError is the reason why a CA does not issue a certificate.
type RequestError struct {
	Field   string // of Request, or "Name" for a CA's
	Problem string
}

func (e *RequestError) Error() string { return e.Field + " " + e.Problem }

// ChangedKeyError is returned by KnownRemotes.Check when a remote shows another key than the
// remembered one. Either the remote has a new key, or this is a man-in-the-middle attack; only a
// person can decide.
type ChangedKeyError struct {
	Addr  string
	Known PublicKey // remembered
	Got   PublicKey // shown
	Path  string    // of the known-remotes file
	Line  int       // of the remembered key
}

func (e *ChangedKeyError) Error() string {
	return fmt.Sprintf("the key of %q has changed: %s is remembered in %s:%d, the remote shows %s",
		e.Addr, e.Known, e.Path, e.Line, e.Got)
}

// Reason is the reason why a certificate is refused.
type Reason int

// The reasons for refusing a certificate.
const (
	ReasonExpired      Reason = iota + 1 // tte is not in the future
	ReasonWrongVersion                   // version is not 1.0
	ReasonWrongType                      // the type is unknown, or not the wanted one
	ReasonWrongCA                        // no CA to check against, or the CA has another name
	ReasonInvalidCA                      // the CA's own certificate does not verify
	ReasonOutlivesCA                     // tte is after the CA's
	ReasonBadSignature                   // altered, or signed by another key
	ReasonRevoked                        // gid is in the list of revocations
	ReasonNoGID                          // revocations are in force, and gid is not a UUID
	ReasonWrongHost                      // names do not cover the host
	ReasonWrongAddress                   // ips do not list the address
	ReasonWrongKey                       // it vouches for another key
	ReasonWrongUse                       // it is for the other end of a connection
)

func (r Reason) String() string {
	switch r {
	case ReasonExpired:
		return "expired"
	case ReasonWrongVersion:
		return "unknown version"
	case ReasonWrongType:
		return "wrong type"
	case ReasonWrongCA:
		return "not from this CA"
	case ReasonInvalidCA:
		return "the CA's certificate is not valid"
	case ReasonOutlivesCA:
		return "valid for longer than its CA"
	case ReasonBadSignature:
		return "the signature does not verify"
	case ReasonRevoked:
		return "revoked"
	case ReasonNoGID:
		return "without an identifier that could be revoked"
	case ReasonWrongHost:
		return "for other host names"
	case ReasonWrongAddress:
		return "for other addresses"
	case ReasonWrongKey:
		return "for another key"
	case ReasonWrongUse:
		return "for the other end of a connection"
	}
	return "reason " + strconv.Itoa(int(r))
}

// VerifyError is a certificate's refusal.
type VerifyError struct {
	Reason Reason
	Err    error // the cause, or nil
}

func (e *VerifyError) Error() string {
	s := "certificate refused: " + e.Reason.String()
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *VerifyError) Unwrap() error { return e.Err }

func refuse(r Reason) error { return &VerifyError{Reason: r} }
