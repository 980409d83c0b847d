package socks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"culvert/internal/testnet"
)

var classifyTests = []struct {
	err  error
	want Reply
}{
	{syscall.ECONNREFUSED, ReplyConnectionRefused},
	{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)},
		ReplyConnectionRefused},
	{os.NewSyscallError("connect", syscall.EHOSTUNREACH), ReplyHostUnreachable},
	{os.NewSyscallError("connect", syscall.EHOSTDOWN), ReplyHostUnreachable},
	{os.NewSyscallError("connect", syscall.ENETUNREACH), ReplyNetworkUnreachable},
	{os.NewSyscallError("connect", syscall.ETIMEDOUT), ReplyTTLExpired},
	{os.NewSyscallError("connect", syscall.EACCES), ReplyNotAllowed},
	{os.NewSyscallError("connect", syscall.EPERM), ReplyNotAllowed},
	{&net.DNSError{Err: "no such host", IsNotFound: true}, ReplyNameNotFound},
	{&net.DNSError{Err: "timeout", IsTimeout: true}, ReplyTTLExpired},
	{&net.DNSError{Err: "server misbehaving", IsTemporary: true}, ReplyLookupFailed},
	{&net.DNSError{Err: "connection refused", UnwrapErr: syscall.ECONNREFUSED}, ReplyLookupFailed},
	{context.DeadlineExceeded, ReplyTTLExpired},
	{fmt.Errorf("dial: %w", os.ErrDeadlineExceeded), ReplyTTLExpired},
	{errors.New("connection refused"), ReplyGeneralFailure}, // the text is not used
	{io.ErrUnexpectedEOF, ReplyGeneralFailure},
}

func TestClassifyNetError(t *testing.T) {
	for _, tt := range classifyTests {
		if got := ClassifyNetError(tt.err); got != tt.want {
			t.Errorf("%v: %v, want %v", tt.err, got, tt.want)
		}
	}
}

// TestRealDialErrors classifies errors of the kernel and the resolver.
func TestRealDialErrors(t *testing.T) {
	closed := "127.0.0.1:" + testnet.FreePort(t)
	dial := func(address string) error {
		d := net.Dialer{Timeout: testTimeout}
		conn, err := d.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err
	}
	if got := ClassifyNetError(dial(closed)); got != ReplyConnectionRefused {
		t.Errorf("closed port: %v", got)
	}
	ctx, cancel := context.WithDeadline(context.Background(), time.Unix(1, 0))
	defer cancel()
	_, err := new(net.Dialer).DialContext(ctx, "tcp", closed)
	if got := ClassifyNetError(err); got != ReplyTTLExpired {
		t.Errorf("%v: %v", err, got)
	}
}

// TestRepliesOnTheWire shows that each failure of a dial reaches the client as its code, in the
// reply's literal form, with the default and with a custom classification.
func TestRepliesOnTheWire(t *testing.T) {
	request := "\x05\x01\x00" + "\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50"
	check := func(t *testing.T, cfg Config, want Reply) {
		t.Helper()
		switch want { // RFC 1928 has no closer codes
		case ReplyNameNotFound:
			want = ReplyHostUnreachable
		case ReplyLookupFailed, ReplyUnavailable, ReplyBusy:
			want = ReplyGeneralFailure
		}
		conn := connect(t, startServer(t, cfg))
		mustWrite(t, conn, request)
		reply := string([]byte{5, byte(want)}) + "\x00\x01\x00\x00\x00\x00\x00\x00"
		mustRead(t, conn, "\x05\x00"+reply)
		if n, err := conn.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("after the reply: %d bytes, %v", n, err)
		}
	}
	for _, tt := range classifyTests {
		t.Run("built-in/"+tt.err.Error(), func(t *testing.T) {
			check(t, Config{Dial: dialFails(tt.err)}, tt.want)
		})
	}
	for r := range Reply(255) {
		if r > 12 && r < 0x7e || r > 0x86 {
			continue
		}
		want := r
		if r == ReplySucceeded || r > ReplyAddressTypeNotSupported && r != ReplyNameNotFound {
			want = ReplyGeneralFailure
		}
		t.Run("given/"+r.String(), func(t *testing.T) {
			fail := errors.New("no")
			check(t, Config{Dial: dialFails(fail), Classify: func(err error) Reply {
				if err != fail {
					t.Errorf("Classify got %v", err)
				}
				return r
			}}, want)
		})
	}
}
