package protocol

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
)

// TestReject5bReachesClient refuses a client after its side of the handshake is done. The client
// learns the reason from a read, and from a write without a read.
func TestReject5bReachesClient(t *testing.T) {
	for _, write := range []bool{false, true} {
		p := newParties(t, Version1, false)
		p.server.Admit = nil
		address, served := listenToFail(t, p.server)
		c, err := Client(t.Context(), dialWS(t, address), p.client)
		if err != nil {
			t.Fatal(err)
		}
		if !write {
			wantRefused(t, readUntilError(t, c), CloseNotAdmitted)
			wantHandshakeError(t, <-served, "5b", CloseNotAdmitted)
			continue
		}
		if err := c.SetWriteDeadline(time.Now().Add(testTimeout)); err != nil {
			t.Fatal(err)
		}
		for err == nil {
			err = c.WriteRecords(make([]byte, 1000))
		}
		wantRefused(t, err, CloseNotAdmitted)
		_, err = c.ReadRecord(nil)
		wantRefused(t, err, CloseNotAdmitted)
		wantHandshakeError(t, <-served, "5b", CloseNotAdmitted)
	}
}

// TestRefusalsReachPeer refuses each end during the handshake.
func TestRefusalsReachPeer(t *testing.T) {
	t.Run("4b", func(t *testing.T) {
		p := newParties(t, Version1, false)
		p.client.VerifyServer = func(Peer) error { return errWrongPin }
		c, s := shakeTCP(t, p)
		wantHandshakeError(t, c.err, "4b", CloseIdentity)
		wantHandshakeError(t, s.err, "5", 0)
		wantRefused(t, s.err, CloseIdentity)
	})
	t.Run("3", func(t *testing.T) {
		p := newParties(t, Version2, false)
		p.server.Cert = nil
		c, s := shakeTCP(t, p)
		wantHandshakeError(t, s.err, "3", CloseVersion)
		wantHandshakeError(t, c.err, "4", 0)
		wantRefused(t, c.err, CloseVersion)
	})
	for _, tt := range []struct {
		name    string
		kind    int
		message []byte
		code    CloseCode
	}{
		{"binary", websocket.BinaryMessage, []byte("{}"), CloseBadMessage},
		{"no JSON", websocket.TextMessage, []byte("hello"), CloseBadMessage},
		{"empty", websocket.TextMessage, nil, CloseBadMessage},
		{"too large", websocket.TextMessage, make([]byte, maxClientHello+1), CloseTooLarge},
	} {
		t.Run("3 "+tt.name, func(t *testing.T) {
			p := newParties(t, Version1, false)
			address, served := listenToFail(t, p.server)
			ws := dialWS(t, address)
			if err := ws.WriteMessage(tt.kind, tt.message); err != nil {
				t.Fatal(err)
			}
			_, _, err := ws.ReadMessage()
			if !websocket.IsCloseError(err, int(tt.code)) {
				t.Fatalf("got %v, want close code %d", err, tt.code)
			}
			ws.Close()
			wantHandshakeError(t, <-served, "3", tt.code)
		})
	}
}

// TestConfigurationErrorClosesWebSocket checks that no socket is left open.
func TestConfigurationErrorClosesWebSocket(t *testing.T) {
	cws, sws := pipeWS(t)
	if _, err := Client(t.Context(), cws, ClientConfig{}); err == nil {
		t.Error("the client has no error")
	}
	if _, err := Server(t.Context(), sws, ServerConfig{}); err == nil {
		t.Error("the server has no error")
	}
	for _, ws := range []*websocket.Conn{cws, sws} {
		if _, err := ws.NetConn().Write([]byte{0}); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("got %v, want a closed pipe", err)
		}
	}
}

// TestHandshakeTimesOut connects to a peer that is silent, and to one that sends a byte now and
// then: the timeout is for the whole handshake.
func TestHandshakeTimesOut(t *testing.T) {
	for _, trickle := range []bool{false, true} {
		for _, timeout := range []time.Duration{0, 3 * time.Second} {
			for _, isServer := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					testHandshakeTimeout(t, timeout, isServer, trickle)
				})
			}
		}
	}
}

func testHandshakeTimeout(t *testing.T, timeout time.Duration, isServer, trickle bool) {
	p := newParties(t, Version1, false)
	p.client.Timeout, p.server.Timeout = timeout, timeout
	ws, silent := pipeWS(t)
	shake, step := func() (*Conn, error) { return Client(t.Context(), ws, p.client) }, "4"
	first := frame{final: true, opcode: websocket.TextMessage, payload: pattern(120)}.append(nil)
	if isServer {
		ws, silent = silent, ws
		shake, step = func() (*Conn, error) { return Server(t.Context(), ws, p.server) }, "3"
		first[1] |= frameMaskBit
	}
	defer silent.Close()
	closeCode := make(chan error, 1)
	go func() {
		// The silent end still reads, so that it gets the close code.
		for {
			if _, _, err := silent.ReadMessage(); err != nil {
				closeCode <- err
				return
			}
		}
	}()
	var trickling sync.WaitGroup
	if trickle {
		trickling.Go(func() {
			for _, b := range first {
				if _, err := silent.NetConn().Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second) // in the synctest bubble of the caller
			}
		})
	}
	begin := time.Now()
	_, err := shake()
	want := timeout
	if want == 0 {
		want = DefaultHandshakeTimeout
	}
	// Sending the close frame may take a little longer.
	if took := time.Since(begin); took < want || took > want+2*closeTimeout {
		t.Errorf("it took %v, want %v", took, want)
	}
	wantHandshakeError(t, err, step, CloseTimeout)
	if !errors.Is(err, ErrTimeout) || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want ErrTimeout", err)
	}
	if err := <-closeCode; !websocket.IsCloseError(err, int(CloseTimeout)) {
		t.Errorf("the silent end got %v", err)
	}
	trickling.Wait()
}

// TestHandshakeCancelled cancels the context while each end waits.
func TestHandshakeCancelled(t *testing.T) {
	for _, isServer := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p := newParties(t, Version1, false)
			cws, sws := pipeWS(t)
			defer cws.Close()
			defer sws.Close()
			ctx, cancel := context.WithCancelCause(t.Context())
			done := make(chan error, 1)
			go func() {
				var err error
				if isServer {
					_, err = Server(ctx, sws, p.server)
				} else {
					_, err = Client(ctx, cws, p.client)
				}
				done <- err
			}()
			if !isServer {
				if _, _, err := sws.ReadMessage(); err != nil { // the hello
					t.Fatal(err)
				}
			}
			synctest.Wait()
			begin := time.Now()
			cancel(errWrongPin)
			err := <-done
			var he *HandshakeError
			if !errors.As(err, &he) || !errors.Is(err, errWrongPin) {
				t.Errorf("got %v, want the context's cause in a HandshakeError", err)
			}
			if took := time.Since(begin); took != 0 {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// TestHandshakeDeadlineIsLifted waits longer than the handshake's timeout in the secure context.
func TestHandshakeDeadlineIsLifted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := connectPipe(t, newParties(t, Version1, false))
		got := make(chan error, 1)
		go func() {
			_, err := server.ReadRecord(nil)
			got <- err
		}()
		time.Sleep(2 * DefaultHandshakeTimeout)
		if err := client.WriteRecords(nil); err != nil {
			t.Fatal(err)
		}
		if err := <-got; err != nil {
			t.Fatal(err)
		}
		closeBoth(client, server)
	})
}
