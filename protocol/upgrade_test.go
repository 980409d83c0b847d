package protocol

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// dialTLSTo returns a dialer that trusts a test server.
func dialTLSTo(s *httptest.Server) *websocket.Dialer {
	cfg := s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	cfg.NextProtos = nil
	cfg.MinVersion = tls.VersionTLS13
	return NewDialer(nil, (&tls.Dialer{Config: cfg}).DialContext)
}

// dialTLSWS connects by wss:// to a server that hands the WebSocket to serve.
func dialTLSWS(tb testing.TB, serve func(*websocket.Conn)) *websocket.Conn {
	tb.Helper()
	s := startServer(tb, httptest.NewTLSServer, Upgrade, serve)
	ws, resp, err := dialTLSTo(s).Dial(wsAddress(s), nil)
	if err != nil {
		tb.Fatal(err)
	}
	resp.Body.Close()
	tb.Cleanup(func() { ws.Close() })
	return ws
}

// TestWritesGoToTheSocket checks that records go straight to the connection of package net or
// crypto/tls, without a wrapper of this package, on either end.
func TestWritesGoToTheSocket(t *testing.T) {
	check := func(conn net.Conn, overTLS bool, end string) {
		t.Helper()
		_, isTCP := conn.(*net.TCPConn)
		_, isTLS := conn.(*tls.Conn)
		if isTCP == overTLS || isTLS != overTLS {
			t.Errorf("%s: the connection is a %T", end, conn)
		}
		if _, ok := conn.(interface{ CloseWrite() error }); !ok {
			t.Errorf("%s: a %T can't be half-closed", end, conn)
		}
	}
	for _, overTLS := range []bool{false, true} {
		checked := make(chan struct{})
		serve := func(ws *websocket.Conn) {
			check(newWire(ws, false).conn, overTLS, "server")
			close(checked)
		}
		var ws *websocket.Conn
		if overTLS {
			ws = dialTLSWS(t, serve)
		} else {
			ws = dialWS(t, listen(t, serve))
		}
		check(newWire(ws, true).conn, overTLS, "client")
		<-checked
	}
}

// TestUpgradeOverTLS performs the handshake over wss.
func TestUpgradeOverTLS(t *testing.T) {
	p := newParties(t, Version1, false)
	serverErr := make(chan error, 1)
	ws := dialTLSWS(t, func(ws *websocket.Conn) {
		serverErr <- func() error {
			c, err := Server(context.Background(), ws, p.server)
			if err != nil {
				return err
			}
			defer c.Close()
			b, err := c.ReadRecord(nil)
			if err != nil {
				return err
			}
			return c.WriteRecords(b)
		}()
	})
	c, err := Client(context.Background(), ws, p.client)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.WriteRecords([]byte("over TLS")); err != nil {
		t.Fatal(err)
	}
	if got, err := c.ReadRecord(nil); err != nil || string(got) != "over TLS" {
		t.Fatalf("got %q, %v", got, err)
	}
	var closed *PeerClosedError
	if err := readUntilError(t, c); !errors.As(err, &closed) || !errors.Is(err, io.EOF) {
		t.Fatalf("got %v, want a PeerClosedError that is io.EOF", err)
	}
	if err := <-serverErr; err != nil {
		t.Fatal(err)
	}
}

func TestUpgradeAcceptsAnyOrigin(t *testing.T) {
	address := listen(t, func(*websocket.Conn) {})
	for _, origin := range []string{"", "https://elsewhere.example", "null"} {
		h := http.Header{}
		if origin != "" {
			h.Set("Origin", origin)
		}
		ws, resp, err := NewDialer(nil, nil).Dial(address, h)
		if err != nil {
			t.Fatalf("origin %q: %v", origin, err)
		}
		resp.Body.Close()
		ws.Close()
	}
}

func TestUpgradeRefusesPlainHTTP(t *testing.T) {
	w := httptest.NewRecorder()
	if _, err := Upgrade(w, httptest.NewRequest(http.MethodGet, "/", nil)); err == nil ||
		w.Code != http.StatusBadRequest {
		t.Fatalf("got %v and status %d", err, w.Code)
	}
}

// middleware is a ResponseWriter that shows what it wraps, and nothing else.
type middleware struct{ inner http.ResponseWriter }

func (m middleware) Header() http.Header         { return m.inner.Header() }
func (m middleware) Write(p []byte) (int, error) { return m.inner.Write(p) }
func (m middleware) WriteHeader(status int)      { m.inner.WriteHeader(status) }
func (m middleware) Unwrap() http.ResponseWriter { return m.inner }

func TestUpgradeThroughMiddleware(t *testing.T) {
	address := listenWith(t, func(w http.ResponseWriter, r *http.Request) (*websocket.Conn, error) {
		return Upgrade(middleware{w}, r)
	}, func(*websocket.Conn) {})
	dialWS(t, address)
}

// TestUpgradeRefusesEarlyFrames sends a frame in one write with the request. net/http has buffered
// the frame by then, and the server must not continue without it.
func TestUpgradeRefusesEarlyFrames(t *testing.T) {
	refused := make(chan error, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := Upgrade(w, r)
		refused <- err
	}))
	defer s.Close()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(testTimeout)); err != nil {
		t.Fatal(err)
	}
	request := "GET / HTTP/1.1\r\nHost: remote.example\r\nConnection: Upgrade\r\nUpgrade: " +
		"websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
	early := frame{final: true, opcode: websocket.TextMessage, mask: &testMask,
		payload: []byte("early")}.append(nil)
	if _, err := conn.Write(append([]byte(request), early...)); err != nil {
		t.Fatal(err)
	}
	if err := <-refused; err == nil {
		t.Error("the upgrade has no error")
	}
	if response, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
		t.Errorf("the answer is %s, want none", response.Status)
	}
}
