package tunnel

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"culvert/internal/rawsock"
	"culvert/internal/testnet"

	"golang.org/x/sys/unix"
)

// earlyClient is a client that has sent something before it was to, as package socks has it.
type earlyClient struct {
	net.Conn
	early []byte
}

func (c earlyClient) Early() []byte     { return c.early }
func (c earlyClient) NetConn() net.Conn { return c.Conn }

// What a client has sent early goes first. When the target has gone by then, what that has said
// still reaches the client, and then a reset.
func TestJoinEarly(t *testing.T) {
	for _, gone := range []bool{false, true} {
		local, _ := reverseTunnel(t, "localhost")
		ln, err := local.ListenReverse(testnet.Within(t, 10*time.Second), "localhost:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		left := dialPlain(t, ln.Addr().String())
		client, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		right, target := testnet.TCPPair(t, dialTime)
		io.WriteString(right, "full")
		if gone {
			right.SetLinger(0)
			right.Close()
			until(t, "the reset is there", func() bool { return wasReset(target) })
		}
		done := make(chan error, 1)
		go func() {
			client := earlyClient{client, []byte("early ")}
			done <- (&Local{}).Join(t.Context(), client, target)
		}()
		if gone {
			got, err := io.ReadAll(left)
			if string(got) != "full" || !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the client got %q, %v", got, err)
			}
			if err := <-done; err == nil {
				t.Error("joined without an error")
			}
			continue
		}
		io.WriteString(left, "late")
		left.CloseWrite()
		right.CloseWrite()
		if got, err := io.ReadAll(right); string(got) != "early late" || err != nil {
			t.Errorf("the target got %q, %v", got, err)
		}
		if got, err := io.ReadAll(left); string(got) != "full" || err != nil {
			t.Errorf("the client got %q, %v", got, err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// A target on a unix socket that answers and closes the connection in good order has not reset it,
// even if what it was asked has only just been written.
func TestUnixTargetClosesFirst(t *testing.T) {
	local, _ := reverseTunnel(t, "localhost")
	ln, err := local.ListenReverse(testnet.Within(t, 10*time.Second), "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for range 300 {
		client := dialPlain(t, ln.Addr().String())
		accepted, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		target, far := testnet.Pair(t, "unix", dialTime)
		done := make(chan error, 1)
		go func() { done <- (&Local{}).Join(t.Context(), accepted, target) }()
		go func() {
			defer far.Close()
			if _, err := io.ReadFull(far, make([]byte, len("question"))); err == nil {
				io.WriteString(far, "answer")
			}
		}()
		io.WriteString(client, "question")
		client.CloseWrite()
		if got, err := io.ReadAll(client); string(got) != "answer" || err != nil {
			t.Errorf("the client got %q, %v", got, err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// A unix target that has sent all and closed in good order is not reset, however long the client
// takes to read that, but one that has closed without reading all is.
func TestUnixTargetReset(t *testing.T) {
	closed, far := testnet.Pair(t, "unix", dialTime)
	io.WriteString(far, "answer")
	far.Close()
	if got, err := io.ReadAll(closed); string(got) != "answer" || err != nil {
		t.Fatalf("read %q, %v", got, err)
	}
	socket := closed.(*net.UnixConn)
	control(socket, func(fd int) {
		if !rawsock.Shows(uintptr(fd), unix.POLLHUP) {
			t.Error("it has not hung up")
		}
		if rawsock.Shows(uintptr(fd), resetEvents(socket)) {
			t.Error("closed in good order, it counts as reset")
		}
	})

	cut, far := testnet.Pair(t, "unix", dialTime)
	reset := make(chan bool, 1)
	go func() { reset <- awaitReset(cut) }()
	io.WriteString(cut, "question")
	far.Close()
	select {
	case got := <-reset:
		if !got {
			t.Error("closed with unread data, it doesn't count as reset")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("its reset goes unnoticed")
	}
}
