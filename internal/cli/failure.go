package cli

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"

	"culvert/certs"
	"culvert/protocol"
	"culvert/tunnel"
	"culvert/tunnel/mux"
)

// The exit statuses that scripts rely on.
const (
	exitOK           = 0
	exitFailed       = 1 // failed while running
	exitUsage        = 2 // wrong usage
	exitUnreachable  = 3 // the remote can't be reached
	exitIdentity     = 4 // the remote isn't who it should be
	exitNotAdmitted  = 5 // the remote does not admit us
	exitCannotListen = 6 // a local address can't be bound
)

// exitStatus is the error of a command that only has a status to tell: whatever there was to say has been said.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// Failure is an error for people: one line that says what failed and why, and a second that says what to do.
type Failure struct {
	Code int    // exit status
	What string // what failed
	Why  error  // may be nil
	Hint string // what to do, may be empty
}

func (f *Failure) Error() string {
	if f.Why == nil {
		return f.What
	}
	return f.What + ": " + f.Why.Error()
}

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Why }

// report prints a failure and returns its exit status.
func report(w io.Writer, err error) int {
	var status exitStatus
	if errors.As(err, &status) {
		return int(status)
	}
	var f *Failure
	if !errors.As(err, &f) {
		f = &Failure{Code: exitFailed, What: err.Error()}
	}
	fmt.Fprintf(w, "culvert: %s\n", f.Error())
	if f.Hint != "" {
		fmt.Fprintln(w, f.Hint)
	}
	return f.Code
}

func usage(hint, format string, args ...any) error {
	return &Failure{Code: exitUsage, What: fmt.Sprintf(format, args...), Hint: hint}
}

// cannotListen explains why the address of a flag is not bound.
func cannotListen(address, flag, hint string, err error) error {
	var failure *Failure
	var malformed *net.AddrError
	switch {
	case errors.As(err, &failure):
		return err
	case errors.As(err, &malformed):
		return usage("it is HOST:PORT, :PORT or unix:/path", "bad %s %q: %s", flag, address, malformed.Err)
	}
	return &Failure{exitCannotListen, "can't listen on " + address, plainCause(err), hint}
}

// plainCause drops the layers of the standard library from an error, which repeat what a person has just been told.
func plainCause(err error) error {
	var dns *net.DNSError
	var errno syscall.Errno
	switch {
	case errors.As(err, &dns):
		return errors.New(dns.Err)
	case errors.As(err, &errno):
		return errno
	}
	return err
}

// connectFailure explains why there is no session with the remote.
func connectFailure(err error, opts *localOptions) error {
	remote := opts.address.String()
	var changed *certs.ChangedKeyError
	var identity *protocol.IdentityError
	var status *tunnel.StatusError
	var connect *tunnel.ConnectError
	var plaintext tls.RecordHeaderError
	var verification *tls.CertificateVerificationError
	switch {
	case errors.As(err, &changed):
		return &Failure{exitIdentity, "the remote's key has changed",
			fmt.Errorf("%s shows %s, but %s is remembered", remote, changed.Got, changed.Known),
			fmt.Sprintf("somebody may be in between; if the change is right, remove line %d of %s and connect again", changed.Line, changed.Path)}
	case errors.Is(err, certs.ErrUnknownRemote) && errors.As(err, &identity):
		return &Failure{exitIdentity, "unknown remote", fmt.Errorf("%s shows the key %s", remote, identity.Key),
			fmt.Sprintf("compare it with the key that the remote prints, then give --remote-key %s, or --accept-new to remember it", identity.Key)}
	case errors.Is(err, errWrongPin) && errors.As(err, &identity):
		return &Failure{exitIdentity, "wrong remote", fmt.Errorf("%s shows the key %s, not the one in --remote-key", remote, identity.Key),
			"compare the keys with who runs the remote; somebody may be in between"}
	case tunnel.IsDowngradeError(err):
		return &Failure{exitIdentity, "the handshake was altered on the way", errors.New("what we offered is not what the remote received"),
			"somebody may be in between; try another network, or wss://"}
	case errors.Is(err, protocol.ErrNoForwardSecrecy):
		return &Failure{exitIdentity, "no forward secrecy", fmt.Errorf("%s does not offer it", remote),
			"upgrade the remote, or leave --require-forward-secrecy out"}
	case errors.As(err, &verification):
		return &Failure{exitIdentity, "the remote isn't who it should be", fmt.Errorf("%s: %w", remote, verification.Err),
			"check the URL; --tls-ca names the CA of a certificate that no public one has signed, --tls-server-name the name that it is for"}
	case tunnel.IsIdentityError(err):
		return &Failure{exitIdentity, "the remote isn't who it should be", innermost(err),
			"check --remote-key, --ca and the certificates with who runs the remote"}
	case errors.Is(err, protocol.ErrCertificateRequired):
		return &Failure{exitNotAdmitted, "not admitted", errors.New("the remote requires a client certificate"),
			"give one with --cert FILE, for the key that --key names"}
	case tunnel.IsAdmissionError(err):
		return admissionFailure(err, opts)
	case errors.Is(err, mux.ErrNotCulvert):
		return &Failure{exitUnreachable, "no culvert remote", fmt.Errorf("%s completes the handshake but serves no tunnel", remote),
			"check the address"}
	case errors.As(err, &status) && status.Code == http.StatusServiceUnavailable:
		return &Failure{exitUnreachable, "the remote can't be reached", fmt.Errorf("%s: %w", remote, status),
			"the remote is stopping or has too many clients: try again later"}
	case errors.As(err, &status):
		return &Failure{exitUnreachable, "the remote can't be reached", fmt.Errorf("%s: %w", remote, status),
			"check the address, its path above all, and what stands between"}
	case errors.As(err, &plaintext):
		return &Failure{exitUnreachable, "the remote can't be reached", fmt.Errorf("%s: the server does not speak TLS", remote),
			"check the address; without TLS it begins with ws://"}
	case errors.As(err, &connect) && opts.node.Via != nil && connect.Step.BeforeRemote():
		return viaFailure(connect, opts)
	case errors.As(err, &connect):
		return &Failure{exitUnreachable, "the remote can't be reached", fmt.Errorf("%s: %s: %w", remote, connect.Step, plainCause(connect.Err)),
			"check the address, and that `culvert remote` runs there"}
	}
	return &Failure{exitFailed, "the session ended", err, ""}
}

