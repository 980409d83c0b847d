package netfault

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

func op(err error) error {
	return &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", err)}
}

func TestTemporary(t *testing.T) {
	for err, want := range map[error]bool{
		op(syscall.EMFILE):       true,
		op(syscall.ENOBUFS):      true,
		op(syscall.ECONNABORTED): true,
		op(syscall.ECONNREFUSED): true,
		op(syscall.ECONNRESET):   true,
		op(syscall.EMSGSIZE):     true,
		op(syscall.EPERM):        true,
		op(unusable[0]):          false,
		op(unusable[1]):          false,
		op(unusable[2]):          false,
		net.ErrClosed:            false,
		os.ErrDeadlineExceeded:   false,
		io.EOF:                   false,
		&net.OpError{Op: "read", Err: net.ErrClosed}: false,
	} {
		if got := Temporary(err); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
	if Temporary(nil) {
		t.Error("no error is a temporary one")
	}
}

// What sockets of this system say is known by the names of package syscall.
func TestIs(t *testing.T) {
	var inUse, refused error
	for range 10 { // another program may take the port
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_, inUse = net.Listen("tcp", ln.Addr().String())
		ln.Close()
		var conn net.Conn
		if conn, refused = net.Dial("tcp", ln.Addr().String()); refused != nil {
			break
		}
		conn.Close()
	}
	if !Is(inUse, syscall.EADDRINUSE) || !Is(refused, syscall.ECONNREFUSED) {
		t.Errorf("%v, %v", inUse, refused)
	}
	if Is(inUse, syscall.ECONNREFUSED) || Is(refused, syscall.EADDRINUSE) ||
		Is(nil, syscall.EADDRINUSE) {
		t.Error("each is another")
	}
	for errno, own := range native {
		if !Is(op(own), errno) || Is(op(own), syscall.ENOENT) {
			t.Errorf("%v is not %v", own, errno)
		}
	}
}

func TestExhausted(t *testing.T) {
	for err, want := range map[error]bool{
		op(exhausted[0]):         true,
		op(exhausted[1]):         true,
		op(syscall.ECONNABORTED): false,
		op(unusable[0]):          false,
		net.ErrClosed:            false,
	} {
		if got := Exhausted(err); got != want || got && !Temporary(err) {
			t.Errorf("%v: %v", err, got)
		}
	}
}

// Of the failures of a listener that is out of descriptors one a minute is logged.
func TestLogPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		failed := LogPauses(zerolog.New(&log))
		line := `{"level":"warn","error":"` + exhausted[0].Error() + `",` +
			`"hint":"raise the limit of open files, such as with ulimit -n",` +
			`"message":"connections can't be accepted: they wait"}` + "\n"
		for i := range 90 {
			failed(op(exhausted[0]), time.Second)
			if want := strings.Repeat(line, 1+i/60); log.String() != want {
				t.Fatalf("after %d s: %s", i, log.String())
			}
			time.Sleep(time.Second)
		}
	})
}

// The rule holds for what real sockets return.
func TestTemporaryOfSockets(t *testing.T) {
	nobody, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	address := nobody.LocalAddr().(*net.UDPAddr)
	nobody.Close()
	conn, err := net.DialUDP("udp", nil, address)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !Temporary(err) {
		t.Errorf("a datagram that nobody took: %v", err)
	}
	conn.Close()
	if _, err := conn.Read(make([]byte, 1)); Temporary(err) {
		t.Errorf("a closed socket: %v", err)
	}
}

func TestCause(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{op(syscall.ECONNREFUSED), syscall.ECONNREFUSED.Error()},
		{fmt.Errorf("dial: %w", op(syscall.EHOSTUNREACH)), syscall.EHOSTUNREACH.Error()},
		{&net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "a.test"}},
			"no such host"},
		{&net.OpError{Op: "dial", Err: context.DeadlineExceeded}, "context deadline exceeded"},
		{
			&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}},
			x509.UnknownAuthorityError{}.Error(),
		},
		{fmt.Errorf("read: %w", io.ErrUnexpectedEOF), "the connection was closed"},
		{errors.New("another"), "another"},
	} {
		got := Cause(test.err)
		if got.Error() != test.want {
			t.Errorf("%v: %q, want %q", test.err, got, test.want)
		}
		if !errors.Is(got, test.err) {
			t.Errorf("%v is lost", test.err)
		}
		if again := Cause(got).Error(); again != test.want {
			t.Errorf("%v: %q the second time", test.err, again)
		}
	}
	if Cause(nil) != nil {
		t.Error("no error has a cause")
	}
}

// listener returns the next of its errors from Accept, or a connection when there are none left.
type listener struct {
	net.Listener
	errs   []error
	closes int
}

func (l *listener) Accept() (net.Conn, error) {
	if len(l.errs) == 0 {
		near, far := net.Pipe()
		far.Close()
		return near, nil
	}
	err := l.errs[0]
	l.errs = l.errs[1:]
	return nil, err
}

func (l *listener) Close() error {
	l.closes++
	return nil
}

func TestListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		many := make([]error, 20)
		for i := range many {
			many[i] = op(syscall.EMFILE)
		}
		broken := op(unusable[0])
		var pauses []time.Duration
		ln := NewListener(
			&listener{errs: append(many, broken)},
			func(err error, pause time.Duration) {
				if !errors.Is(err, syscall.EMFILE) {
					t.Errorf("retries after %v", err)
				}
				pauses = append(pauses, pause)
			},
		)
		began := time.Now()
		if _, err := ln.Accept(); !errors.Is(err, broken) {
			t.Errorf("a broken listener: %v", err)
		}
		var total time.Duration
		for _, pause := range pauses {
			total += pause
		}
		if len(pauses) != 20 || pauses[0] != acceptPauseMin || pauses[19] != acceptPauseMax ||
			time.Since(began) != total {
			t.Errorf("after %v: %v", time.Since(began), pauses)
		}
		conn, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	})
}

// Close ends a pause, and closes the listener once.
func TestListenerClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		under := &listener{errs: []error{op(syscall.EMFILE), op(syscall.EMFILE)}}
		ln := NewListener(under, nil)
		began := time.Now()
		ended := make(chan error, 1)
		go func() {
			_, err := ln.Accept()
			ended <- err
		}()
		synctest.Wait()
		ln.Close()
		ln.Close()
		if err := <-ended; !errors.Is(err, net.ErrClosed) || time.Since(began) != 0 {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		if under.closes != 1 {
			t.Errorf("closed %d times", under.closes)
		}
	})
}
