package policy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"culvert/internal/testnet"
)

// An address that doesn't answer uses up neither the time of the other IP version, nor that of the
// next address.
func TestDialPastSilence(t *testing.T) {
	v4, v6, silent := listenOn(t, "127.0.0.1:0"), listenOn(t, "[::1]:0"), testnet.SilentPort(t)
	conn, err := dialAny(testnet.Within(t, 10*time.Second), "tcp", []netip.AddrPort{silent, v6})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.RemoteAddr().String(); got != v6.String() {
		t.Errorf("reached %s, want %s", got, v6)
	}
	conn, err = dialEach(testnet.Within(t, 2*minAttempt), "tcp", []netip.AddrPort{silent, v4})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.RemoteAddr().String(); got != v4.String() {
		t.Errorf("reached %s, want %s", got, v4)
	}
	var timeout net.Error
	_, err = dialAny(testnet.Within(t, 100*time.Millisecond), "tcp", []netip.AddrPort{silent, silent})
	if !errors.Is(err, context.DeadlineExceeded) && (!errors.As(err, &timeout) || !timeout.Timeout()) {
		t.Errorf("silence: %v", err)
	}
}

// A peer that the system has forgotten is noticed on this machine too.
func TestKeepAliveOnLoopback(t *testing.T) {
	conn, err := dialEach(t.Context(), "tcp", []netip.AddrPort{listenOn(t, "127.0.0.1:0")})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if idle, err := testnet.KeepAlive(conn); err != nil || idle != loopbackIdle {
		t.Errorf("it is probed after %v, %v", idle, err)
	}
}

// A unix socket whose queue of connections is full is not one that doesn't answer.
func TestDialUnixQueue(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), path)
	defer file.Close()
	err = errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 0))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.FileListener(file)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for err == nil {
		var conn net.Conn
		if conn, err = net.Dial("unix", path); err == nil {
			defer conn.Close()
		}
	}
	if !errors.Is(err, syscall.EAGAIN) {
		t.Fatalf("with a full queue: %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := connectUnix(short, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a queue that stays full: %v", err)
	}
	dialed := make(chan error, 1)
	go func() {
		conn, err := connectUnix(testnet.Within(t, time.Minute), path)
		if err == nil {
			conn.Close()
		}
		dialed <- err
	}()
	for {
		select {
		case err := <-dialed:
			if err != nil {
				t.Error(err)
			}
			return
		default:
		}
		ln.(*net.UnixListener).SetDeadline(time.Now().Add(10 * time.Millisecond))
		if conn, err := ln.Accept(); err == nil {
			conn.Close()
		}
	}
}

// connectUnix connects as both ends do.
func connectUnix(ctx context.Context, path string) (net.Conn, error) {
	return Connect(ctx, net.Dialer{}, "unix", path)
}
