package testnet

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Listen listens on a free loopback port until the test ends.
func Listen(tb testing.TB) net.Listener {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { ln.Close() })
	return ln
}

// FreePort returns a loopback port that nothing uses, for a program that can't choose its own. It
// is below those that the system chooses for outgoing connections, of which tests make thousands.
func FreePort(tb testing.TB) string {
	tb.Helper()
	const first, last, attempts = 10000, 32000, 100
	for range attempts {
		port := strconv.Itoa(first + rand.IntN(last-first))
		ln, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err == nil {
			ln.Close()
			return port
		}
	}
	tb.Fatal("no port is free")
	return ""
}

// Serve calls handle, each time in its own goroutine, with the connections accepted on ln, which it
// takes ownership of. A connection is closed when handle returns. At the end of the test, the
// listener and the open connections are closed, and Serve's goroutines are waited for.
func Serve(tb testing.TB, ln net.Listener, handle func(net.Conn)) {
	tb.Helper()
	var (
		mu     sync.Mutex
		ended  bool
		open   = make(map[net.Conn]struct{})
		active sync.WaitGroup
	)
	track := func(conn net.Conn) bool {
		mu.Lock()
		defer mu.Unlock()
		open[conn] = struct{}{}
		return !ended
	}
	active.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return // closed
			}
			active.Go(func() {
				defer func() {
					conn.Close()
					mu.Lock()
					defer mu.Unlock()
					delete(open, conn)
				}()
				if track(conn) {
					handle(conn)
				}
			})
		}
	})
	tb.Cleanup(func() {
		ln.Close()
		mu.Lock()
		ended = true
		for conn := range open {
			conn.Close()
		}
		mu.Unlock()
		Await(tb, endTime, active.Wait)
	})
}

// ServeTCP is [Serve] on a free loopback port, whose address it returns.
func ServeTCP(tb testing.TB, handle func(*net.TCPConn)) (address string) {
	tb.Helper()
	ln := Listen(tb)
	Serve(tb, ln, func(conn net.Conn) { handle(conn.(*net.TCPConn)) })
	return ln.Addr().String()
}

// Echo sends back what it receives until the peer is done sending.
func Echo(conn *net.TCPConn) { io.Copy(conn, conn) }

// EchoServer serves [Echo] until the test ends.
func EchoServer(tb testing.TB) (address string) {
	tb.Helper()
	return ServeTCP(tb, Echo)
}

// CheckEcho sends text and returns an error unless it comes back unchanged.
func CheckEcho(conn net.Conn, text string) error {
	if _, err := io.WriteString(conn, text); err != nil {
		return err
	}
	got := make([]byte, len(text))
	if n, err := io.ReadFull(conn, got); err != nil {
		return fmt.Errorf("%d of %d bytes came back: %w", n, len(text), err)
	}
	if string(got) != text {
		return errors.New("what came back differs from what was sent")
	}
	return nil
}

// Dial connects to an address. The connection has a deadline of timeout from now, and is closed
// when the test ends.
func Dial(tb testing.TB, address string, timeout time.Duration) *net.TCPConn {
	tb.Helper()
	conn, err := net.DialTimeout("tcp", address, timeout)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(timeout))
	return conn.(*net.TCPConn)
}

// Pass relays a connection to an address, which gets the bytes of first before those of near. When
// either side ends, so does the other.
func Pass(near *net.TCPConn, address string, first []byte) {
	far, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer far.Close()
	far.Write(first)
	var copying sync.WaitGroup
	copying.Go(func() {
		io.Copy(far, near)
		far.Close()
	})
	io.Copy(near, far)
	near.Close()
	copying.Wait()
}

// Pair returns both ends of a connection over "tcp" on loopback or over "unix". They have a
// deadline of timeout from now, and are closed when the test ends.
func Pair(tb testing.TB, network string, timeout time.Duration) (near, far net.Conn) {
	tb.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = tb.TempDir() + "/s"
	}
	ln, err := net.Listen(network, address)
	if err != nil {
		tb.Fatal(err)
	}
	defer ln.Close()
	// The connection is complete before it is accepted (listen(2)).
	if near, err = net.DialTimeout(network, ln.Addr().String(), timeout); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { near.Close() })
	if far, err = ln.Accept(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { far.Close() })
	for _, conn := range []net.Conn{near, far} {
		conn.SetDeadline(time.Now().Add(timeout))
	}
	return near, far
}

// TCPPair is [Pair] over loopback.
func TCPPair(tb testing.TB, timeout time.Duration) (near, far *net.TCPConn) {
	tb.Helper()
	a, b := Pair(tb, "tcp", timeout)
	return a.(*net.TCPConn), b.(*net.TCPConn)
}
