package protocol

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// TestReadsStopAtHead reads a response in reads of many sizes, cut at every place: a read ends where the head does.
func TestReadsStopAtHead(t *testing.T) {
	const behind = "\x81\x05hello\r\n\r\nmore\n\n"
	for _, head := range []string{
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nX: \r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\n \n\n",
		"HTTP/1.1 403 Forbidden\r\nX: \rY\n\r\n",
		"HTTP/1.1 200\n\r\n",
	} {
		stream := []byte(head + behind)
		for split := 1; split < len(stream); split++ {
			for _, size := range []int{1, 2, 7, 512} {
				conn := &dialedConn{Conn: &chunkConn{chunks: [][]byte{stream[:split], stream[split:]}}}
				var got []byte
				stopped := false
				for {
					b := make([]byte, size)
					n, err := conn.Read(b)
					got = append(got, b[:n]...)
					stopped = stopped || len(got) == len(head)
					if err == io.EOF {
						break
					}
					if err != nil || n == 0 {
						t.Fatalf("%q, split at %d, reads of %d: a read of %d, %v", head, split, size, n, err)
					}
				}
				if !stopped || !bytes.Equal(got, stream) {
					t.Fatalf("%q, split at %d, reads of %d: stopped there: %v; got %q", head, split, size, stopped, got)
				}
			}
		}
	}
}

// accept is the server's part of the opening handshake (RFC 6455, section 4.2.2).
func accept(r *http.Request) string {
	sum := sha1.Sum([]byte(r.Header.Get("Sec-Websocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: " + base64.StdEncoding.EncodeToString(sum[:]) + "\r\n\r\n"
}

// answering returns a dial function to a server of one request, which gets what answer makes of it, written at once, and
// then reads until the other end closes. Over a pipe, a read sees no more than one write wrote, and sees all of it that it
// has room for. The cleanup waits for the server.
func answering(tb testing.TB, wrap func(net.Conn) net.Conn, answer func(*http.Request) []byte) DialFunc {
	c, s := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer s.Close()
		conn := wrap(s)
		br := bufio.NewReader(conn)
		r, err := http.ReadRequest(br)
		if err != nil {
			tb.Error(err)
			return
		}
		if _, err := conn.Write(answer(r)); err == nil {
			_, _ = io.Copy(io.Discard, br)
		}
	}()
	tb.Cleanup(func() {
		c.Close()
		<-done
	})
	return func(context.Context, string, string) (net.Conn, error) { return c, nil }
}

// TestFramesBehindHead has a server, or something before it, send frames in one piece with the HTTP response.
func TestFramesBehindHead(t *testing.T) {
	reason := append([]byte{byte(CloseNotAdmitted >> 8), byte(CloseNotAdmitted & 0xff)}, "go away"...)
	frames := wireOf([]frame{
		{final: true, opcode: websocket.PingMessage, payload: []byte("early")},
		{final: true, opcode: websocket.CloseMessage, payload: reason},
	})
	answer := func(r *http.Request) []byte { return append([]byte(accept(r)), frames...) }
	unsecured := httptest.NewUnstartedServer(nil)
	unsecured.StartTLS() // for its certificate
	defer unsecured.Close()
	secured := unsecured.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	secured.ServerName = "example.com"

	for _, tt := range []struct {
		url    string
		dialer *websocket.Dialer
	}{
		{"ws://remote.example", NewDialer(answering(t, func(c net.Conn) net.Conn { return c }, answer), nil)},
		{"wss://remote.example", NewDialer(nil, func(ctx context.Context, network, address string) (net.Conn, error) {
			dial := answering(t, func(c net.Conn) net.Conn { return tls.Server(c, unsecured.TLS) }, answer)
			conn, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return tls.Client(conn, secured), nil
		})},
	} {
		ws, resp, err := tt.dialer.Dial(tt.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := ws.NetConn().(*dialedConn).behind; !bytes.Equal(got, frames) {
			t.Errorf("%s: %x is kept, want %x", tt.url, got, frames)
		}
		_, err = Client(t.Context(), ws, newParties(t, Version1, false).client)
		wantRefused(t, err, CloseNotAdmitted)
		wantHandshakeError(t, err, "4", 0)
	}
}

// TestRefusedUpgradeIsShown has a server that is no WebSocket's: status, headers and body reach the caller, as far as gorilla
// keeps them.
func TestRefusedUpgradeIsShown(t *testing.T) {
	for _, n := range []int{0, 10, 800, 5000} {
		body := pattern(n)
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Reason", "none of yours")
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write(body)
		}))
		ws, resp, err := NewDialer(nil, nil).Dial(wsAddress(s), nil)
		if !errors.Is(err, websocket.ErrBadHandshake) || ws != nil || resp.StatusCode != http.StatusForbidden || resp.Header.Get("X-Reason") != "none of yours" {
			t.Fatalf("got %v, %+v", err, resp)
		}
		if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, body[:min(n, 1024)]) {
			t.Errorf("a body of %d: got %d bytes, %v", n, len(got), err)
		}
		s.Close()
	}
}

func TestEndlessHead(t *testing.T) {
	head := slices.Concat([]byte("HTTP/1.1 101 Switching Protocols\r\nX: "), make([]byte, 2*maxResponseHead))
	dial := answering(t, func(c net.Conn) net.Conn { return c }, func(*http.Request) []byte { return head })
	dialer := NewDialer(dial, nil)
	dialer.HandshakeTimeout = testTimeout
	if _, _, err := dialer.Dial("ws://remote.example", nil); !errors.Is(err, errResponseHead) {
		t.Fatalf("got %v, want %v", err, errResponseHead)
	}
}

// TestDialFunctions has functions that fail, and those that stand for nil.
func TestDialFunctions(t *testing.T) {
	errPlain, errTLS := errors.New("plain"), errors.New("TLS")
	failing := func(err error) DialFunc {
		return func(context.Context, string, string) (net.Conn, error) { return nil, err }
	}
	d := NewDialer(failing(errPlain), failing(errTLS))
	for url, want := range map[string]error{"ws://remote.example": errPlain, "wss://remote.example": errTLS} {
		if _, _, err := d.Dial(url, nil); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", url, err, want)
		}
	}

	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	var untrusted *tls.CertificateVerificationError
	if _, _, err := NewDialer(nil, nil).Dial(wsAddress(s), nil); !errors.As(err, &untrusted) {
		t.Errorf("got %v, want that the certificate is not trusted", err)
	}
}

// TestForeignDialer opens a WebSocket with gorilla's own dialer.
func TestForeignDialer(t *testing.T) {
	address := listen(t, func(ws *websocket.Conn) {
		if _, _, err := ws.ReadMessage(); err == nil {
			t.Error("the client has sent something")
		}
	})
	ws, resp, err := websocket.DefaultDialer.Dial(address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if _, err := Client(t.Context(), ws, newParties(t, Version1, false).client); !errors.Is(err, errForeignDialer) {
		t.Errorf("got %v, want %v", err, errForeignDialer)
	}
	if err := ws.SetReadDeadline(time.Time{}); err == nil {
		t.Error("the WebSocket is left open")
	}
}
