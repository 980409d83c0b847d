package policy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

// deaf returns an address of loopback whose connections are never answered, because its queue is
// full.
func deaf(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	err = errors.Join(
		syscall.Bind(fd, &syscall.SockaddrInet4{Addr: loopback.As4()}),
		syscall.Listen(fd, 0),
	)
	if err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.AddrPortFrom(loopback, uint16(name.(*syscall.SockaddrInet4).Port))
	for range 100 { // until the queue is full
		conn, err := net.DialTimeout("tcp", addr.String(), fallbackDelay)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Fatal("a queue without room takes 100 connections")
	panic("unreachable")
}

// An address that doesn't answer uses up neither the time of the other IP version, nor that of the
// next address.
func TestDialPastSilence(t *testing.T) {
	v4, v6, silent := listenOn(t, "127.0.0.1:0"), listenOn(t, "[::1]:0"), deaf(t)
	conn, err := dialAny(within(t, 10*time.Second), "tcp", []netip.AddrPort{silent, v6})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.RemoteAddr().String(); got != v6.String() {
		t.Errorf("reached %s, want %s", got, v6)
	}
	conn, err = dialEach(within(t, 2*minAttempt), "tcp", []netip.AddrPort{silent, v4})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.RemoteAddr().String(); got != v4.String() {
		t.Errorf("reached %s, want %s", got, v4)
	}
	var timeout net.Error
	_, err = dialAny(within(t, 100*time.Millisecond), "tcp", []netip.AddrPort{silent, silent})
	if !errors.Is(err, context.DeadlineExceeded) && (!errors.As(err, &timeout) || !timeout.Timeout()) {
		t.Errorf("silence: %v", err)
	}
}
