package socks

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
)

// forwardTests are requests as the client sends them and as the target gets them,
// and the target's responses as it sends them and as the client gets them.
var forwardTests = []struct {
	name                       string
	request, asked, said, want string
}{
	{
		"fields for one hop are taken out",
		"GET http://a.test/ HTTP/1.1\r\nHost: other.test\r\nConnection: keep-alive, X-Hop\r\n" +
			"Keep-Alive: 5\r\nProxy-Connection: keep-alive\r\n" +
			"Proxy-Authorization: " + basicLogin +
			"\r\nX-Hop: 1\r\nTE: trailers\r\nCookie: a=b\r\nX-End: 2\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a.test\r\nCookie: a=b\r\nX-End: 2\r\n\r\n",
		"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: 5\r\nX-Hop: 1\r\n" +
			"Proxy-Authenticate: Basic\r\nX-End: 2\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nX-End: 2\r\nContent-Length: 2\r\n\r\nok",
	}, {
		"the path stays as it is",
		"GET http://a.test:8080/a|b/%7e/%2F../;x=\"?q={1}&%zz HTTP/1.1\r\nHost: x\r\nUser-Agent: u\r\n" +
			"\r\n",
		"GET /a|b/%7e/%2F../;x=\"?q={1}&%zz HTTP/1.1\r\nHost: a.test:8080\r\nUser-Agent: u\r\n\r\n",
		"HTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.1 204 No Content\r\n\r\n",
	}, {
		"a path of two slashes",
		"GET http://a.test//b?c HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET //b?c HTTP/1.1\r\nHost: a.test\r\n\r\n",
		"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n",
		"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n",
	}, {
		"no path",
		"GET http://a.test?c HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /?c HTTP/1.1\r\nHost: a.test\r\n\r\n",
		"HTTP/1.1 404 Nothing Here\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 404 Nothing Here\r\nContent-Length: 0\r\n\r\n",
	}, {
		"about the server as a whole",
		"OPTIONS http://a.test HTTP/1.1\r\nHost: x\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n",
		"HTTP/1.1 200 OK\r\nAllow: GET\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nAllow: GET\r\nContent-Length: 0\r\n\r\n",
	}, {
		"chunks and a trailer, both ways",
		"POST http://a.test/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n" +
			"3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n3\r\n" +
			"abc\r\n0\r\nX-T: 1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n3\r\nabc\r\n0\r\n" +
			"X-T: 1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n3\r\nabc\r\n0\r\n" +
			"X-T: 1\r\n\r\n",
	}, {
		"a length",
		"PUT http://a.test/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
		"PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc",
		"HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\nabc",
		"HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\nabc",
	}, {
		"the length of what HEAD doesn't get",
		"HEAD http://a.test/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n",
	}, {
		"a client of 1.0 gets the end of file",
		"GET http://a.test/ HTTP/1.0\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc",
	}, {
		"Expect of a client that can't wait",
		"POST http://a.test/ HTTP/1.0\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nab",
		"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nab",
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
	}, {
		"early hints go through",
		"GET http://a.test/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: x\r\n\r\nHTTP/1.1 200 OK\r\n" +
			"Content-Length: 0\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
	}, {
		"what ends with the connection",
		"GET http://a.test/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n" +
			"Upgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
		"HTTP/1.0 200 OK\r\n\r\nabc\x00",
		"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nabc",
	},
}

// TestForward compares both messages byte for byte. The target closes its half
// where its response is marked with a NUL, and else keeps its connection.
func TestForward(t *testing.T) {
	for _, tt := range forwardTests {
		t.Run(tt.name, func(t *testing.T) {
			near, far := tcpPair(t)
			conn := connect(t, startServer(t, Config{Dial: dialTo(near)}))
			mustWrite(t, conn, tt.request)
			mustRead(t, far, tt.asked)
			said, ends := strings.CutSuffix(tt.said, "\x00")
			mustWrite(t, far, said)
			if ends {
				far.CloseWrite()
			}
			mustRead(t, conn, tt.want)
			// Nothing follows on either side.
			conn.CloseWrite()
			if rest, err := io.ReadAll(conn); err != nil || len(rest) != 0 {
				t.Errorf("the client gets %q, %v", rest, err)
			}
			if rest, err := io.ReadAll(far); err != nil || len(rest) != 0 {
				t.Errorf("the target gets %q, %v", rest, err)
			}
		})
	}
}

