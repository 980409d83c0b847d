package tunnel

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"culvert/internal/testnet"
)

func TestForwardHalfClose(t *testing.T) {
	local, _ := startTunnel(t)
	answer := randomBytes(t, 3<<20)
	asked := make(chan []byte, 1)
	target := testnet.ServeTCP(t, func(conn *net.TCPConn) {
		question, _ := io.ReadAll(conn) // all of it, to the end of file, before the answer
		asked <- question
		conn.Write(answer)
	})
	conn := dialPlain(t, startForward(t, local, target))
	question := randomBytes(t, 2<<20)
	if _, err := conn.Write(question); err != nil {
		t.Fatal(err)
	}
	conn.CloseWrite()
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, answer) {
		t.Fatalf("answer: %d bytes, %v", len(got), err)
	}
	if !bytes.Equal(receive(t, asked), question) {
		t.Fatal("the question was not the same")
	}
}

func TestForwardServerSpeaksAndClosesFirst(t *testing.T) {
	local, _ := startTunnel(t)
	fromClient := make(chan []byte, 1)
	target := testnet.ServeTCP(t, func(conn *net.TCPConn) {
		conn.Write([]byte("hello"))
		conn.CloseWrite()
		b, _ := io.ReadAll(conn)
		fromClient <- b
	})
	conn := dialPlain(t, startForward(t, local, target))
	if got, err := io.ReadAll(conn); err != nil || string(got) != "hello" {
		t.Fatalf("%q, %v", got, err)
	}
	conn.Write([]byte("still here")) // the other direction lives on
	conn.Close()
	if got := receive(t, fromClient); string(got) != "still here" {
		t.Fatalf("%q", got)
	}
}

func TestCutShortIsSeenAsCutShort(t *testing.T) {
	local, _ := startTunnel(t)
	t.Run("by the target", func(t *testing.T) {
		target := testnet.ServeTCP(t, func(conn *net.TCPConn) {
			conn.Write(make([]byte, 100<<10))
			io.ReadFull(conn, make([]byte, 1)) // until some of it has arrived
			conn.SetLinger(0)
		})
		conn := dialPlain(t, startForward(t, local, target))
		io.ReadFull(conn, make([]byte, 10<<10))
		conn.Write([]byte("x"))
		if _, err := io.Copy(io.Discard, conn); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("read of a download that was cut short: %v", err)
		}
	})
	t.Run("by the client", func(t *testing.T) {
		seen := make(chan error, 1)
		target := testnet.ServeTCP(t, func(conn *net.TCPConn) {
			_, err := io.Copy(io.Discard, conn)
			seen <- err
		})
		conn := dialPlain(t, startForward(t, local, target))
		conn.Write(make([]byte, 100<<10))
		conn.SetLinger(0)
		conn.Close()
		if err := receive(t, seen); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("the target saw %v", err)
		}
	})
	t.Run("by the session", func(t *testing.T) {
		local, remote := startTunnel(t)
		conn := dialPlain(t, startForward(t, local, testnet.EchoServer(t)))
		conn.Write([]byte("x"))
		io.ReadFull(conn, make([]byte, 1))
		remote.server.CloseClientConnections()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		remote.Shutdown(ctx)
		if _, err := io.Copy(io.Discard, conn); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("read after the session was lost: %v", err)
		}
	})
}

// A server that answers and closes before it has read everything is usual for an HTTP error. Its
// answer must arrive.
func TestAnswerBeforeTheQuestionEnds(t *testing.T) {
	local, _ := startTunnel(t)
	target := testnet.ServeTCP(t, func(conn *net.TCPConn) {
		io.ReadFull(conn, make([]byte, 1))
		conn.Write([]byte("too large"))
		conn.CloseWrite()
		io.ReadFull(conn, make([]byte, 8<<20)) // some of it, then a close with unread data: a reset
	})
	conn := dialPlain(t, startForward(t, local, target))
	go conn.Write(make([]byte, 64<<20))
	got := make([]byte, 9)
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "too large" {
		t.Fatalf("%q, %v", got, err)
	}
}

// joined calls Join with a connection that a remote has accepted and another, and returns their far
// ends.
func joined(t testing.TB, ctx context.Context) (left, right *net.TCPConn, ended <-chan error) {
	t.Helper()
	local, _ := reverseTunnel(t, "localhost")
	ln, err := local.ListenReverse(testnet.Within(t, 10*time.Second), "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	left = dialPlain(t, ln.Addr().String())
	a, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	right, b := testnet.TCPPair(t, dialTime)
	done := make(chan error, 1)
	var joining sync.WaitGroup
	joining.Go(func() { done <- (&Local{}).Join(ctx, a, b) })
	t.Cleanup(joining.Wait)
	t.Cleanup(func() { // runs before the wait
		left.Close()
		right.Close()
	})
	return left, right, done
}

// Join passes all bytes, and the end of each direction by itself.
func TestJoin(t *testing.T) {
	left, right, ended := joined(t, testnet.Within(t, patience))
	question, answer := randomBytes(t, 2<<20), randomBytes(t, 3<<20)
	var writing sync.WaitGroup
	defer testnet.Await(t, patience, writing.Wait)
	writing.Go(func() {
		left.Write(question)
		left.CloseWrite()
	})
	if got, err := io.ReadAll(right); err != nil || !bytes.Equal(got, question) {
		t.Fatalf("the question: %d bytes, %v", len(got), err)
	}
	writing.Go(func() { // although the other direction has ended
		right.Write(answer)
		right.CloseWrite()
	})
	if got, err := io.ReadAll(left); err != nil || !bytes.Equal(got, answer) {
		t.Fatalf("the answer: %d bytes, %v", len(got), err)
	}
	if err := receive(t, ended); err != nil {
		t.Errorf("ended: %v", err)
	}
}

// When either side or the context is cut short, the other side is too.
func TestJoinCutShort(t *testing.T) {
	for name, cut := range map[string]func(left *net.TCPConn, cancel context.CancelFunc){
		"by a side": func(left *net.TCPConn, _ context.CancelFunc) {
			left.SetLinger(0)
			left.Close()
		},
		"by the context": func(_ *net.TCPConn, cancel context.CancelFunc) { cancel() },
	} {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		left, right, ended := joined(t, ctx)
		left.Write([]byte("begun"))
		if _, err := io.ReadFull(right, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		cut(left, cancel)
		if _, err := right.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: the other side sees %v", name, err)
		}
		if err := receive(t, ended); err == nil {
			t.Errorf("%s: ended without an error", name)
		}
	}
}
