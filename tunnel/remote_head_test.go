package tunnel

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"culvert/internal/testnet"
)

// serveFallback serves a remote with a fallback site, with TLS or without, and returns how to
// connect to it. The site answers with what it gets, whatever that is.
func serveFallback(t *testing.T, secure bool) (connect func() net.Conn) {
	t.Helper()
	site := httptest.NewUnstartedServer(http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintln(w, r.Method, r.RequestURI, r.Header.Get("X-Forwarded-Proto"), len(body))
		}))
	site.Config.DisableGeneralOptionsHandler = true
	site.Start()
	t.Cleanup(site.Close)
	target, err := ParseFallback(site.URL)
	if err != nil {
		t.Fatal(err)
	}
	certified := httptest.NewTLSServer(nil) // for its certificate
	certified.Close()
	remote := serveRemote(t, trustKeys(t, newKey(t)), false, func(cfg *RemoteConfig) {
		cfg.Path, cfg.Fallback = "/tunnel", target
		if secure {
			cfg.TLS = &tls.Config{Certificates: certified.TLS.Certificates}
		}
	})
	return func() net.Conn {
		conn := net.Conn(testnet.Dial(t, remote.address, patience))
		conn.SetDeadline(time.Now().Add(patience))
		if secure {
			conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		}
		return conn
	}
}

// TestHeads: a head of too many lines is refused before its end has come, on each request of a
// connection. Lines of bodies don't count, nor is OPTIONS * answered by the remote itself.
func TestHeads(t *testing.T) {
	t.Parallel()
	fields := func(n int) string { return strings.Repeat("a:\r\n", n) }
	body := strings.Repeat("a line\n", 2*maxRequestLines)
	const request = "GET / HTTP/1.1\r\nHost: a\r\n"
	post := fmt.Sprintf("POST /form HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n%s\r\n%s",
		len(body), fields(100), body)
	for scheme, secure := range map[string]bool{"http": false, "https": true} {
		connect := serveFallback(t, secure)
		conn := connect()
		defer conn.Close()
		answers := bufio.NewReader(conn)
		ask := func(request string, status int, want string) {
			t.Helper()
			io.WriteString(conn, request)
			response, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatalf("%s: %v", scheme, err)
			}
			defer response.Body.Close()
			text, err := io.ReadAll(response.Body)
			if response.StatusCode != status || string(text) != want || err != nil {
				t.Errorf("%s: %s, %q, %v, want %d, %q", scheme, response.Status, text, err, status, want)
			}
		}
		formed := fmt.Sprintf("POST /form %s %d\n", scheme, len(body))
		ask(post, http.StatusOK, formed)
		ask("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", http.StatusOK, "OPTIONS * "+scheme+" 0\n")
		ask(post+post, http.StatusOK, formed)
		ask("", http.StatusOK, formed)
		ask(request+"\r\n"+post[:len(post)-len(body)-2], http.StatusOK, "GET / "+scheme+" 0\n")
		ask("\r\n"+body, http.StatusOK, formed)
		ask(request+fields(maxRequestLines), http.StatusRequestHeaderFieldsTooLarge,
			"431 Request Header Fields Too Large") // without the end
	}
}

// TestHeadsTogether: a head counts that comes together with the request before, whether that has a
// body or not.
func TestHeadsTogether(t *testing.T) {
	t.Parallel()
	second := "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("a:\r\n", maxRequestLines) + "\r\n"
	for scheme, secure := range map[string]bool{"http": false, "https": true} {
		connect := serveFallback(t, secure)
		for name, first := range map[string]string{
			"no body": "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
			"length":  "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\na\nb\n",
			"cut":     "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\na\nbb",
			"chunked": "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" +
				"2\r\na\n\r\n0\r\n\r\n",
		} {
			conn := connect()
			defer conn.Close()
			io.WriteString(conn, first+second)
			answers := bufio.NewReader(conn)
			for _, want := range []int{http.StatusOK, http.StatusRequestHeaderFieldsTooLarge} {
				response, err := http.ReadResponse(answers, nil)
				if err != nil {
					t.Fatalf("%s, %s: %v, want %d", scheme, name, err, want)
				}
				io.Copy(io.Discard, response.Body)
				response.Body.Close()
				if response.StatusCode != want {
					t.Errorf("%s, %s: %s, want %d", scheme, name, response.Status, want)
				}
			}
		}
	}
}

// TestWithoutHead: what has come together with a request is left to whoever hijacks it.
func TestWithoutHead(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	behind := strings.Repeat("\n", 1000) + strings.Repeat("a line\n", 100)
	got := make(chan string, 1)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, buffers, err := http.NewResponseController(w).Hijack()
		if err != nil {
			got <- err.Error()
			return
		}
		bare := withoutHead(conn, buffers.Reader)
		defer bare.Close()
		read, _ := buffers.Reader.Peek(buffers.Reader.Buffered())
		more := make([]byte, len(behind)-len(read))
		io.ReadFull(bare, more)
		got <- string(read) + string(more)
	})}
	server.ConnState = func(conn net.Conn, state http.ConnState) { conn.(*headConn).note(state) }
	go server.Serve(headListener{Listener: ln})
	defer server.Close()
	conn := testnet.Dial(t, ln.Addr().String(), patience)
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"+behind)
	if text := <-got; text != behind {
		t.Errorf("got %d bytes, %q, want %d", len(text), text[:min(len(text), 100)], len(behind))
	}
}

// TestPlainForTLS: who speaks HTTP where TLS is spoken is told so.
func TestPlainForTLS(t *testing.T) {
	t.Parallel()
	conn := serveFallback(t, true)().(*tls.Conn).NetConn()
	defer conn.Close()
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	answer, err := io.ReadAll(conn)
	if !strings.HasSuffix(string(answer), "Client sent an HTTP request to an HTTPS server.\n") {
		t.Errorf("%q, %v", answer, err)
	}
}
