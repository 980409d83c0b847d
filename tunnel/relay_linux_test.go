package tunnel

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"culvert/internal/testnet"
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
		ln, err := local.ListenReverse(within(t, 10*time.Second), "localhost:0")
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
		go func() { done <- Join(t.Context(), earlyClient{client, []byte("early ")}, target) }()
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
