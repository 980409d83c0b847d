//go:build linux

package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"culvert/internal/testnet"
)

// uploadSize is the size in bytes of the uploads that are answered early. It exceeds the buffers
// along the path.
const uploadSize = 8 << 20

// serveRaw runs a server that may send what no HTTP library would. For each request it calls answer
// with the request's head, and with the rest in in, until answer returns false. It then lingers, as
// servers do: it closes its half of the connection and keeps reading.
func serveRaw(
	t *testing.T, ln net.Listener, answer func(head string, in *bufio.Reader, conn net.Conn) bool,
) {
	t.Helper()
	var running sync.WaitGroup
	var mu sync.Mutex
	conns := make(map[net.Conn]bool)
	serve := func(conn net.Conn) {
		defer conn.Close()
		in := bufio.NewReader(conn)
		for goesOn := true; goesOn; {
			var head strings.Builder
			for !strings.HasSuffix(head.String(), "\r\n\r\n") {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				head.WriteString(line)
			}
			goesOn = answer(head.String(), in, conn)
		}
		conn.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, in)
	}
	running.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns[conn] = true
			mu.Unlock()
			running.Go(func() { serve(conn) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for conn := range conns {
			conn.Close()
		}
		mu.Unlock()
		running.Wait()
	})
}

// listenLoopback opens a listener on this machine.
func listenLoopback(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// startOpenTinyproxy starts tinyproxy on loopback and returns its address.
func startOpenTinyproxy(t *testing.T) string {
	t.Helper()
	port := testnet.FreePort(t)
	address := "127.0.0.1:" + port
	config := writeFile(t, "tinyproxy.conf",
		"Listen 127.0.0.1\nPort "+port+"\nAllow 127.0.0.1\nTimeout 60\nMaxClients 20\nLogLevel Info\n")
	start(t, "tinyproxy", command(cleanEnv(t), t.TempDir(), needProgram(t, "tinyproxy"),
		"-d", "-c", config))
	awaitListener(t, address)
	return address
}

// startSquid starts squid on loopback and returns its address.
func startSquid(t *testing.T) string {
	t.Helper()
	port := testnet.FreePort(t)
	address := "127.0.0.1:" + port
	folder, err := os.MkdirTemp("", "culvert-squid-") // squid drops root, and its log must be writable
	if err != nil {
		t.Fatal(err)
	}
	name := "culvert" + port // of its shared memory, which a killed squid leaves behind
	t.Cleanup(func() {
		os.RemoveAll(folder)
		left, _ := filepath.Glob("/dev/shm/" + name + "-*")
		for _, path := range left {
			os.Remove(path)
		}
	})
	if err := os.Chmod(folder, 0o777); err != nil {
		t.Fatal(err)
	}
	config := writeFile(t, "squid.conf", fmt.Sprintf(`http_port 127.0.0.1:%s
http_access allow all
cache deny all
pid_filename none
cache_log %[2]s/cache.log
access_log none
coredump_dir %[2]s
shutdown_lifetime 1 seconds
pinger_enable off
`, port, folder))
	start(t, "squid",
		command(cleanEnv(t), folder, needProgram(t, "squid"), "-N", "-n", name, "-f", config))
	awaitListener(t, address)
	return address
}

// oddResponses are responses that violate the standards but that browsers accept. want is curl's
// status, the HTTP status and the body; tinyproxy and squid report whether those proxies pass the
// response.
var oddResponses = []struct {
	name, said       string
	want             string
	tinyproxy, squid bool
}{
	{"plain", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "0 200 ok", true, true},
	// curl fails on these two, browsers don't.
	{"line without a colon", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\ncharset=utf-8\r\n\r\nok",
		"8 200 ", false, false},
	{"gzip and chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n" +
		"2\r\nok\r\n0\r\n\r\n", "61 200 ", true, false},
	{"space in a name", "HTTP/1.1 200 OK\r\nSecured by x : y\r\nContent-Length: 2\r\n\r\nok",
		"0 200 ok", true, false},
	{"empty name", "HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 2\r\n\r\nok", "0 200 ok", true, false},
	{"name not ASCII", "HTTP/1.1 200 OK\r\nX-\xe9: 1\r\nContent-Length: 2\r\n\r\nok", "0 200 ok", true,
		false},
	{"control in a value", "HTTP/1.1 200 OK\r\nX: a\x01b\r\nContent-Length: 2\r\n\r\nok", "0 200 ok",
		true, true},
	{"carriage return in a value", "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\nok",
		"0 200 ok", true, true},
	{"folded", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok", "0 200 ok", true, true},
	{"line feeds alone", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "0 200 ok", true, true},
	{"no reason", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", "0 200 ok", true, true},
	{"lower case", "http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "0 200 ok", true, false},
	{"line end first", "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "0 200 ok", true, false},
	{"identity", "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok",
		"0 200 ok", true, true},
	{"chunked twice",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" +
			"2\r\nok\r\n0\r\n\r\n", "0 200 ok", true, false},
	{"chunked and a length",
		"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n" +
			"2\r\nok\r\n0\r\n\r\n", "0 200 ok", true, true},
	{"length twice", "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", "0 200 ok", true, true},
	{"length of a sign", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", "0 200 ok", true, false},
	{"chunks of line feeds", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\n0\n\n",
		"0 200 ok", true, false},
	{"chunks without an end", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n",
		"18 200 ok", true, true},
	{"half a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nok", "18 200 ok", true,
		true},
	{"half of a length", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", "18 200 ok", true, true},
	{"ten interim responses", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", 10) +
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "0 200 ok", true, true},
}

// curl gets odd responses through the proxy as it does without one. tinyproxy passes them all,
// squid most of them.
func TestHTTPProxyOddResponses(t *testing.T) {
	t.Parallel()
	tun := startTunnel(t)
	proxies := map[string]string{"culvert": tun.local.socks, "tinyproxy": startOpenTinyproxy(t),
		"squid": startSquid(t)}
	ln := listenLoopback(t)
	serveRaw(t, ln, func(head string, _ *bufio.Reader, conn net.Conn) bool {
		_, path, _ := strings.Cut(head, " /")
		path, _, _ = strings.Cut(path, " ")
		n, err := strconv.Atoi(path)
		if err != nil {
			t.Errorf("unexpected path %q", path)
			return false
		}
		io.WriteString(conn, oddResponses[n].said)
		return false
	})
	for i, tt := range oddResponses {
		for name, proxy := range proxies {
			if name == "tinyproxy" && !tt.tinyproxy || name == "squid" && !tt.squid {
				continue
			}
			r := run(t, patience, bareCurl(t, patience, "-x", "http://"+proxy, "--write-out",
				"\n%{http_code}",
				fmt.Sprintf("http://%s/%d", ln.Addr(), i)))
			body, status, _ := strings.Cut(r.stdout, "\n")
			if got := fmt.Sprintf("%d %s %s", r.status, status, body); got != tt.want {
				t.Errorf("%s through %s: %s, want %s; %s", tt.name, name, got, tt.want, r.stderr)
			}
		}
	}
}

// Paths reach their server as curl sends them. So they do through tinyproxy.
func TestHTTPProxyPaths(t *testing.T) {
	t.Parallel()
	tun, peer := startTunnel(t), startOpenTinyproxy(t)
	ln := listenLoopback(t)
	serveRaw(t, ln, func(head string, _ *bufio.Reader, conn net.Conn) bool {
		line, _, _ := strings.Cut(head, "\r\n")
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(line), line)
		return false
	})
	for _, path := range []string{"/100%", "/50%off", "/%zz", "/q?x=50%off", "/x%00y", "/a|b{c}^`\"<>",
		"//a//b%2Fc", "/../x/./y", "/caf\xe9"} {
		for name, proxy := range map[string]string{"culvert": tun.local.socks, "tinyproxy": peer} {
			got := must(t, patience, bareCurl(t, patience, "-x", "http://"+proxy,
				"--globoff", "--request-target", "http://"+ln.Addr().String()+path, "http://"+
					ln.Addr().String()))
			if method, rest, _ := strings.Cut(got, " "); method != "GET" ||
				!strings.HasPrefix(rest, path+" HTTP/1.") {
				t.Errorf("%s through %s: %q", path, name, got)
			}
		}
	}
}

// answerEarly refuses an upload immediately; serveRaw then keeps reading.
func answerEarly(head string, in *bufio.Reader, conn net.Conn) bool {
	io.WriteString(conn,
		"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbig\n")
	return false
}

// uploader is a Node script that uploads a file. Its arguments are the URL, the proxy's address and
// the file.
const uploader = `
const http = require('http'), fs = require('fs');
const [url, proxy, file] = process.argv.slice(1), target = new URL(url), [host,
	port] = proxy.split(':');
const request = http.request({ host, port, path: url, method: 'POST',
  headers: { Host: target.host, 'Content-Length': fs.statSync(file).size } }, (response) => {
  console.log(response.statusCode);
  process.exit(0);
});
request.on('error', (err) => { console.log(err.code); process.exit(1); });
request.end(fs.readFileSync(file));`

// No client loses a response, the server's or the proxy's own, that arrives while it is still
// sending. tinyproxy passes the server's as well.
func TestHTTPProxyEarlyResponse(t *testing.T) {
	t.Parallel()
	tun := startTunnel(t)
	ln := listenLoopback(t)
	serveRaw(t, ln, answerEarly)
	file := filepath.Join(t.TempDir(), "upload")
	if err := os.WriteFile(file, make([]byte, uploadSize), 0o600); err != nil {
		t.Fatal(err)
	}
	dead := "127.0.0.1:" + testnet.FreePort(t)
	for _, tt := range []struct{ name, proxy, target, status string }{
		{"culvert", tun.local.socks, ln.Addr().String(), "413"},
		{"tinyproxy", startOpenTinyproxy(t), ln.Addr().String(), "413"},
		{"culvert's own", tun.local.socks, dead, "502"},
	} {
		url := "http://" + tt.target + "/"
		for range 3 {
			r := run(t, patience,
				bareCurl(t, patience, "-x", "http://"+tt.proxy, "-H", "Expect:", "--output", "/dev/null",
					"--write-out", "%{http_code}", "--data-binary", "@"+file, url))
			if r.status != 0 || r.stdout != tt.status {
				t.Errorf("%s: curl: status %d, %s; %s", tt.name, r.status, r.stdout, r.stderr)
			}
			wget := command(append(cleanEnv(t), "http_proxy=http://"+tt.proxy), t.TempDir(),
				needProgram(t, "wget"),
				"--output-document=-", "--no-verbose", "--tries=1", "--post-file="+file, url)
			if r := run(t, patience, wget); r.status != 8 ||
				!strings.Contains(r.stderr, "ERROR "+tt.status) {
				t.Errorf("%s: wget: status %d; %s", tt.name, r.status, r.stderr)
			}
			node := command(cleanEnv(t), t.TempDir(), needProgram(t, "node"), "-e", uploader, url, tt.proxy,
				file)
			if r := run(t, patience, node); r.stdout != tt.status+"\n" {
				t.Errorf("%s: node: %s%s", tt.name, r.stdout, r.stderr)
			}
		}
	}
}

// When a server closes a connection just as the next request arrives, the proxy or curl retries. So
// does squid.
func TestHTTPProxyStaleConnection(t *testing.T) {
	t.Parallel()
	tun, peer := startTunnel(t), startSquid(t)
	var mu sync.Mutex
	broken := map[string]int{} // by the path of the request
	ln := listenLoopback(t)
	served := make(map[net.Conn]bool)
	serveRaw(t, ln, func(head string, in *bufio.Reader, conn net.Conn) bool {
		mu.Lock()
		again := served[conn]
		served[conn] = true
		if again {
			broken[strings.Fields(head)[1]]++
		}
		mu.Unlock()
		if again {
			conn.Close()
			return false
		}
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		return true
	})
	requests := [][]string{
		{"-X", "GET"}, {"-X", "DELETE"}, {"-X", "POST", "-H", "Content-Length: 0"},
		{"--data-binary", "abc"}, {"-X", "PUT", "--data-binary", "abc"}, {"-X", "PATCH", "--data-binary",
			"abc"},
	}
	for _, request := range requests {
		for name, proxy := range map[string]string{"culvert": tun.local.socks, "squid": peer} {
			url := "http://" + ln.Addr().String() + "/" + name
			first := []string{"-x", "http://" + proxy, "--write-out", " %{http_code} ", url, "--next",
				"--silent", "--show-error", "--noproxy", ""}
			second := append([]string{"-x", "http://" + proxy, "--write-out", " %{http_code}"},
				append(request, url)...)
			r := run(t, patience, bareCurl(t, patience, append(first, second...)...))
			if r.status != 0 || r.stdout != "ok 200 ok 200" {
				t.Errorf("%q through %s: status %d, %q; %s", request, name, r.status, r.stdout, r.stderr)
			}
		}
	}
	if mu.Lock(); broken["/culvert"] < len(requests) {
		t.Errorf("connections closed under a request: %v", broken)
	}
	mu.Unlock()
}

// halfClosing sends a request, closes its half of the connection, and returns the response.
func halfClosing(t *testing.T, proxy, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", proxy)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	io.WriteString(conn, request)
	conn.(*net.TCPConn).CloseWrite()
	got, err := io.ReadAll(conn)
	if err != nil {
		t.Errorf("after %q: %v", got, err)
	}
	return string(got)
}

// A client may close its half of the connection once it has sent its request. tinyproxy accepts
// that too.
func TestHTTPProxyHalfClose(t *testing.T) {
	t.Parallel()
	tun, peer := startTunnel(t), startOpenTinyproxy(t)
	ln := listenLoopback(t)
	serveRaw(t, ln, func(head string, in *bufio.Reader, conn net.Conn) bool {
		io.Copy(io.Discard, io.LimitReader(in, 4))
		// The proxy notices the end of file before there is a whole line to pass on.
		tick := time.NewTicker(dripPause)
		defer tick.Stop()
		parts := []string{"HTTP/1.1 200", " OK\r\nContent-Length: 2\r\n\r\nok"}
		for ; len(parts) > 0; <-tick.C {
			io.WriteString(conn, parts[0])
			parts = parts[1:]
		}
		return false
	})
	for name, proxy := range map[string]string{"culvert": tun.local.socks, "tinyproxy": peer} {
		got := halfClosing(t, proxy,
			fmt.Sprintf("POST http://%s/ HTTP/1.1\r\nHost: %[1]s\r\nContent-Length: 4\r\n\r\nbody",
				ln.Addr()))
		if !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") || !strings.HasSuffix(got, "\r\n\r\nok") {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// Header field names keep their case and order both ways, and no field but Connection is added.
func TestHTTPProxyCopies(t *testing.T) {
	t.Parallel()
	tun := startTunnel(t)
	ln := listenLoopback(t)
	heads := make(chan string, 1)
	response := "HTTP/1.1 200 Fine\r\nx-Z: 1\r\nset-cookie: a=b\r\nX-a:2\r\nSet-Cookie: " +
		"c=d\r\nContent-length: 2\r\n\r\nok"
	serveRaw(t, ln, func(head string, in *bufio.Reader, conn net.Conn) bool {
		heads <- head
		io.WriteString(conn, response)
		return false
	})
	fields := "x-B: 1\r\nHost: " + ln.Addr().String() + "\r\naccept: */*\r\nX-a:2\r\nUser-agent: u\r\n"
	got := halfClosing(t, tun.local.socks,
		"GET http://"+ln.Addr().String()+"/ HTTP/1.1\r\n"+fields+"\r\n")
	if head := <-heads; head != "GET / HTTP/1.1\r\n"+fields+"\r\n" {
		t.Errorf("the server received %q", head)
	}
	if got != response {
		t.Errorf("the client received %q", got)
	}
}

// An unsolicited response is not logged at any level.
func TestHTTPProxyUnsolicited(t *testing.T) {
	t.Parallel()
	const secret = "page-content-that-nobody-asked-for"
	tun := startTunnel(t)
	ln := listenLoopback(t)
	serveRaw(t, ln, func(head string, in *bufio.Reader, conn net.Conn) bool {
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"+secret)
		return true
	})
	url := "http://" + ln.Addr().String() + "/"
	got := must(t, patience, bareCurl(t, patience, "-x", "http://"+tun.local.socks, url, url))
	if got != "okok" {
		t.Errorf("got %q", got)
	}
	tun.local.stop()
	tun.remote.stop()
	for _, node := range []*node{tun.local, tun.remote} {
		if text := node.stderr.String() + node.stdout.String(); strings.Contains(text, secret) {
			t.Errorf("%s logged the response:\n%s", node.name, text)
		}
	}
}
