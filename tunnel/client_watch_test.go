package tunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"culvert/internal/testnet"
	"culvert/tunnel/mux"
)

// openTo opens a stream to a target on one end of a session, whose other end answers or doesn't.
func openTo(session *mux.Session) func(context.Context) (*mux.Stream, error) {
	return func(ctx context.Context) (*mux.Stream, error) {
		return session.Open(ctx, mux.Target{Kind: mux.StreamTCP, Address: "target:1"})
	}
}

// A client does not wait forever for another end that does not answer, and leaves no stream behind.
func TestOpenForTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, _ := muxPair(t)
		client, other := net.Pipe()
		defer client.Close()
		defer other.Close()
		began := time.Now()
		_, err := openFor(t.Context(), client, openTo(near))
		if took := time.Since(began); !errors.Is(err, errOpenTimeout) || took != openTimeout {
			t.Errorf("after %v: %v", took, err)
		}
		synctest.Wait()
		if n := near.Stats().Streams; n != 0 {
			t.Errorf("%d streams are left", n)
		}
	})
}

// A client that has sent nothing and closed its side is given a while.
func TestOpenForClosedClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := muxPair(t)
		client, other := net.Pipe()
		defer client.Close()
		other.Close()
		// Nothing answers the first stream. The second is opened in time: its client may want to listen.
		go func() {
			if _, err := far.Accept(testnet.Within(t, patience)); err != nil {
				t.Error(err)
				return
			}
			in, err := far.Accept(testnet.Within(t, patience))
			if err != nil {
				t.Error(err)
				return
			}
			pause(t, closedWait/2)
			if _, err := in.(*mux.IncomingStream).Confirm(); err != nil {
				t.Error(err)
			}
		}()
		began := time.Now()
		_, err := openFor(t.Context(), client, openTo(near))
		if took := time.Since(began); err != errNotWanted || took != closedWait+clientWatchDelay {
			t.Errorf("after %v: %v", took, err)
		}
		stream, err := openFor(t.Context(), client, openTo(near))
		if err != nil {
			t.Fatal(err)
		}
		stream.Close()
	})
}

// What a client sends while it waits goes into the stream, in its order, and the end of what it
// sends stays an end.
func TestOpenForEarlyData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := muxPair(t)
		client, other := net.Pipe()
		go func() {
			other.Write([]byte("early, "))
			other.Write([]byte("later"))
			other.Close()
		}()
		received := make(chan string, 1)
		go func() {
			in, err := far.Accept(testnet.Within(t, patience))
			if err != nil {
				t.Error(err)
				return
			}
			pause(t, 2*closedWait)
			stream, err := in.(*mux.IncomingStream).Confirm()
			if err != nil {
				t.Error(err)
				return
			}
			data, _ := io.ReadAll(stream)
			stream.Close()
			received <- string(data)
		}()
		stream, err := openFor(t.Context(), client, openTo(near))
		if err != nil {
			t.Fatal(err)
		}
		if err := relay(context.Background(), stream, client); err != nil {
			t.Error(err)
		}
		if got := <-received; got != "early, later" {
			t.Errorf("received %q", got)
		}
	})
}

// What a client has sent before it is reset goes into the stream, and then the reset.
func TestOpenForResetClient(t *testing.T) {
	near, far := muxPair(t)
	client, other := testnet.TCPPair(t, patience)
	gave := make(chan error, 1)
	go func() {
		_, err := openFor(t.Context(), client, openTo(near))
		gave <- err
	}()
	if _, err := other.Write([]byte("early")); err != nil {
		t.Fatal(err)
	}
	in, err := far.Accept(testnet.Within(t, patience))
	if err != nil {
		t.Fatal(err)
	}
	other.SetLinger(0)
	other.Close()
	pause(t, 20*clientWatchDelay) // until the watch has seen it
	stream, err := in.(*mux.IncomingStream).Confirm()
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(stream)
	stream.Close()
	var reset *mux.ResetError
	if string(data) != "early" || !errors.As(err, &reset) {
		t.Errorf("received %q, %v", data, err)
	}
	if err := <-gave; err != errNotWanted {
		t.Errorf("the client's end: %v", err)
	}
}

// The streams of a forward end when its clients are gone, while the remote still dials.
func TestForwardWatchesClients(t *testing.T) {
	near, _ := muxPair(t) // nothing at the other end answers
	local := NewLocal(LocalConfig{})
	local.set(&localConnection{session: near}, nil)
	address := startForward(t, local, "target:1")
	var clients []*net.TCPConn
	for range 20 {
		clients = append(clients, testnet.Dial(t, address, patience))
	}
	until(t, "all streams wait", func() bool { return near.Stats().Streams == len(clients) })
	for _, client := range clients {
		client.SetLinger(0) // it is killed, or its user's machine is
		client.Close()
	}
	until(t, "no stream is left", func() bool { return near.Stats().Streams == 0 })
}
