package tunnel

import (
	"errors"
	"net"
	"syscall"

	"culvert/internal/netfault"
	"culvert/tunnel/mux"
	"culvert/tunnel/policy"
)

// dialCode translates why a target was not reached into the session's code.
func dialCode(err error) mux.Code {
	var dns *net.DNSError
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
	case netfault.HostUnreachable(err):
		return mux.CodeHostUnreach
	case netfault.Is(err, syscall.ENETUNREACH), netfault.Is(err, syscall.EADDRNOTAVAIL):
		return mux.CodeNetUnreach
	case netfault.Timeout(err):
		return mux.CodeTimeout
	case errors.Is(err, policy.ErrBadTarget):
		return mux.CodeBadTarget
	}
	return mux.CodeDialFailed
}
