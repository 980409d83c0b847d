package mux

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
)

// Code is why a stream was refused or reset, or why a session ended. It is part of the format:
// values are never reused.
type Code uint16

// The codes. Those up to CodeDialFailed, and CodeLookupFailed, are about connecting to a target,
// the two after CodeDialFailed about listening.
const (
	CodeRefused        Code = 1  // the target refused the connection
	CodeHostUnreach    Code = 2  // no route to the target's host
	CodeNetUnreach     Code = 3  // no route to the target's network
	CodeTimeout        Code = 4  // the target did not answer in time
	CodeNameNotFound   Code = 5  // the target's name does not exist
	CodeNotAllowed     Code = 6  // the remote's rules forbid the target
	CodeBadTarget      Code = 7  // the target is malformed or of an unknown kind
	CodeDialFailed     Code = 8  // reaching the target failed for another reason
	CodeAddressInUse   Code = 9  // the address to listen on is taken
	CodeCannotListen   Code = 10 // the address to listen on can't be bound for another reason
	CodeLookupFailed   Code = 11 // no name server has told whether the target's name exists
	CodeTooManyStreams Code = 16 // the receiver's limit of streams is reached
	CodeDraining       Code = 17 // the receiver takes no new streams
	CodeCancelled      Code = 18 // the opener gave up waiting
	CodeClosed         Code = 19 // the sender has closed the stream and reads no more
	CodeAborted        Code = 20 // the connection behind the stream was cut short
	CodeOverload       Code = 21 // the stream held more memory than the session may
	CodeStalled        Code = 22 // the receiver took too long over what preceded the cut
	CodeQuota          Code = 23 // the client has used its quota
	CodeExhausted      Code = 24 // the sender has no descriptors or memory left for it
	CodeServiceOff     Code = 25 // the remote has switched the service off
	CodeServiceBusy    Code = 26 // the service has too many users at present
	CodeDone           Code = 32 // the session is over, nothing is wrong
	CodeProtocol       Code = 33 // the peer broke the rules of the format
	CodeInternal       Code = 34 // the sender failed inside
	CodeShare          Code = 35 // the client uses all that it may
	CodeFull           Code = 36 // the remote has no room for another session
	CodeMemory         Code = 37 // the client held most of the sender's memory, which ran out
)

var codeTexts = map[Code]string{
	CodeRefused:        "connection refused",
	CodeHostUnreach:    "host unreachable",
	CodeNetUnreach:     "network unreachable",
	CodeTimeout:        "timed out",
	CodeNameNotFound:   "name not found",
	CodeNotAllowed:     "not allowed by the remote's rules",
	CodeBadTarget:      "malformed target",
	CodeDialFailed:     "target can't be reached",
	CodeAddressInUse:   "address in use",
	CodeCannotListen:   "address can't be bound",
	CodeLookupFailed:   "name can't be looked up",
	CodeTooManyStreams: "too many streams",
	CodeDraining:       "the peer is draining",
	CodeCancelled:      "cancelled",
	CodeClosed:         "closed by the peer",
	CodeAborted:        "connection cut short",
	CodeOverload:       "buffer limit reached",
	CodeStalled:        "the receiver takes nothing",
	CodeQuota:          "the client's quota of today is used up",
	CodeExhausted:      "the peer is out of descriptors or memory",
	CodeServiceOff:     "switched off at the remote",
	CodeServiceBusy:    "too many others use it",
	CodeDone:           "done",
	CodeProtocol:       "protocol error",
	CodeInternal:       "internal error",
	CodeShare:          "the client's share is used up",
	CodeFull:           "the remote has no room for another session",
	CodeMemory:         "the client holds too much memory",
}

// String describes the code in a few words.
func (c Code) String() string {
	if text, ok := codeTexts[c]; ok {
		return text
	}
	return fmt.Sprintf("code %d", uint16(c))
}

