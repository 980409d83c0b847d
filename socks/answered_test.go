package socks

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"culvert/internal/bounds"
	"culvert/internal/testnet"
)

// TestAnswerOutlivesServer: a client that reads slowly gets the end of its answer though the server
// stops meanwhile, and sees no reset.
func TestAnswerOutlivesServer(t *testing.T) {
	body := strings.Repeat("a response ", 12_000)
	site := startHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		io.WriteString(w, body)
	})
	const head = " HTTP/1.1\r\nHost: a.test\r\n"
	for _, test := range []struct{ name, request, want string }{
		{"idle", "GET http://a.test/" + head + "\r\n", body},
		{"closing", "GET http://a.test/" + head + "Connection: close\r\n\r\n", body},
		{"refused", "CONNECT a.test:0" + head + "\r\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			s := newServer(t, Config{Dial: dialAlways(site)})
			stop := serve(t, s, ln)
			client := connect(t, ln.Addr().String())
			client.SetReadBuffer(32 << 10) // most of the body waits in the server's socket
			mustWrite(t, client, test.request)
			testnet.Poll(t, testTimeout, "the client is answered", func() bool {
				s.mu.Lock()
				defer s.mu.Unlock()
				for c := range s.conns {
					return c.answered.Load() && !c.relaying
				}
				return false
			})
			if err := s.Shutdown(context.Background()); err != nil { // before the client reads
				t.Error(err)
			}
			got, err := io.ReadAll(client)
			if err != nil || !strings.HasSuffix(string(got), test.want) || len(got) == 0 {
				t.Errorf("read %d bytes, %v; want the answer of %d", len(got), err, len(test.want))
			}
			client.Close()
			stop()
		})
	}
}

// TestTooManyConnsAreCounted: who is closed for lack of room is counted, and the server knows that
// it is full.
func TestTooManyConnsAreCounted(t *testing.T) {
	counts := new(bounds.Counts)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t, Config{Dial: dialFails(io.EOF), MaxConns: 1, Bounds: counts})
	serve(t, s, ln)
	held := connect(t, ln.Addr().String())
	mustWrite(t, held, greeting)
	mustRead(t, held, methodNone)
	if !s.IsFull() {
		t.Error("the server isn't full")
	}
	if n, err := connect(t, ln.Addr().String()).Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("one too many: %d bytes, %v", n, err)
	}
	if n := counts.Of(bounds.ProxyConns); n != 1 {
		t.Errorf("%d counted, want 1", n)
	}
}

// TestLongNameIsCounted: a name that is too long counts once, whoever asks for it.
func TestLongNameIsCounted(t *testing.T) {
	counts := new(bounds.Counts)
	addr := startServer(t, Config{Dial: dialFails(io.EOF), Bounds: counts})
	conn := connect(t, addr)
	mustWrite(t, conn, "CONNECT "+strings.Repeat("a", 256)+":80 HTTP/1.1\r\nHost: a.test\r\n\r\n")
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 400") {
		t.Errorf("got %q, %v", answer, err)
	}
	if n := counts.Of(bounds.ProxyName); n != 1 {
		t.Errorf("%d counted, want 1", n)
	}
}

// TestInterimNotRead: after a part of an interim response that the client takes too long for,
// nothing else follows.
func TestInterimNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, far := askOverPipes(t)
		mustWrite(t, far, "HTTP/1.1 103 Early Hints\r\nX: 1\r\n\r\n"+okA)
		mustRead(t, client, "HTTP/1.1 103")
		time.Sleep(DefaultNegotiationTimeout) // synctest
		synctest.Wait()
		if got, _ := io.ReadAll(client); strings.Contains(string(got), "200 OK") {
			t.Errorf("behind a part of an interim response: %q", got)
		}
	})
}

// TestEndBehindPipelinedRequest: a client that sends another request ahead of the response, and
// then its end, may have gone: its target may not be silent for ever.
func TestEndBehindPipelinedRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		target := newTargetConn(t.Context(), halfPipe{near}, "")
		defer target.Close()
		client, other := net.Pipe()
		c := newClientConn(halfPipe{client}, func() {})
		defer c.Close()
		up := newUpload(c, &request{})
		up.start(target)
		go func() {
			io.WriteString(other, "\r\n")
			other.Close()
		}()
		began := time.Now()
		_, err := target.Read(make([]byte, 1))
		late := time.Since(began) - halfClosedTimeout
		if !errors.Is(err, os.ErrDeadlineExceeded) || late < 0 || late > time.Minute {
			t.Errorf("%v, %v after the bound", err, late)
		}
		up.finish(true)
	})
}
