//go:build unix

package testnet

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"
)

// RefusingPort returns a loopback address that refuses connections and that nobody else can bind
// until the test ends or free is called: it is bound, but nobody listens on it.
func RefusingPort(tb testing.TB) (address netip.AddrPort, free func()) {
	tb.Helper()
	address, free, err := BindRefusing()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(free)
	return address, free
}

// BindRefusing is [RefusingPort] for use outside of a test: the caller must call free.
func BindRefusing() (address netip.AddrPort, free func(), err error) {
	fd, address, err := bindLoopback()
	return address, sync.OnceFunc(func() { syscall.Close(fd) }), err
}

// silentDial is how long a connection to a [SilentPort] may take to be established before the
// port counts as silent. Loopback needs microseconds.
const silentDial = 300 * time.Millisecond

// SilentPort returns a loopback address that does not answer: the queue of its listener is full, so
// that the system drops connection requests (listen(2)).
func SilentPort(tb testing.TB) netip.AddrPort {
	tb.Helper()
	fd, address, err := bindLoopback()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Listen(fd, 0); err != nil {
		tb.Fatal(err)
	}
	for {
		conn, err := net.DialTimeout("tcp", address.String(), silentDial)
		if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
			return address
		}
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { conn.Close() })
	}
}

// bindLoopback binds a socket to a free port of loopback. The caller closes it.
func bindLoopback() (fd int, address netip.AddrPort, err error) {
	loopback := [4]byte{127, 0, 0, 1}
	syscall.ForkLock.RLock() // until the socket is close-on-exec
	fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return -1, address, err
	}
	err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: loopback})
	name, nameErr := syscall.Getsockname(fd)
	if err := errors.Join(err, nameErr); err != nil {
		syscall.Close(fd)
		return -1, address, err
	}
	port := uint16(name.(*syscall.SockaddrInet4).Port)
	return fd, netip.AddrPortFrom(netip.AddrFrom4(loopback), port), nil
}
