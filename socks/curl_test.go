package socks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
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
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
	cmd := exec.CommandContext(ctx, path, append([]string{"--silent", "--show-error", "--noproxy", ""}, args...)...)
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
		{"name, resolved by the dialer", []string{"--socks5-hostname", open, "http://only.remote.test:" + port4}, "only.remote.test:" + port4},
		{"name, resolved by curl", []string{"--socks5", open, "-4", "http://localhost:" + port4}, "127.0.0.1:" + port4},
		{"ipv4", []string{"--socks5", open, "http://127.0.0.1:" + port4}, "127.0.0.1:" + port4},
		{"ipv6", []string{"--socks5", open, "http://[::1]:" + port6}, "[::1]:" + port6},
		{"ipv6 through socks5h", []string{"--socks5-hostname", open, "http://[::1]:" + port6}, "[::1]:" + port6},
		{"credentials", []string{"--socks5-hostname", "alice:secret@" + closed, "http://only.remote.test:" + port4}, "only.remote.test:" + port4},
		{"credentials that nobody asked for", []string{"--socks5-hostname", "alice:secret@" + open, "http://only.remote.test:" + port4}, "only.remote.test:" + port4},
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
	for _, user := range []string{"alice:wrong@", "bob:secret@", ""} {
		t.Run("refused "+user, func(t *testing.T) {
			out, status := curl(t, nil, "--socks5-hostname", user+closed, "http://only.remote.test:"+port4)
			if status != curlProxyError || len(out) != 0 {
				t.Errorf("status %d, %d bytes", status, len(out))
			}
			if len(dialed) != 0 {
				t.Errorf("dialed %q", <-dialed)
			}
		})
	}
}

// TestCurlSeesReply has curl print the code that it got for a failed dial.
func TestCurlSeesReply(t *testing.T) {
	for r := ReplyGeneralFailure; r <= ReplyAddressTypeNotSupported; r++ {
		addr := startServer(t, Config{Dial: dialFails(io.EOF), Classify: func(error) Reply { return r }})
		// Its %{proxy...} variables have no SOCKS code, its message does.
		out, status := curl(t, nil, "--write-out", "%{errormsg}", "--socks5-hostname", addr, "http://a.test/")
		if want := fmt.Sprintf("(%d)", r); status != curlProxyError || !bytes.Contains(out, []byte(want)) {
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
	if _, status := curl(t, nil, "--max-time", "0.3", "--socks5-hostname", addr, "http://a.test/"); status != 28 {
		t.Errorf("status %d, want curl's timeout", status)
	}
	select {
	case <-cancelled:
	case <-time.After(testTimeout):
		t.Error("the dial goes on without curl")
	}
}
