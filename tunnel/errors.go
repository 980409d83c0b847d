package tunnel

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"

	"culvert/internal/netfault"
	"culvert/tunnel/mux"
	"culvert/tunnel/policy"
)

// dialCode translates why a target was not reached into the session's code.
func dialCode(err error) mux.Code {
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.Is(err, policy.ErrNotAllowed):
		return mux.CodeNotAllowed
	case netfault.Exhausted(err):
		return mux.CodeExhausted
	case errors.As(err, &dns) && dns.IsNotFound:
		return mux.CodeNameNotFound
	case dns != nil && !dns.IsTimeout: // its cause is a name server's, not the target's
		return mux.CodeLookupFailed
	case errors.Is(err, syscall.ENOENT): // of a unix socket
		return mux.CodeNameNotFound
	case netfault.Is(err, syscall.ECONNREFUSED):
		return mux.CodeRefused
	case netfault.Is(err, syscall.EHOSTUNREACH):
		return mux.CodeHostUnreach
	case netfault.Is(err, syscall.ENETUNREACH), netfault.Is(err, syscall.EADDRNOTAVAIL):
		return mux.CodeNetUnreach
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		return mux.CodeTimeout
	case errors.Is(err, policy.ErrBadTarget):
		return mux.CodeBadTarget
	}
	return mux.CodeDialFailed
}
