// Package netfault decides what errors of sockets mean: whether a loop goes on after one, and what
// to tell a person.
package netfault

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
)

// Temporary reports whether the call that failed may succeed later on the same socket. That holds
// for what the kernel reports about one datagram or one connection, such as the answer to a
// datagram sent before or a connection aborted before it was accepted, and for a lack of
// descriptors or memory. It does not hold when the socket is closed or is not fit for the call.
func Temporary(err error) bool {
	errno, ok := errors.AsType[syscall.Errno](err)
	return ok && !slices.Contains(unusable[:], errno)
}

// Is reports whether err is the error of a socket that package syscall names so: on Windows, whose
// sockets have numbers of their own, errors.Is is always false.
func Is(err error, errno syscall.Errno) bool {
	if errors.Is(err, errno) {
		return true
	}
	own, ok := native[errno]
	return ok && errors.Is(err, own)
}

// HostUnreachable reports whether err means that there is no route to the target's host, or that
// the host is down: macOS and the BSDs tell the two apart.
func HostUnreachable(err error) bool {
	return Is(err, syscall.EHOSTUNREACH) || Is(err, syscall.EHOSTDOWN)
}

// Timeout reports whether err is a timeout, in any of the forms of the standard library and of
// systems.
func Timeout(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) ||
		Is(err, syscall.ETIMEDOUT) {
		return true
	}
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// Exhausted reports whether a call failed because the process or the system has no descriptors or
// no memory left for it. Of the error of a name server's socket, package net leaves no more than
// the text.
func Exhausted(err error) bool {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return slices.Contains(exhausted[:], errno)
	}
	dns, ok := errors.AsType[*net.DNSError](err)
	return ok && slices.ContainsFunc(exhausted[:], func(errno syscall.Errno) bool {
		return strings.HasSuffix(dns.Err, errno.Error())
	})
}

// Cause returns an error that wraps err and whose text is only the cause: it leaves out what the
// standard library adds, such as the operation and the addresses, which a person has just been
// told.
func Cause(err error) error {
	if err == nil {
		return nil
	}
	return &cause{causeText(err), err}
}

type cause struct {
	text string
	err  error
}

func (c *cause) Error() string { return c.text }

// Unwrap returns the whole error.
func (c *cause) Unwrap() error { return c.err }

func causeText(err error) string {
	if unknown, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return unknown.Error()
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return dns.Err
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Err != nil {
		if errors.Is(op.Err, os.ErrDeadlineExceeded) {
			return "timed out"
		}
		return op.Err.Error()
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "the connection was closed"
	}
	return err.Error()
}