// TestNothingIsHeld: each piece of a body goes through before the next is sent,
// both ways and at once.
func TestNothingIsHeld(t *testing.T) {
	for _, framing := range []string{"Transfer-Encoding: chunked\r\n\r\n",
		"Content-Length: 10\r\n\r\n"} {
		near, far := tcpPair(t)
		conn := connect(t, startServer(t, Config{Dial: dialTo(near)}))
		piece, last := "1\r\nx\r\n", "0\r\n\r\n"
		if strings.HasPrefix(framing, "Content-Length") {
			piece, last = "x", ""
		}
		mustWrite(t, conn, "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\n"+framing)
		mustRead(t, far, "POST / HTTP/1.1\r\nHost: a.test\r\n"+framing)
		mustWrite(t, conn, piece)
		mustRead(t, far, piece)
		mustWrite(t, far, "HTTP/1.1 200 OK\r\n"+framing)
		mustRead(t, conn, "HTTP/1.1 200 OK\r\n"+framing)
		for range 9 {
			mustWrite(t, far, piece)
			mustRead(t, conn, piece)
			mustWrite(t, conn, piece)
			mustRead(t, far, piece)
		}
		mustWrite(t, far, piece+last)
		mustRead(t, conn, piece+last)
		// The response is over, and the upload may not be.
		if last != "" {
			mustWrite(t, conn, piece+last)
			mustRead(t, far, piece+last)
		}
		mustWrite(t, conn, getA)
		mustRead(t, far, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
	}
}

// TestCutShortResponse: whatever way a target breaks a response off, its client
// doesn't take it for complete.
func TestCutShortResponse(t *testing.T) {
	for _, version := range []string{"1.0", "1.1"} {
		for said, resets := range map[string]bool{
			"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc":                        false,
			"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabcd":                       true,
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n":      false,
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n":     true,
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc":          false,
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nz\r\n": false,
			"HTTP/1.0 200 OK\r\n\r\nabc":                                             true,
		} {
			near, far := tcpPair(t)
			conn := connect(t, startServer(t, Config{Dial: dialTo(near)}))
			mustWrite(t, conn, "GET http://a.test/ HTTP/"+version+"\r\nHost: a.test\r\n\r\n")
			mustRead(t, far, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
			mustWrite(t, far, said)
			in := bufio.NewReader(conn)
			resp := mustGetResponse(t, in, "GET")
			// net/http reads on within a chunk
			if !strings.HasSuffix(said, "9\r\nabc") && !strings.HasSuffix(said, "z\r\n") {
				mustRead(t, resp.Body, "abc")
			}
			if resets {
				reset(far)
			} else {
				far.CloseWrite()
			}
			if _, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("HTTP/%s, %q: the response looks complete", version, said)
			}
		}
	}
}

// TestNoResponse: a target that answers nothing, or nonsense, or too much.
func TestNoResponse(t *testing.T) {
	for _, said := range []string{
		"", "SSH-2.0-OpenSSH\r\n\r\n", strings.Repeat("\r\n", maxLineEnds), "HTTP/1.1 200 OK\r\nX:",
		strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", maxInterim+1),
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
		"HTTP/1.1 200 OK\r\nContent-Length: 3, x\r\n\r\nabc",
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", maxTargetHead) + "\r\n\r\n",
		"HTTP/1.1 200 OK\r\n" + strings.Repeat("X:\r\n", maxTargetFields+1) + "\r\n",
	} {
		for _, extra := range []string{"", "Connection: Upgrade\r\nUpgrade: websocket\r\n"} {
			near, far := tcpPair(t)
			conn := connect(t, startServer(t, Config{Dial: dialTo(near)}))
			mustWrite(t, conn, "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n"+extra+"\r\n")
			if _, err := http.ReadRequest(bufio.NewReader(far)); err != nil {
				t.Fatal(err)
			}
			go func() {
				io.WriteString(far, said)
				far.CloseWrite()
			}()
			in := bufio.NewReader(conn)
			resp := mustGetResponse(t, in, "GET")
			for resp.StatusCode == http.StatusProcessing {
				resp = mustGetResponse(t, in, "GET")
			}
			if body, err := io.ReadAll(resp.Body); resp.StatusCode != 502 ||
				string(body) != "a.test:80: no valid response\n" || err != nil {
				t.Errorf("%.30q: %s, %q, %v", said, resp.Status, body, err)
			}
		}
	}
}

// TestExpectContinue: the client is told to go on when the target wants the body,
// or doesn't say, and not when it refuses it.
func TestExpectContinue(t *testing.T) {
	const request = "Content-Length: 4\r\nExpect: 100-continue\r\n\r\n"
	for says, wants := range map[string]bool{"HTTP/1.1 100 Continue\r\n\r\n": true, "": true,
		"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n": false} {
		synctest.Test(t, func(t *testing.T) {
			conn, far := overPipes(t)
			mustWrite(t, conn, "POST http://a.test/ HTTP/1.1\r\nHost: x\r\n"+request)
			mustRead(t, far, "POST / HTTP/1.1\r\nHost: a.test\r\n"+request)
			synctest.Wait()
			began := time.Now()
			go io.WriteString(far, says)
			if !wants {
				mustRead(t, conn, "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
				checkClosedAtOnce(t, conn)
				return
			}
			mustRead(t, conn, "HTTP/1.1 100 Continue\r\n\r\n")
			if d := time.Since(began); says == "" && d != continueTimeout || says != "" && d != 0 {
				t.Errorf("told after %v", d)
			}
			go io.WriteString(conn, "body")
			mustRead(t, far, "body")
			go io.WriteString(far, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			mustRead(t, conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		})
	}
}

// TestTargetTakesNoMore: a target that goes in the middle of an upload, whose
// client is silent then, is told of at once.
func TestTargetTakesNoMore(t *testing.T) {
	near, far := tcpPair(t)
	conn := connect(t, startServer(t, Config{Dial: dialTo(near)}))
	mustWrite(t, conn, "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9\r\n\r\nabc")
	mustRead(t, far, "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9\r\n\r\nabc")
	reset(far)
	resp := mustGetResponse(t, bufio.NewReader(conn), "POST")
	if resp.StatusCode != 502 || !resp.Close {
		t.Errorf("%s, close %v", resp.Status, resp.Close)
	}
}

// TestClientCutsUpload: an upload that its client cuts short is cut short for the
// target.
func TestClientCutsUpload(t *testing.T) {
	for _, framing := range []string{"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
		"Content-Length: 9\r\n\r\nabc"} {
		near, far := tcpPair(t)
		conn := connect(t, startServer(t, Config{Dial: dialTo(near)}))
		mustWrite(t, conn, "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\n"+framing)
		req, err := http.ReadRequest(bufio.NewReader(far))
		if err != nil {
			t.Fatal(err)
		}
		mustRead(t, req.Body, "abc")
		conn.Close()
		if _, err := io.ReadAll(req.Body); err == nil {
			t.Error("the upload looks complete")
		}
	}
}

// TestKeepAlive: one client connection carries many requests to several targets,
// each of which is dialed once.
func TestKeepAlive(t *testing.T) {
	site := startHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body)
		io.WriteString(w, r.Host)
	})
	var dials atomic.Int32
	conn := connect(t, startServer(t, Config{Dial: func(ctx context.Context, network,
		address string) (net.Conn, error) {
		dials.Add(1)
		return dialAlways(site)(ctx, network, address)
	}}))
	in := bufio.NewReader(conn)
	var requests bytes.Buffer
	for range 10 {
		for _, host := range []string{"a.test", "b.test"} {
			requests.WriteString("POST http://" + host +
				"/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nto \r\n" +
				"GET http://" + host + "/ HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 5000) + "\r\n\r\n")
		}
	}
	go conn.Write(requests.Bytes()) // pipelined
	for range 10 {
		for _, host := range []string{"a.test", "b.test"} {
			for _, want := range []string{"to " + host, host} {
				body, err := io.ReadAll(mustGetResponse(t, in, "GET").Body)
				if err != nil || string(body) != want {
					t.Fatalf("got %q, %v; want %q", body, err, want)
				}
			}
		}
	}
	if n := dials.Load(); n != 2 {
		t.Errorf("%d dials", n)
	}
}

// TestLargeBodies streams 64 MiB up and down at once.
func TestLargeBodies(t *testing.T) {
	const size = 64 << 20
	site := startHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		io.Copy(w, r.Body)
	})
	client := proxied(t, startServer(t, Config{Dial: dialAlways(site)}))
	block := []byte(counted(0, 1<<20))
	sent, got := sha256.New(), sha256.New()
	up, upEnd := io.Pipe()
	go func() {
		for range size / len(block) {
			upEnd.Write(block)
			sent.Write(block)
		}
		upEnd.Close()
	}()
	resp, err := client.Post("http://a.test/", "", up)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(got, resp.Body); n != size || err != nil ||
		!bytes.Equal(got.Sum(nil), sent.Sum(nil)) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// TestWebSocket: an upgrade through a plain request, with gorilla at both ends,
// and data that the server sends with its response.
func TestWebSocket(t *testing.T) {
	site := startHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		ws, err := new(websocket.Upgrader).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		ws.WriteMessage(websocket.TextMessage, []byte("hello"))
		for {
			kind, message, err := ws.ReadMessage()
			if err != nil || ws.WriteMessage(kind, message) != nil {
				return
			}
		}
	})
	addr := startServer(t, Config{Dial: dialAlways(site)})
	// gorilla's own way through a proxy would be CONNECT.
	dialer := websocket.Dialer{NetDialContext: func(context.Context, string, string) (net.Conn,
		error) {
		return absoluteConn{connect(t, addr)}, nil
	}}
	ws, resp, err := dialer.Dial("ws://a.test/chat", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	if resp.Header.Get("Upgrade") != "websocket" {
		t.Errorf("%v", resp.Header)
	}
	for _, want := range []string{"hello", "one", strings.Repeat("two", 100000)} {
		if want != "hello" {
			ws.WriteMessage(websocket.BinaryMessage, []byte(want))
		}
		if _, got, err := ws.ReadMessage(); err != nil || string(got) != want {
			t.Fatalf("got %d bytes, %v", len(got), err)
		}
	}
}

// absoluteConn makes the request of a WebSocket client one for a proxy.
type absoluteConn struct{ net.Conn }

func (c absoluteConn) Write(p []byte) (int, error) {
	if rest, ok := bytes.CutPrefix(p, []byte("GET /")); ok {
		_, err := c.Conn.Write(append([]byte("GET http://a.test/"), rest...))
		return len(p), err
	}
	return c.Conn.Write(p)
}

// TestUpgradeRefused: a target that doesn't switch answers as to any request.
func TestUpgradeRefused(t *testing.T) {
	near, far := tcpPair(t)
	conn := connect(t, startServer(t, Config{Dial: dialTo(near)}))
	mustWrite(t, conn,
		"GET http://a.test/ HTTP/1.1\r\nHost: x\r\nConnection: X-Hop, upgrade\r\nX-Hop: 1\r\n"+
			"Upgrade: websocket\r\n\r\n")
	mustRead(t, far,
		"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	mustWrite(t, far,
		"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno")
	mustRead(t, conn,
		"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno")
	// Another request may follow, on another connection to the target.
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the target sees %v", err)
	}
}