var (
	// ErrSessionClosed is the error of a session that this side closed. It wraps net.ErrClosed.
	ErrSessionClosed = fmt.Errorf("session closed: %w", net.ErrClosed)

	// ErrMemory is the error of a session that this side ended since the client held most of the
	// memory and it ran out.
	ErrMemory = errors.New("the client holds too much memory")

	// ErrPeerSilent is the error of a session whose peer gave no sign of life.
	ErrPeerSilent = errors.New("the peer has gone silent")

	// ErrNotCulvert means that the peer answered the first hello with something else, or not at
	// all.
	ErrNotCulvert = errors.New("the peer does not speak culvert's session protocol")
)

// errReplaced is what the goroutines of a link get once another has replaced it.
var errReplaced = errors.New("the carrier was replaced")

// ErrSessionUnknown is the error of a session that its server no longer has, or that belongs to
// another client.
var ErrSessionUnknown = errors.New("the remote no longer has the session")

// AbandonedError is the error of a session that was without a carrier for too long.
type AbandonedError struct {
	Window time.Duration
	Err    error // of its last carrier
}

func (e *AbandonedError) Error() string {
	return fmt.Sprintf("no carrier for %v: %v", e.Window, e.Err)
}

// Unwrap returns the last carrier's error.
func (e *AbandonedError) Unwrap() error { return e.Err }

// OpenError means that a stream was not opened.
type OpenError struct {
	Code Code
	Text string // from the refusing side, may be empty; for logs, bounded
}

func (e *OpenError) Error() string {
	if e.Text == "" {
		return e.Code.String()
	}
	return e.Code.String() + ": " + e.Text
}

// ResetError means that a stream was cut short. It wraps syscall.ECONNRESET, and the *OpenError of
// a stream that was refused after OpenAtOnce had returned it.
type ResetError struct {
	Code    Code
	Remote  bool // reset by the peer
	refusal *OpenError
}

func (e *ResetError) Error() string {
	if e.refusal != nil {
		return e.refusal.Error()
	}
	if e.Remote {
		return "stream reset by the peer: " + e.Code.String()
	}
	return "stream reset: " + e.Code.String()
}

// Is reports whether the target is ErrStalled and the peer has reset the stream for that.
func (e *ResetError) Is(target error) bool { return target == ErrStalled && e.Code == CodeStalled }

// Unwrap lets callers treat a reset like that of a TCP connection.
func (e *ResetError) Unwrap() []error {
	if e.refusal != nil {
		return []error{e.refusal, syscall.ECONNRESET}
	}
	return []error{syscall.ECONNRESET}
}

// CloseError means that the peer ended the session.
type CloseError struct {
	Code Code
	Text string
}

func (e *CloseError) Error() string {
	if e.Text == "" {
		return "session ended by the peer: " + e.Code.String()
	}
	return "session ended by the peer: " + e.Code.String() + ": " + e.Text
}

// RefusedError means that the server has refused a new session, before it began.
type RefusedError struct {
	Code Code
	Text string // may be empty; for logs, bounded
}

func (e *RefusedError) Error() string {
	if e.Text == "" {
		return e.Code.String()
	}
	return e.Code.String() + ": " + e.Text
}

// SessionError is what calls return once their session has ended with Err.
type SessionError struct{ Err error }

func (e *SessionError) Error() string { return "session lost: " + e.Err.Error() }

// Is reports whether the session ended with target. It never is io.EOF, as the error of a carrier
// that the peer has closed may be: the user of a stream would take that for the stream's clean end.
func (e *SessionError) Is(target error) bool {
	return target != io.EOF && errors.Is(e.Err, target)
}

// As finds what errors.As looks for in the session's error.
func (e *SessionError) As(target any) bool { return errors.As(e.Err, target) }

// ProtocolError means that the peer violated the format.
type ProtocolError struct{ What string }

func (e *ProtocolError) Error() string { return "protocol error: " + e.What }

func protocolErrorf(format string, args ...any) error {
	return &ProtocolError{What: fmt.Sprintf(format, args...)}
}
