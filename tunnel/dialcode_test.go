package tunnel

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"testing"

	"culvert/tunnel/mux"
	"culvert/tunnel/policy"
)

// dialError is the error of package net for a failed system call.
func dialError(errno syscall.Errno) error {
	return &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", errno)}
}

func TestDialCodes(t *testing.T) {
	for _, test := range []struct {
		err  error
		want mux.Code
	}{
		{dialError(syscall.ECONNREFUSED), mux.CodeRefused},
		{dialError(syscall.EHOSTUNREACH), mux.CodeHostUnreach},
		{dialError(syscall.EHOSTDOWN), mux.CodeHostUnreach},
		{dialError(syscall.ENETUNREACH), mux.CodeNetUnreach},
		{dialError(syscall.ETIMEDOUT), mux.CodeTimeout},
		{&net.OpError{Op: "dial", Err: &net.DNSError{IsNotFound: true}}, mux.CodeNameNotFound},
		{&net.OpError{Op: "dial", Err: &net.DNSError{IsTimeout: true}}, mux.CodeTimeout},
		{&net.DNSError{Err: "server misbehaving", IsTemporary: true}, mux.CodeLookupFailed},
		{&net.DNSError{UnwrapErr: dialError(syscall.ECONNREFUSED)}, mux.CodeLookupFailed},
		{dialError(syscall.EMFILE), mux.CodeExhausted},
		{&net.DNSError{Err: "dial udp 127.0.0.1:53: socket: " + syscall.EMFILE.Error()},
			mux.CodeExhausted},
		{dialError(syscall.ENFILE), mux.CodeExhausted},
		{dialError(syscall.ENOBUFS), mux.CodeExhausted},
		{context.DeadlineExceeded, mux.CodeTimeout},
		{policy.ErrBadTarget, mux.CodeBadTarget},
		{policy.ErrNotAllowed, mux.CodeNotAllowed},
		{errors.New("something else"), mux.CodeDialFailed},
	} {
		if got := dialCode(test.err); got != test.want {
			t.Errorf("%v: %v, want %v", test.err, got, test.want)
		}
	}
}
