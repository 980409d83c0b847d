package cli

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"

	"culvert/certs"
	"culvert/internal/cli/exit"
	"culvert/internal/netfault"
	"culvert/protocol"
	"culvert/tunnel"
	"culvert/tunnel/mux"
)

// cannotListen explains why an address can't be bound.
func cannotListen(address, hint string, err error) error {
	if _, ours := errors.AsType[*exit.Failure](err); ours {
		return err
	}
	return exit.Fail(exit.CannotListen, "can't listen on "+address, netfault.Cause(err), hint)
}

// connectFailure explains why there is no session with the remote.
func connectFailure(err error, c *connection) error {
	if ours, ok := errors.AsType[*exit.Failure](err); ok { // it is not about the remote at all
		return ours
	}
	failure := remoteFailure(err, c.about(err))
	if f, ok := errors.AsType[*exit.Failure](failure); ok {
		withClock(err, f)
	}
	return failure
}

// remoteFailure explains what is wrong with the remote, or on the way to it.
func remoteFailure(err error, c *connection) error {
	if f := identityFailure(err, c); f != nil {
		return f
	}
	switch {
	case errors.Is(err, protocol.ErrCertificateRequired):
		return exit.Fail(exit.NotAdmitted, "not admitted",
			fmt.Errorf("%s requires a client certificate", c.name()),
			"give one with --cert FILE, for the key that --key names")
	case tunnel.IsAdmissionError(err):
		return admissionFailure(err, c)
	case errors.Is(err, mux.ErrNotCulvert):
		return exit.Fail(exit.Unreachable, "not a culvert remote",
			fmt.Errorf("%s completes the handshake but serves no tunnel", c.address),
			"check the address")
	}
	if f := roomFailure(err, c); f != nil {
		return f
	}
	if f := closedFailure(err, c); f != nil {
		return f
	}
	if f := unreachableFailure(err, c); f != nil {
		return f
	}
	return exit.Fail(exit.Failed, "the session ended", err, "")
}

const (
	possibleMITM = "possible man-in-the-middle"
	compareKeys  = "compare the keys with the operator of the remote; " + possibleMITM
	severalKeys  = "several servers behind one URL need --ca, or the keys of all: URL#KEY1,KEY2"
)

// identityFailure explains an error that means that the remote isn't who it should be. It returns
// nil for other errors.
func identityFailure(err error, c *connection) error {
	var changed *certs.ChangedKeyError
	var identity *protocol.IdentityError
	var verification *tls.CertificateVerificationError
	fail := func(what string, why error, hint string) error {
		return exit.Fail(exit.WrongRemote, what, why, hint)
	}
	switch {
	case errors.As(err, &changed):
		return fail("the remote's key has changed",
			fmt.Errorf("%s shows the key %s, but %s is remembered", c.address, changed.Got, changed.Known),
			fmt.Sprintf("%s; if the change is legitimate, remove line %d of %s and connect again",
				possibleMITM, changed.Line, changed.Path))
	case errors.Is(err, certs.ErrUnknownRemote) && errors.As(err, &identity):
		return fail("unknown remote", fmt.Errorf("%s shows the key %s", c.address, identity.Key),
			fmt.Sprintf("compare it with the key that the remote prints, "+
				"then give --remote-key %s, or --accept-new to remember it", identity.Key))
	case errors.Is(err, errWrongPin) && errors.As(err, &identity):
		return fail("wrong remote",
			fmt.Errorf("%s shows the key %s, not the one in %s", c.address, identity.Key,
				c.trust.pinnedIn),
			compareKeys+"; "+severalKeys)
	case tunnel.IsDowngradeError(err):
		return fail("the handshake was altered in transit",
			errors.New("the remote received a different offer than was sent"),
			possibleMITM+"; try another network, or wss://")
	case errors.Is(err, protocol.ErrNoForwardSecrecy):
		return fail("no forward secrecy", fmt.Errorf("%s does not offer it", c.address),
			"upgrade the remote, or leave --require-forward-secrecy out")
	case errors.As(err, &verification):
		return fail(notWhoItShouldBe, fmt.Errorf("%s: %w", c.address, verification.Err),
			"check the URL; --tls-ca names the CA of a certificate that no public one signed, "+
				"--tls-server-name the name in the certificate")
	case tunnel.IsIdentityError(err):
		return fail(notWhoItShouldBe, innermost(err),
			"check --remote-key, --ca and the certificates with the operator of the remote")
	}
	return nil
}

const notWhoItShouldBe = "the remote isn't who it should be"

// roomFailure explains that the remote admits this client but has no room for another session. It
// returns nil for other errors.
func roomFailure(err error, c *connection) error {
	refused, ok := errors.AsType[*mux.RefusedError](err)
	switch {
	case !ok:
		return nil
	case refused.Code == mux.CodeShare:
		return exit.Fail(exit.NotAdmitted, "no more sessions for this client", refused,
			"end another one, or ask for sessions=N in the authorized-keys line of "+
				c.key.Public().String())
	}
	return exit.Fail(exit.Unreachable, "the remote can't be used now",
		fmt.Errorf("%s: %w", c.address, refused), "try again later, or wait for it with --wait")
}