// viaFailure explains why the proxy on the way does not lead to the remote.
func viaFailure(err *tunnel.ConnectError, opts *localOptions) error {
	f := &Failure{exitUnreachable, "the remote can't be reached",
		fmt.Errorf("%s by way of %s: %s: %w", opts.address, opts.node.Via, err.Step, plainCause(err.Err)),
		"check --via, and that the proxy may connect to the remote"}
	var refused *tunnel.ProxyError
	if errors.As(err, &refused) &&
		(refused.Code == http.StatusProxyAuthRequired || refused.Code == http.StatusUnauthorized) { // tinyproxy has the latter
		f.Hint = "give its user and password: http://USER:PASS@HOST:PORT, best by the variable CULVERT_VIA"
	}
	return f
}

// admissionFailure explains a refusal by the remote.
func admissionFailure(err error, opts *localOptions) error {
	var refused *protocol.RefusedError
	errors.As(err, &refused)
	key := opts.key.Public()
	f := &Failure{exitNotAdmitted, "not admitted", nil, ""}
	switch refused.Code {
	case protocol.CloseVersion:
		f.Why = errors.New("the remote refuses this version of the handshake")
		f.Hint = "without --ca version 1 is spoken, with it version 2; ask who runs the remote"
	case protocol.CloseNoSecrecy:
		f.Why = errors.New("the remote requires forward secrecy")
		f.Hint = "upgrade this side"
	case protocol.CloseCertificate:
		f.Why = errors.New("the remote refuses our certificate")
		f.Hint = "ask who runs the remote for a certificate for the key " + key.String()
	default:
		f.Why = fmt.Errorf("the remote does not admit the key %s", key)
		f.Hint = "have this line added to its authorized-keys file: " + key.String()
	}
	return f
}

// innermost drops the layers of an identity error that say where it happened: the failure's own words do.
func innermost(err error) error {
	var identity *protocol.IdentityError
	if errors.As(err, &identity) {
		return plainRefusal(identity.Err)
	}
	var connect *tunnel.ConnectError
	if errors.As(err, &connect) {
		return connect.Err
	}
	return err
}

// plainRefusal says only why a certificate does not verify, after words that say that it does not.
func plainRefusal(err error) error {
	var outer, inner *certs.VerifyError
	switch {
	case !errors.As(err, &outer):
		return err
	case errors.As(outer.Err, &inner):
		return fmt.Errorf("%s: %w", outer.Reason, plainRefusal(inner))
	case outer.Err != nil:
		return fmt.Errorf("%s: %w", outer.Reason, outer.Err)
	}
	return errors.New(outer.Reason.String())
}
