package socks

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Literal pieces of the wire. The token is alice:secret.
const (
	basicToken  = "YWxpY2U6c2VjcmV0"
	basicLogin  = "Basic " + basicToken
	established = "HTTP/1.1 200 Connection established\r\n\r\n"
	getA        = "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"
)

// httpRefusals are requests that the proxy answers by itself, and then closes.
var httpRefusals = []struct {
	name   string
	sent   string
	status string
}{
	{"no proxy request", "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n", "400"},
	{"another scheme", "GET https://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n",
		"400"},
	{"no host in the URL", "GET http:///x HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n",
		"400"},
	{"user name and no host in the URL",
		"GET http://u:p@/ HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n", "400"},
	{"user name with two ends in the URL",
		"GET http://u@b.test@a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n", "400"},
	{"user name behind what some take for the host",
		"GET http://b.test\\@a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n", "400"},
	{"angle in the name", "GET http://a<b/ HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n",
		"400"},
	{"name not ASCII",
		"GET http://b\u00fccher.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n", "400"},
	{"long name", "GET http://" + name255 + "x/ HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n",
		"400"},
	{"connect to a long name", "CONNECT " + name255 + "x:443 HTTP/1.1\r\n\r\n", "400"},
	{"port 0", "GET http://a.test:0/ HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n", "400"},
	{"port too large",
		"GET http://a.test:65536/ HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n", "400"},
	{"space in the name", "GET http://a%20b/ HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n",
		"400"},
	{"connect without port", "CONNECT a.test HTTP/1.1\r\n\r\n", "400"},
	{"connect to port 0", "CONNECT a.test:0 HTTP/1.1\r\n\r\n", "400"},
	{"connect to a path", "CONNECT /x HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"connect to host and path", "CONNECT a.test:443/x HTTP/1.1\r\n\r\n", "400"},
	{"connect to an IPv6 address without port", "CONNECT 2001:db8::1 HTTP/1.1\r\n\r\n", "400"},
	{"connect to another list of colons", "CONNECT 2001:db8:::1:443 HTTP/1.1\r\n\r\n", "400"},
	{"connect with user name", "CONNECT u@a.test:443 HTTP/1.1\r\n\r\n", "400"},
	{"connect with body", "CONNECT a.test:443 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "400"},
	{"connect with chunks",
		"CONNECT a.test:443 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
	{"length and coding",
		"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n" +
			"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
	{"two lengths",
		"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\nContent-Length: 4\r\n" +
			"\r\nabc", "400"},
	{"negative length", "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: -3\r\n\r\n",
		"400"},
	{"unknown coding",
		"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
		"400"},
	{"coding in 1.0", "POST http://a.test/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"400"},
	{"folded field", "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nX-A: b\r\n c: d\r\n\r\n", "400"},
	{"folded with tab", "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nX-A: b\r\n\tc: d\r\n\r\n",
		"400"},
	{"space before colon", "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nX-A : b\r\n\r\n", "400"},
	{"carriage return alone", "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nX-A: b\rX-B: c\r\n\r\n",
		"400"},
	{"NUL", "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nX-A: b\x00\r\n\r\n", "400"},
	{"two hosts", "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n", "400"},
	{"no host field", "GET http://a.test/ HTTP/1.1\r\n\r\n", "400"},
	{"no version", "GET http://a.test/\r\n\r\n", "400"},
	{"not HTTP", "HELO a.test\r\n\r\n", "400"},
	{"not HTTP, nor capital letters", "a001 LOGIN x y\r\n\r\n", "400"},
	{"a method in other places", "\rpatch http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"another version", "GET http://a.test/ HTTP/3.0\r\nHost: a.test\r\n\r\n", "505"},
	{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"},
	{"large head", "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nX-A: " + strings.Repeat("a",
		maxHead) + "\r\n\r\n", "431"},
}

func TestHTTPRefusals(t *testing.T) {
	for _, tt := range httpRefusals {
		for _, step := range []int{1, 1000, len(tt.sent)} {
			t.Run(tt.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ln, dialed := wireServer(t, false)
					conn := ln.dial()
					defer conn.Close()
					go func() {
						for b := []byte(tt.sent); len(b) > 0; b = b[min(step, len(b)):] {
							if _, err := conn.Write(b[:min(step, len(b))]); err != nil {
								return
							}
						}
					}()
					in := bufio.NewReader(conn)
					resp := mustGetResponse(t, in, "GET")
					body, err := io.ReadAll(resp.Body)
					if !strings.HasPrefix(resp.Status, tt.status+" ") || err != nil || len(body) == 0 ||
						!resp.Close {
						t.Errorf("got %q, %q, %v", resp.Status, body, err)
					}
					if rest, err := io.ReadAll(in); err != nil || len(rest) != 0 {
						t.Errorf("then %q, %v", rest, err)
					}
					if *dialed != "" {
						t.Errorf("dialed %q", *dialed)
					}
				})
			})
		}
	}
}

func mustGetResponse(t *testing.T, in *bufio.Reader, method string) *http.Response {
	t.Helper()
	resp, err := http.ReadResponse(in, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

var dialStatusTests = []struct {
	reply  Reply
	status int
	says   string
}{
	{ReplyGeneralFailure, 502, "can't be reached"},
	{ReplyNotAllowed, 403, "not allowed"},
	{ReplyNetworkUnreachable, 502, "network unreachable"},
	{ReplyHostUnreachable, 502, "host unreachable"},
	{ReplyConnectionRefused, 502, "connection refused"},
	{ReplyTTLExpired, 504, "timed out"},
	{ReplyNameNotFound, 502, "name not found"},
	{ReplyUnavailable, 503, "no connection to the remote"},
	{ReplyLookupFailed, 502, "name can't be looked up"},
	{ReplyBusy, 503, "the remote accepts no more connections"},
}

// TestDialStatus: each failure of a dial has its status and its words. After one
// of a plain request the client may go on.
func TestDialStatus(t *testing.T) {
	for _, tt := range dialStatusTests {
		synctest.Test(t, func(t *testing.T) {
			ln := newPipeListener()
			serve(t, newServer(t, Config{Dial: dialFails(io.EOF),
				Classify: func(error) Reply { return tt.reply }}), ln)
			conn := ln.dial()
			defer conn.Close()
			in := bufio.NewReader(conn)
			for _, request := range []string{getA, "HEAD http://b.test/x HTTP/1.1\r\nHost: b.test\r\n\r\n",
				"CONNECT c.test:443 HTTP/1.1\r\n\r\n"} {
				go io.WriteString(conn, request)
				method, _, _ := strings.Cut(request, " ")
				resp := mustGetResponse(t, in, method)
				body, err := io.ReadAll(resp.Body)
				if want := fmt.Sprintf("%d %s", tt.status, tt.says); resp.Status != want {
					t.Errorf("%s: status %q, want %q", method, resp.Status, want)
				}
				if resp.StatusCode != tt.status || err != nil || resp.Close != (method == "CONNECT") {
					t.Errorf("%s: %s, close %v, %v", method, resp.Status, resp.Close, err)
				}
				if method != "HEAD" && !strings.HasSuffix(string(body), ": "+tt.says+"\n") {
					t.Errorf("%s: it says %q", method, body)
				}
				if resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
					t.Errorf("%s: %v", method, resp.Header)
				}
			}
			if rest, err := io.ReadAll(in); err != nil || len(rest) != 0 {
				t.Errorf("then %q, %v", rest, err)
			}
		})
	}
}

// TestHTTPAuth: only the right credentials of the Basic scheme pass, and they go
// no further.
func TestHTTPAuth(t *testing.T) {
	for _, field := range []string{
		"", "Authorization: " + basicLogin + "\r\n", "Proxy-Authorization: " + basicToken + "\r\n",
		"Proxy-Authorization: Digest " + basicToken + "\r\n",
		"Proxy-Authorization: Basic YWxpY2U6c2VjcmVU\r\n",
		"Proxy-Authorization: Basic YWxpY2U6c2VjcmU=\r\n", "Proxy-Authorization: Basic !\r\n",
		"Proxy-Authorization: Basic\r\n",
		"Proxy-Authorization: Basic Og==\r\n", "Proxy-Authorization: Basic YWxpY2Vz\r\n",
	} {
		synctest.Test(t, func(t *testing.T) {
			ln, dialed := wireServer(t, true)
			conn := ln.dial()
			defer conn.Close()
			in := bufio.NewReader(conn)
			for _, first := range []string{"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n",
				"GET / HTTP/1.1\r\nHost: a.test\r\n", "CONNECT a.test:80 HTTP/1.1\r\n"} {
				go io.WriteString(conn, first+field+"\r\n")
				resp := mustGetResponse(t, in, "GET")
				io.Copy(io.Discard, resp.Body)
				if resp.StatusCode != 407 ||
					resp.Header.Get("Proxy-Authenticate") != `Basic realm="proxy", charset="UTF-8"` {
					t.Errorf("%q: %s, %v", field, resp.Status, resp.Header)
				}
			}
			if *dialed != "" {
				t.Errorf("%q: dialed %q", field, *dialed)
			}
		})
	}
	for _, scheme := range []string{"Basic ", "basic ", "Basic  "} {
		synctest.Test(t, func(t *testing.T) {
			ln, dialed := wireServer(t, true)
			conn := ln.dial()
			defer conn.Close()
			go io.WriteString(conn,
				"CONNECT a.test:80 HTTP/1.1\r\nProxy-Authorization: "+scheme+basicToken+"\r\n\r\n")
			if got, err := io.ReadAll(conn); err != nil || string(got) != established ||
				*dialed != "a.test:80" {
				t.Errorf("%q: got %q, %v; dialed %q", scheme, got, err, *dialed)
			}
		})
	}
}

// TestRequestTarget: what a request names is what is dialed.
func TestRequestTarget(t *testing.T) {
	for sent, want := range map[string]string{
		"CONNECT a.test:443 HTTP/1.1\r\n\r\n":                    "a.test:443",
		"CONNECT a.test:443 HTTP/1.0\r\n\r\n":                    "a.test:443",
		"CONNECT a.test:443 HTTP/1.1\r\nHost: b.test:80\r\n\r\n": "a.test:443",
		"CONNECT 192.0.2.7:1 HTTP/1.1\r\n\r\n":                   "192.0.2.7:1",
		"CONNECT [2001:db8::1]:65535 HTTP/1.1\r\n" +
			"\r\n": "[2001:db8::1]:65535",
		"CONNECT 2001:db8::1:443 HTTP/1.1\r\n" +
			"\r\n": "[2001:db8::1]:443",
		"GET http://u:p%40@[2001:db8::1]:8080/ HTTP/1.1\r\nHost: a\r\n" +
			"\r\n": "[2001:db8::1]:8080",
		"GET http://a.test HTTP/1.1\r\nHost: b.test\r\n\r\n":                          "a.test:80",
		"GET http://a.test:8080/x HTTP/1.0\r\n\r\n":                                   "a.test:8080",
		"GET http://[2001:db8::1]/ HTTP/1.1\r\nHost: a\r\n\r\n":                       "[2001:db8::1]:80",
		"\r\nGET http://a.test HTTP/1.1\nHost: b.test\n\n":                            "a.test:80",
		"GET http://a.test HTTP/1.1\nHost: b.test\n\n":                                "a.test:80",
		"GET HTTP://A.test HTTP/1.1\r\nHost: b.test\r\n\r\n":                          "a.test:80",
		"GET http://a.test/ HTTP/1.1\r\nHost: a\r\nX: " + name255 + "\r\nY: \r\n\r\n": "a.test:80",
	} {
		synctest.Test(t, func(t *testing.T) {
			ln, dialed := wireServer(t, false)
			conn := ln.dial()
			defer conn.Close()
			go io.WriteString(conn, sent)
			conn.SetDeadline(time.Now().Add(time.Second))
			io.ReadAll(conn)
			if !strings.EqualFold(*dialed, want) {
				t.Errorf("%q: dialed %q, want %q", sent, *dialed, want)
			}
		})
	}
}

// TestFirstByte: a connection's first request may begin with any byte of a token, or with an empty
// line, as those behind it may. What begins with another byte is no request, and closed at once.
func TestFirstByte(t *testing.T) {
	const request = "x http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"
	for b := range 256 {
		first := string([]byte{byte(b)})
		want := ""
		switch {
		case b == socks4Version, b == socks5Version, b == '\r': // alone it is no line end
			continue
		case b == '\n', isTokenByte(byte(b)):
			want = "a.test:80"
		}
		synctest.Test(t, func(t *testing.T) {
			ln, dialed := wireServer(t, false)
			conn := ln.dial()
			defer conn.Close()
			if want == "" {
				go io.WriteString(conn, first)
				checkClosedAtOnce(t, conn)
				return
			}
			go io.WriteString(conn, first+request)
			mustGetResponse(t, bufio.NewReader(conn), "GET")
			if *dialed != want {
				t.Errorf("%q: dialed %q", first, *dialed)
			}
		})
	}
}

// TestFirstMethod: a method's case is the client's, in a first request too.
func TestFirstMethod(t *testing.T) {
	for _, ahead := range []string{"", "\r\n", "\n", "\r\n\r\n"} {
		near, far := tcpPair(t)
		conn := connect(t, startServer(t, Config{Dial: dialTo(near)}))
		for range 2 {
			mustWrite(t, conn, ahead+"patch http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n")
			mustRead(t, far, "patch / HTTP/1.1\r\nHost: a.test\r\n\r\n")
			mustWrite(t, far, okA)
			mustRead(t, conn, okA)
		}
	}
}

// TestSilentProtocols: a client that speaks another protocol than this port's, and waits for its
// server, is closed in time.
func TestSilentProtocols(t *testing.T) {
	for _, sent := range []string{"SSH-2.0-x\r\n", "*1\r\n$4\r\nPING\r\n", "a1 NOOP\r\n", "\r\n"} {
		synctest.Test(t, func(t *testing.T) { checkSilence(t, false, sent, "") })
	}
}

// TestConnectRelays: what follows a CONNECT is the target's, also what was sent
// ahead of the answer behind a head of any size.
func TestConnectRelays(t *testing.T) {
	for _, size := range []int{1, readBufferSize - 1, readBufferSize, readBufferSize + 1,
		maxHead - 100} {
		synctest.Test(t, func(t *testing.T) {
			conn, far := overPipes(t)
			early := counted(0, 5000)
			go io.WriteString(conn, "CONNECT a.test:443 HTTP/1.1\r\nX: "+strings.Repeat("x",
				size)+"\r\n\r\n"+early)
			mustRead(t, conn, established)
			mustRead(t, far, early)
			go io.WriteString(far, "answer")
			mustRead(t, conn, "answer")
			go io.WriteString(conn, "question")
			mustRead(t, far, "question")
		})
	}
}

// TestHTTPTimes: a client that is silent, and one that drips, is closed in time,
// in every place where it can be.
func TestHTTPTimes(t *testing.T) {
	const answered = "HTTP/1.1 502 can't be reached"
	for _, tt := range []struct {
		sent string
		says string
		want time.Duration
	}{
		{"G", "", DefaultNegotiationTimeout},
		{"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n", "", DefaultNegotiationTimeout},
		{getA, answered, keepAliveTimeout},
		{getA + "G", answered, DefaultNegotiationTimeout},
		{"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9\r\n\r\nabc",
			"HTTP/1.1 400 Bad Request", bodyTimeout},
	} {
		synctest.Test(t, func(t *testing.T) {
			ln := newPipeListener()
			var targets sync.WaitGroup
			defer targets.Wait()
			serve(t, newServer(t, Config{Dial: func(context.Context, string, string) (net.Conn, error) {
				if strings.HasPrefix(tt.sent, "GET") {
					return nil, io.EOF
				}
				near, far := net.Pipe()
				targets.Go(func() { io.Copy(io.Discard, far) })
				return near, nil
			}}), ln)
			conn := ln.dial()
			defer conn.Close()
			began := time.Now()
			go io.WriteString(conn, tt.sent)
			got, err := io.ReadAll(conn)
			if d := time.Since(began); err != nil || !strings.HasPrefix(string(got), tt.says) ||
				d != tt.want {
				t.Errorf("%q: got %q, %v, after %v; want %v", tt.sent, got, err, d, tt.want)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		ln, _ := wireServer(t, false)
		conn := ln.dial()
		defer conn.Close()
		began := time.Now()
		var drip sync.WaitGroup
		defer drip.Wait()
		drip.Go(func() {
			for {
				if _, err := io.WriteString(conn, "G"); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
		if got, err := io.ReadAll(conn); err != nil || len(got) != 0 ||
			time.Since(began) != DefaultNegotiationTimeout {
			t.Errorf("got %q, %v, after %v", got, err, time.Since(began))
		}
	})
}

// proxied is a client of net/http that goes through addr. Its connections end
// with the test.
func proxied(t *testing.T, addr string) *http.Client {
	transport := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: addr})}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: testTimeout}
}

// TestShutdownAnswersFailures: a client whose request was forwarded before the end is told why
// there is no response.
func TestShutdownAnswersFailures(t *testing.T) {
	near, far := tcpPair(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t, Config{Dial: dialTo(near)})
	serve(t, s, ln)
	conn := connect(t, ln.Addr().String())
	mustWrite(t, conn, getA)
	mustRead(t, far, askedA)
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(context.Background()) }()
	<-s.closing
	far.Close()
	in := bufio.NewReader(conn)
	if resp := mustGetResponse(t, in, "GET"); resp.StatusCode != http.StatusBadGateway ||
		!resp.Close {
		t.Errorf("status %d, closes %v", resp.StatusCode, resp.Close)
	}
	conn.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestShutdownDrainsHTTP: a response that has begun is brought to its end, and
// the connection then closed; one that waits for a request is closed at once.
func TestShutdownDrainsHTTP(t *testing.T) {
	began, finish := make(chan struct{}), make(chan struct{})
	site := startHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			http.NewResponseController(w).Flush()
			close(began)
			<-finish
		}
		io.WriteString(w, "a page")
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t, Config{Dial: dialAlways(site)})
	stop := serve(t, s, ln)
	idle := connect(t, ln.Addr().String())
	mustWrite(t, idle, getA)
	idleIn := bufio.NewReader(idle)
	io.Copy(io.Discard, mustGetResponse(t, idleIn, "GET").Body)
	slow := connect(t, ln.Addr().String())
	mustWrite(t, slow, "GET http://a.test/slow HTTP/1.1\r\nHost: a.test\r\n\r\n")
	<-began
	slowIn := bufio.NewReader(slow)
	resp := mustGetResponse(t, slowIn, "GET")
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(context.Background()) }()
	if n, err := idleIn.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("idle connection: %d bytes, %v", n, err)
	}
	close(finish)
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "a page" {
		t.Errorf("got %q, %v", body, err)
	}
	if n, err := slowIn.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("after the response: %d bytes, %v", n, err)
	}
	slow.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	stop()
}

// TestHTTPClientLeaves: a client that goes has its request ended, while it is
// dialed, waited for and answered. An end of file alone doesn't end a dial: it may
// be that of a client that has sent all, and still wants the response.
func TestHTTPClientLeaves(t *testing.T) {
	gone, reached := make(chan string, 1), make(chan struct{}, 1)
	site := startHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		reached <- struct{}{}
		if r.URL.Path == "/answering" {
			http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
		gone <- r.URL.Path
	})
	addr := startServer(t, Config{Dial: func(ctx context.Context, network, address string) (net.Conn,
		error) {
		if address != "dialing.test:80" {
			return dialAlways(site)(ctx, network, address)
		}
		reached <- struct{}{}
		<-ctx.Done()
		gone <- "/dialing"
		return nil, ctx.Err()
	}})
	for _, stage := range []string{"dialing", "waiting", "answering"} {
		conn := connect(t, addr)
		mustWrite(t, conn, "GET http://"+stage+".test/"+stage+" HTTP/1.1\r\nHost: a\r\n\r\n")
		<-reached
		if stage == "answering" {
			mustRead(t, conn, "HTTP/1.1 200 OK\r\n")
		}
		if stage == "dialing" {
			reset(conn)
		}
		conn.Close()
		select {
		case got := <-gone:
			if got != "/"+stage {
				t.Errorf("%s: %s ended", stage, got)
			}
		case <-time.After(testTimeout):
			t.Errorf("%s: the request goes on without its client", stage)
		}
	}
}

// startHTTP serves on loopback until the test ends.
func startHTTP(t *testing.T, handler http.HandlerFunc) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	done := make(chan error, 1)
	go func() { done <- server.Serve(ln) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}