// closedFailure explains that the server closed the WebSocket in the handshake or right after it,
// without a reason. That is how servers of the reference implementation refuse, and what they do
// when they have waited for 2 seconds. It returns nil for other errors.
func closedFailure(err error, c *connection) error {
	var connect *tunnel.ConnectError
	var closed *protocol.PeerClosedError
	if !errors.As(err, &connect) || !errors.As(err, &closed) || !closed.Refuses() {
		return nil
	}
	// The server verifies our part of the handshake when that is complete on this side.
	why, hint := "refuses us after the handshake", "the server may require a certificate for our key"+
		" and our address (--ca with --cert), or not admit the key "+c.key.Public().String()
	switch {
	case connect.Step == tunnel.StepSession && c.config.Cert != nil:
		hint = "the server may not accept our certificate: it has to be of its CA, for our key, " +
			"not expired, and may have to name the address that we come from"
	case connect.Step == tunnel.StepHandshake:
		why, hint = "refuses our handshake", "the server may speak the other version: --ca selects "+
			"version 2, leaving it out version 1; or the path is too slow for a server that waits 2 seconds"
	case connect.Step != tunnel.StepSession:
		return nil
	}
	return exit.Fail(exit.NotAdmitted, "not admitted",
		fmt.Errorf("%s %s: %s", c.address, why, "it closed the connection without a reason"), hint)
}

const busyHint = "the remote is stopping or has too many clients: try again later"

// unreachableFailure explains an error on the way to the remote. It returns nil for other errors.
func unreachableFailure(err error, c *connection) error {
	var status *tunnel.StatusError
	var connect *tunnel.ConnectError
	var refused *protocol.RefusedError
	fail := func(why error, hint string) error {
		return exit.Fail(exit.Unreachable, "the remote can't be reached", why, hint)
	}
	if hint, why := obstacle(err, c); hint != "" {
		return fail(fmt.Errorf("%s: %w", c.address, why), hint)
	}
	switch {
	case errors.As(err, &status) && status.Code == http.StatusTooManyRequests:
		return fail(fmt.Errorf("%s: %w", c.address, status),
			"the remote refuses this address for a while after failed attempts: try again later")
	case errors.As(err, &status) && status.Code == http.StatusServiceUnavailable:
		return fail(fmt.Errorf("%s: %w", c.address, status), busyHint)
	case errors.As(err, &refused) && refused.Code == tunnel.CloseBusy:
		return fail(fmt.Errorf("%s: it is busy", c.address), busyHint)
	case errors.As(err, &status):
		return fail(fmt.Errorf("%s: %w", c.address, status),
			"check the address, its path above all, and any proxy in front of the remote")
	case errors.As(err, &connect) && c.config.Via != nil && connect.Step.BeforeRemote():
		return viaFailure(connect, c)
	case errors.As(err, &connect) && errors.Is(err, tunnel.ErrFamily):
		return fail(fmt.Errorf("%s: %s: %w", c.address, connect.Step, tunnel.ErrFamily),
			"leave -4 or -6 out, or give another address")
	case errors.As(err, &connect):
		return fail(fmt.Errorf("%s: %s: %w", c.address, connect.Step, netfault.Cause(connect.Err)),
			"check the address, and that `culvert remote` runs there")
	}
	return nil
}

// viaFailure explains why the proxy does not connect to the remote.
func viaFailure(err *tunnel.ConnectError, c *connection) error {
	hint := "check --via, and that the proxy may connect to the remote"
	if tunnel.ObstacleOf(err) == tunnel.ObstacleProxyAuth {
		hint = "give its user and password: http://USER:PASS@HOST:PORT, " +
			"best with the variable CULVERT_VIA"
	}
	return exit.Fail(exit.Unreachable, "the remote can't be reached",
		fmt.Errorf("%s via %s: %s: %w", c.address, c.config.Via, err.Step, netfault.Cause(err.Err)), hint)
}

// admissionFailure explains a refusal by the remote.
func admissionFailure(err error, c *connection) error {
	key := c.key.Public()
	why := fmt.Errorf("%s does not admit the key %s", c.name(), key)
	hint := "ask for this line in its authorized-keys file: " + key.String()
	var code protocol.CloseCode // 0 when the session was refused
	if refused, ok := errors.AsType[*protocol.RefusedError](err); ok {
		code = refused.Code
	}
	switch code {
	case protocol.CloseVersion:
		why = fmt.Errorf("%s refuses this version of the handshake", c.name())
		hint = "--ca selects version 2, leaving it out version 1; ask the operator of the remote"
	case protocol.CloseNoSecrecy:
		why = fmt.Errorf("%s requires forward secrecy", c.name())
		hint = "upgrade this side"
	case protocol.CloseCertificate:
		why = fmt.Errorf("%s refuses our certificate", c.name())
		hint = "ask the operator of the remote for a certificate for the key " + key.String()
	}
	return exit.Fail(exit.NotAdmitted, "not admitted", why, hint)
}

// innermost drops the layers of an identity error that repeat what the message already tells.
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

// plainRefusal reduces an error to why a certificate does not verify.
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
