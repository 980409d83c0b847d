package socks

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// curlProxyError is curl's exit status for a failed proxy handshake.
const curlProxyError = 97

// webServer serves a page of 1 MiB, and echoes what is posted, on the loopback
// address given.
func webServer(t *testing.T, addr string) (port string, page []byte) {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatalf("the test needs a loopback address: %v", err)
	}
	page = []byte(counted(0, 1<<20))
	srv := httptest.NewUnstartedServer(http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPost {
				w.Write(page)
				return
			}
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Errorf("upload: %v", err)
			}
			w.Write(body)
		}))
	srv.Listener.Close()
	srv.Listener = ln
	srv.Start()
	t.Cleanup(srv.Close)
	_, port, err = net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port, page
}

// curl runs the real one and returns its output and exit status.
func curl(t *testing.T, stdin []byte, args ...string) (out []byte, status int) {
	t.Helper()
	path, err := exec.LookPath("curl")
	if err != nil {
		t.Fatal("curl is missing; make test-deps installs it")
	}
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, append([]string{"--silent", "--show-error", "--noproxy",
		""}, args...)...)
	cmd.Env = []string{}
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err = cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		t.Logf("curl: %s", strings.TrimSpace(stderr.String()))
		return out, exit.ExitCode()
	}
	if err != nil {
		t.Fatalf("curl: %v: %s", err, stderr.String())
	}
	return out, 0
}

func TestCurl(t *testing.T) {
	port4, page := webServer(t, "127.0.0.1:0")
	port6, _ := webServer(t, "[::1]:0")
	dialed := make(chan string, 1)
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		dialed <- address
		// Only the dialer knows this name.
		address = strings.Replace(address, "only.remote.test", "127.0.0.1", 1)
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	open := startServer(t, Config{Dial: dial})
	closed := startServer(t, Config{Dial: dial, Username: "alice", Password: "secret"})

	for _, tt := range []struct {
		name   string
		args   []string
		dialed string
	}{
		{"name, resolved by the dialer", []string{"--socks5-hostname", open,
			"http://only.remote.test:" + port4}, "only.remote.test:" + port4},
		{"name, resolved by curl", []string{"--socks5", open, "-4", "http://localhost:" + port4},
			"127.0.0.1:" + port4},
		{"ipv4", []string{"--socks5", open, "http://127.0.0.1:" + port4}, "127.0.0.1:" + port4},
		{"ipv6", []string{"--socks5", open, "http://[::1]:" + port6}, "[::1]:" + port6},
		{"ipv6 through socks5h", []string{"--socks5-hostname", open, "http://[::1]:" + port6},
			"[::1]:" + port6},
		{"socks4a", []string{"--socks4a", open, "http://only.remote.test:" + port4},
			"only.remote.test:" + port4},
		{"socks4", []string{"--socks4", open, "-4", "http://localhost:" + port4},
			"127.0.0.1:" + port4},
		{"http", []string{"-x", "http://" + open, "http://only.remote.test:" + port4},
			"only.remote.test:" + port4},
		{"http to ipv6", []string{"-x", "http://" + open, "http://[::1]:" + port6},
			"[::1]:" + port6},
		{"http 1.0", []string{"-x", "http://" + open, "-0", "http://only.remote.test:" + port4},
			"only.remote.test:" + port4},
		{"connect", []string{"-x", "http://" + open, "-p", "http://only.remote.test:" + port4},
			"only.remote.test:" + port4},
		{"connect to ipv6", []string{"-x", "http://" + open, "-p", "http://[::1]:" + port6},
			"[::1]:" + port6},
		{"connect 1.0", []string{"--proxy1.0", open, "-p", "http://only.remote.test:" + port4},
			"only.remote.test:" + port4},
		{"http credentials", []string{"-x", "http://alice:secret@" + closed,
			"http://only.remote.test:" + port4}, "only.remote.test:" + port4},
		{"connect credentials", []string{"-x", "http://alice:secret@" + closed, "-p",
			"http://only.remote.test:" + port4}, "only.remote.test:" + port4},
		{"credentials after 407", []string{"-x", "http://alice:secret@" + closed, "--proxy-anyauth",
			"http://only.remote.test:" + port4}, "only.remote.test:" + port4},
		{"connect credentials after 407", []string{"-x", "http://alice:secret@" + closed,
			"--proxy-anyauth", "-p", "http://only.remote.test:" + port4},
			"only.remote.test:" + port4},
		{"credentials", []string{"--socks5-hostname", "alice:secret@" + closed,
			"http://only.remote.test:" + port4}, "only.remote.test:" + port4},
		{"credentials that nobody asked for",
			[]string{"--socks5-hostname", "alice:secret@" + open,
				"http://only.remote.test:" + port4}, "only.remote.test:" + port4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, status := curl(t, nil, tt.args...)
			if status != 0 || !bytes.Equal(out, page) {
				t.Fatalf("status %d, %d bytes", status, len(out))
			}
			if got := <-dialed; got != tt.dialed {
				t.Errorf("dialed %q, want %q", got, tt.dialed)
			}
			upload := []byte(counted(5, 3<<20))
			out, status = curl(t, upload, append(tt.args, "--data-binary", "@-")...)
			if <-dialed; status != 0 || !bytes.Equal(out, upload) {
				t.Errorf("upload: status %d, %d bytes", status, len(out))
			}
		})
	}
	checkCurlRefused(t, closed, "http://only.remote.test:"+port4)
	if len(dialed) != 0 {
		t.Errorf("dialed %q", <-dialed)
	}
}

