package tunnel

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"syscall"

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
	case errors.As(err, &dns) && dns.IsNotFound:
		return mux.CodeNameNotFound
	case errors.Is(err, syscall.ENOENT): // of a unix socket
		return mux.CodeNameNotFound
	case errors.Is(err, syscall.ECONNREFUSED):
		return mux.CodeRefused
	case errors.Is(err, syscall.EHOSTUNREACH):
		return mux.CodeHostUnreach
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL):
		return mux.CodeNetUnreach
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		return mux.CodeTimeout
	case errors.Is(err, policy.ErrBadTarget):
		return mux.CodeBadTarget
	}
	return mux.CodeDialFailed
}

// plainCause drops the layers of package net from an error, which repeat addresses that a person has just been told.
func plainCause(err error) error {
	var op *net.OpError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &unknown):
		return unknown
	case errors.As(err, &op) && op.Err != nil:
		var sys *os.SyscallError
		if errors.As(op.Err, &sys) {
			return sys.Err
		}
		return op.Err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the connection was closed")
	}
	return err
}
