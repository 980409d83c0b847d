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
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// TestReadsStopAtHead reads a response, split at every position, in reads of many sizes: no read
// goes beyond the head.
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
				conn := &dialedConn{Conn: &chunkConn{chunks: [][]byte{stream[:split],
					stream[split:]}}}
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
						t.Fatalf("%q, split at %d, reads of %d: a read of %d, %v", head, split,
							size, n, err)
					}
				}
				if !stopped || !bytes.Equal(got, stream) {
					t.Fatalf("%q, split at %d, reads of %d: stopped there: %v; got %q", head, split,
						size, stopped, got)
				}
			}
		}
	}
}

// accept is the server's part of the opening handshake (RFC 6455, section 4.2.2).
func accept(r *http.Request) string {
	sum := sha1.Sum([]byte(r.Header.Get("Sec-Websocket-Key") +
		"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: " + base64.StdEncoding.EncodeToString(sum[:]) + "\r\n\r\n"
}

// answering returns a dial function to a server of one request, which responds with the result of
// answer in one write, and then reads until the other end closes. A read from a pipe returns the
// rest of one write, as far as it has room. The cleanup waits for the server.
func answering(
	tb testing.TB, wrap func(net.Conn) net.Conn, answer func(*http.Request) []byte,
) DialFunc {
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

// TestFramesBehindHead sends frames in one write with the HTTP response, as a server, or a proxy
// before it, may.
func TestFramesBehindHead(t *testing.T) {
	reason := append([]byte{byte(CloseNotAdmitted >> 8), byte(CloseNotAdmitted & 0xff)},
		"go away"...)
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
		{"ws://remote.example", NewDialer(answering(t, func(c net.Conn) net.Conn { return c },
			answer), nil)},
		{"wss://remote.example", NewDialer(nil,
			func(ctx context.Context, network, address string) (net.Conn, error) {
				dial := answering(t, func(c net.Conn) net.Conn {
					return tls.Server(c, unsecured.TLS)
				}, answer)
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

// TestRefusedUpgradeIsShown dials a server that is not a WebSocket's: the caller gets the status,
// the headers and as much of the body as gorilla keeps.
func TestRefusedUpgradeIsShown(t *testing.T) {
	for _, n := range []int{0, 10, 800, 5000} {
		body := pattern(n)
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Reason", "none of yours")
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write(body)
		}))
		ws, resp, err := NewDialer(nil, nil).Dial(wsAddress(s), nil)
		if !errors.Is(err, websocket.ErrBadHandshake) || ws != nil ||
			resp.StatusCode != http.StatusForbidden ||
			resp.Header.Get("X-Reason") != "none of yours" {
			t.Fatalf("got %v, %+v", err, resp)
		}
		if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, body[:min(n, 1024)]) {
			t.Errorf("a body of %d: got %d bytes, %v", n, len(got), err)
		}
		s.Close()
	}
}

func TestEndlessHead(t *testing.T) {
	for name, head := range map[string][]byte{
		"a field": slices.Concat([]byte("HTTP/1.1 101 Switching Protocols\r\nX: "),
			make([]byte, 2*maxResponseHead)),
		"the first line": slices.Concat([]byte("HTTP/1.1 101 "), make([]byte, 2*maxStatusLine)),
	} {
		dial := answering(t, func(c net.Conn) net.Conn { return c },
			func(*http.Request) []byte { return head })
		dialer := NewDialer(dial, nil)
		dialer.HandshakeTimeout = testTimeout
		if _, _, err := dialer.Dial("ws://remote.example", nil); !errors.Is(err, ErrResponseHead) {
			t.Errorf("%s: got %v, want %v", name, err, ErrResponseHead)
		}
	}
}

// TestDialFunctions dials with functions that fail, and with the defaults for nil.
func TestDialFunctions(t *testing.T) {
	errPlain, errTLS := errors.New("plain"), errors.New("TLS")
	failing := func(err error) DialFunc {
		return func(context.Context, string, string) (net.Conn, error) { return nil, err }
	}
	d := NewDialer(failing(errPlain), failing(errTLS))
	for url, want := range map[string]error{
		"ws://remote.example": errPlain, "wss://remote.example": errTLS,
	} {
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
	_, err = Client(t.Context(), ws, newParties(t, Version1, false).client)
	if !errors.Is(err, errForeignDialer) {
		t.Errorf("got %v, want %v", err, errForeignDialer)
	}
	if err := ws.SetReadDeadline(time.Time{}); err == nil {
		t.Error("the WebSocket is left open")
	}
}

// TestInterimResponses sends responses of the class 1xx before the final one, in pieces and at
// once.
func TestInterimResponses(t *testing.T) {
	const early = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
	for _, interim := range []string{
		"HTTP/1.1 100 Continue\r\n\r\n", early, strings.Repeat(early, 20), "HTTP/1.1 199 \n\n",
	} {
		for _, final := range []string{"", "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"} {
			for _, size := range []int{1, 7, 4096} {
				answer := func(r *http.Request) []byte {
					if final != "" {
						return []byte(interim + final)
					}
					return []byte(interim + accept(r) + "\x81\x02hi")
				}
				slow := func(c net.Conn) net.Conn { return pieces{c, size} }
				dialer := NewDialer(answering(t, slow, answer), nil)
				ws, resp, err := dialer.Dial("ws://remote.example", nil)
				switch {
				case final != "":
					if !errors.Is(err, websocket.ErrBadHandshake) ||
						resp.StatusCode != http.StatusForbidden {
						t.Errorf("%.40q, writes of %d: got %v, %v", interim, size, resp, err)
					}
				case err != nil:
					t.Errorf("%.40q, writes of %d: %v", interim, size, err)
				default:
					_, message, err := frameReaderOf(ws).next()
					if string(message) != "hi" || err != nil {
						t.Errorf("%.40q, writes of %d: then %q, %v", interim, size, message, err)
					}
				}
			}
		}
	}
}

// frameReaderOf reads what follows a WebSocket's upgrade, as Client would.
func frameReaderOf(ws *websocket.Conn) *frameReader {
	w := newWire(ws, true)
	w.limitMessages(100)
	return w.frames
}

// pieces is a connection with writes of at most size bytes.
type pieces struct {
	net.Conn
	size int
}

func (c pieces) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var some int
		some, err = c.Conn.Write(p[n:min(n+c.size, len(p))])
		n += some
	}
	return n, err
}

// TestEndlessInterimResponses dials a server that never sends a final response.
func TestEndlessInterimResponses(t *testing.T) {
	heads := bytes.Repeat([]byte("HTTP/1.1 102 Processing\r\n\r\n"), maxResponseHead/20)
	dial := answering(t, func(c net.Conn) net.Conn { return c }, func(*http.Request) []byte {
		return heads
	})
	dialer := NewDialer(dial, nil)
	dialer.HandshakeTimeout = testTimeout
	if _, _, err := dialer.Dial("ws://remote.example", nil); !errors.Is(err, ErrResponseHead) {
		t.Fatalf("got %v, want %v", err, ErrResponseHead)
	}
}

// TestNotHTTP dials a server of another protocol, which then waits: the client doesn't.
func TestNotHTTP(t *testing.T) {
	for _, text := range []string{"220 mail.example ESMTP\r\n", "\x00\x01\x02", "HTTX"} {
		answer := func(*http.Request) []byte { return []byte(text) }
		dialer := NewDialer(answering(t, func(c net.Conn) net.Conn { return c }, answer), nil)
		dialer.HandshakeTimeout = testTimeout
		var timeout net.Error
		if _, _, err := dialer.Dial("ws://remote.example", nil); err == nil ||
			errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("%q: got %v, want an error about what came", text, err)
		}
	}
}

// TestRefusedUpgradeWithoutEnd dials a server that refuses, and never ends the response.
func TestRefusedUpgradeWithoutEnd(t *testing.T) {
	answer := func(*http.Request) []byte {
		return []byte("HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n\r\nwait")
	}
	dialer := NewDialer(answering(t, func(c net.Conn) net.Conn { return c }, answer), nil)
	dialer.HandshakeTimeout = testTimeout
	began := time.Now()
	_, resp, err := dialer.Dial("ws://remote.example", nil)
	if !errors.Is(err, websocket.ErrBadHandshake) || resp.Header.Get("Retry-After") != "7" {
		t.Fatalf("got %v, %v", resp, err)
	}
	if took := time.Since(began); took > testTimeout/2 {
		t.Errorf("it took %v", took)
	}
}