// checkCurlRefused: without the right credentials, curl is refused in every protocol.
func checkCurlRefused(t *testing.T, closed, page string) {
	for _, user := range []string{"alice:wrong@", "bob:secret@", "alice@", ""} {
		for _, tt := range []struct {
			args   []string
			status int
		}{
			{[]string{"--socks5-hostname", user + closed}, curlProxyError},
			{[]string{"--socks4a", user + closed}, curlProxyError},
			// an HTTP status of 400 and more
			{[]string{"-x", "http://" + user + closed, "--fail"}, 22},
			// the proxy's answer to CONNECT
			{[]string{"-x", "http://" + user + closed, "-p"}, 56},
		} {
			if out, status := curl(t, nil, append(tt.args, page)...); status != tt.status ||
				len(out) != 0 {
				t.Errorf("%q: status %d, %d bytes", tt.args, status, len(out))
			}
		}
	}
}

// TestCurlSeesReply checks curl's output after a failed dial, in each protocol.
func TestCurlSeesReply(t *testing.T) {
	for _, tt := range dialStatusTests {
		addr := startServer(t, Config{Dial: dialFails(io.EOF), Classify: func(error) Reply {
			return tt.reply
		}})
		out, status := curl(t, nil, "--write-out", "%{http_code}", "-x", "http://"+addr,
			"http://a.test/")
		if want := fmt.Sprintf("a.test:80: %s\n%d", tt.says, tt.status); status != 0 ||
			string(out) != want {
			t.Errorf("%v: status %d, %q; want %q", tt.reply, status, out, want)
		}
		out, status = curl(t, nil, "--write-out", "%{http_connect}", "-x", "http://"+addr, "-p",
			"http://a.test/")
		if want := fmt.Sprint(tt.status); status != 56 || string(out) != want {
			t.Errorf("%v: status %d, %q; want %q", tt.reply, status, out, want)
		}
		out, status = curl(t, nil, "--write-out", "%{errormsg}", "--socks4a", addr,
			"http://a.test/")
		if status != curlProxyError || !bytes.Contains(out, []byte("(91)")) {
			t.Errorf("%v: status %d, %q; want 91", tt.reply, status, out)
		}
	}
	for r := ReplyGeneralFailure; r <= ReplyAddressTypeNotSupported; r++ {
		addr := startServer(t, Config{Dial: dialFails(io.EOF),
			Classify: func(error) Reply { return r }})
		// Its %{proxy...} variables have no SOCKS code, its message does.
		out, status := curl(t, nil, "--write-out", "%{errormsg}", "--socks5-hostname", addr,
			"http://a.test/")
		if want := fmt.Sprintf("(%d)", r); status != curlProxyError ||
			!bytes.Contains(out, []byte(want)) {
			t.Errorf("reply %d: status %d, %q", r, status, out)
		}
	}
}

