package policy

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A target that says something and resets at once is heard, however soon its reset comes.
func TestConnectToOneThatResets(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const said = "no room"
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return // closed
			}
			io.WriteString(conn, said)
			conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		}
	})
	defer serving.Wait()
	defer ln.Close()
	late := 0
	for range 1000 {
		conn, err := Connect(context.Background(), net.Dialer{}, "tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if c, ok := conn.(resetConn); ok {
			late++
			if c.NetConn() == nil || c.CloseWrite() == nil {
				t.Error("not a connection that was reset")
			}
		}
		if got, err := io.ReadAll(conn); string(got) != said || !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("%q, %v", got, err)
		}
		conn.Close()
	}
	t.Logf("the reset came before the dial was over %d times", late)
}

// A socket that begins with a small buffer gets a larger one as it is read, and carries all.
func TestSmallBuffersGrow(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const size = 64 << 20
	var serving sync.WaitGroup
	serving.Go(func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		conn.Write(make([]byte, size))
	})
	defer serving.Wait()
	defer ln.Close()
	conn, err := Connect(WithSmallBuffers(t.Context()), net.Dialer{}, "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	buffer := func() (size int) {
		raw.Control(func(fd uintptr) {
			size, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF)
		})
		return size
	}
	first := buffer()
	n, err := io.Copy(io.Discard, conn)
	if n != size || err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if first <= smallBuffer && buffer() <= first {
		t.Errorf("%d bytes of room first, and %d in the end", first, buffer())
	}
}

// A dial leaves no descriptors behind, whether it succeeds or fails.
func TestConnectLeavesNothing(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	before := openFiles(t)
	for range 10 {
		conn, err := Connect(context.Background(), net.Dialer{}, "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	ln.Close()
	for range 10 {
		conn, err := Connect(context.Background(), net.Dialer{}, "tcp", address)
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("%v, %v", conn, err)
		}
	}
	if after := openFiles(t); after != before-1 { // without the listener
		t.Errorf("%d files were open, and are %d", before-1, after)
	}
}

// openFiles returns the number of this process's descriptors.
func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
