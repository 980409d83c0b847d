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

func TestDialCodes(t *testing.T) {
	for _, test := range []struct {
		err  error
		want mux.Code
	}{
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, mux.CodeRefused},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}, mux.CodeHostUnreach},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ENETUNREACH)}, mux.CodeNetUnreach},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ETIMEDOUT)}, mux.CodeTimeout},
		{&net.OpError{Op: "dial", Err: &net.DNSError{IsNotFound: true}}, mux.CodeNameNotFound},
		{&net.OpError{Op: "dial", Err: &net.DNSError{IsTimeout: true}}, mux.CodeTimeout},
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