// TestCurlLeaves: curl that gives up has its dial cancelled.
func TestCurlLeaves(t *testing.T) {
	cancelled := make(chan struct{})
	addr := startServer(t, Config{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		close(cancelled)
		return nil, ctx.Err()
	}})
	if _, status := curl(t, nil, "--max-time", "0.3", "--socks5-hostname", addr,
		"http://a.test/"); status != 28 {
		t.Errorf("status %d, want curl's timeout", status)
	}
	select {
	case <-cancelled:
	case <-time.After(testTimeout):
		t.Error("the dial goes on without curl")
	}
}

// TestCurlKeepsAlive: two URLs in one run of curl use one connection to the proxy.
func TestCurlKeepsAlive(t *testing.T) {
	port, page := webServer(t, "127.0.0.1:0")
	conn, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := &countingListener{Listener: conn}
	serve(t, newServer(t, Config{Dial: dialAlways("127.0.0.1:" + port)}), ln)
	out, status := curl(t, nil, "-x", "http://"+conn.Addr().String(), "http://a.test/",
		"http://b.test/", "http://a.test/")
	if status != 0 || !bytes.Equal(out, bytes.Repeat(page, 3)) || ln.accepted.Load() != 1 {
		t.Errorf("status %d, %d bytes, %d connections", status, len(out), ln.accepted.Load())
	}
}

type countingListener struct {
	net.Listener
	accepted atomic.Int32
}

func (l *countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.accepted.Add(1)
	}
	return conn, err
}

// TestCurlUploads64MiB through a plain request: of a known length, for which curl first sends
// Expect: 100-continue, and in chunks.
func TestCurlUploads64MiB(t *testing.T) {
	const size = 64 << 20
	site := startHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		n, err := io.Copy(sum, r.Body)
		fmt.Fprintf(w, "%d %v %x", n, err, sum.Sum(nil))
	})
	addr := startServer(t, Config{Dial: dialAlways(site)})
	upload := bytes.Repeat([]byte(counted(0, 1<<20)), size>>20)
	file := filepath.Join(t.TempDir(), "upload")
	if err := os.WriteFile(file, upload, 0o600); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%d <nil> %x", size, sha256.Sum256(upload))
	for _, from := range []string{file, "-"} {
		out, status := curl(t, upload, "-x", "http://"+addr, "-H", "Expect: 100-continue",
			"--upload-file", from, "http://a.test/")
		if status != 0 || string(out) != want {
			t.Errorf("from %s: status %d, %q", from, status, out)
		}
	}
}

// TestCurlUnixSocket: a listener on a Unix socket.
func TestCurlUnixSocket(t *testing.T) {
	port, page := webServer(t, "127.0.0.1:0")
	path := filepath.Join(t.TempDir(), "socket")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, newServer(t, Config{Dial: dialAlways("127.0.0.1:" + port)}), ln)
	for _, args := range [][]string{
		{"-x", "socks5h://localhost" + path, "http://a.test/"},
		{"-x", "socks4a://localhost" + path, "http://a.test/"},
		{"--unix-socket", path, "--request-target", "http://a.test/", "http://a.test/"},
	} {
		if out, status := curl(t, nil, args...); status != 0 || !bytes.Equal(out, page) {
			t.Errorf("%q: status %d, %d bytes", args, status, len(out))
		}
	}
}

// TestCurlSeesCutShort: half a response is an error to curl.
func TestCurlSeesCutShort(t *testing.T) {
	for _, framing := range []string{
		"Content-Length: 9\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "\r\nabc",
	} {
		site := startHTTP(t, func(w http.ResponseWriter, r *http.Request) {
			conn, out, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			out.WriteString("HTTP/1.1 200 OK\r\nConnection: close\r\n" + framing)
			out.Flush()
			reset(conn)
		})
		addr := startServer(t, Config{Dial: dialAlways(site)})
		for _, version := range []string{"-0", "--http1.1"} {
			_, status := curl(t, nil, version, "-x", "http://"+addr, "--fail", "http://a.test/")
			// Cut short, broken connection, and 502 when nothing had come yet.
			if status != 18 && status != 56 && status != 22 {
				t.Errorf("%q, %s: status %d", framing, version, status)
			}
		}
	}
}
