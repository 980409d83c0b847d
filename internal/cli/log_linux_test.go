package cli

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"culvert/internal/cli/exit"

	"golang.org/x/net/proxy"
	"golang.org/x/sys/unix"
)

// stuckPipe returns a pipe in the blocking mode, as a shell's, that holds all it can: whoever
// writes to w waits for a reader.
func stuckPipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := unix.Write(fds[1], make([]byte, 4096)); err != nil {
			if !errors.Is(err, unix.EAGAIN) {
				t.Fatal(err)
			}
			break
		}
	}
	for _, fd := range fds {
		if err := unix.SetNonblock(fd, false); err != nil {
			t.Fatal(err)
		}
	}
	r, w = os.NewFile(uintptr(fds[0]), "r"), os.NewFile(uintptr(fds[1]), "w")
	t.Cleanup(func() {
		r.Close()
		w.Close()
	})
	return r, w
}

// awaitLine reads the line that --print-ready prints from standard output.
func awaitLine(t *testing.T, p *process) readyLine {
	t.Helper()
	ready, err := p.awaitReady()
	if err != nil {
		t.Fatal(err)
	}
	return ready
}

// dialEcho makes a stream through a local's proxy, and exchanges a line with an echo.
func dialEcho(t *testing.T, socks, echo string) {
	t.Helper()
	dialer, err := proxy.SOCKS5("tcp", socks, nil, &net.Dialer{Timeout: stepTimeout})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := dialer.Dial("tcp", echo)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	got := make([]byte, 6)
	err = conn.SetDeadline(time.Now().Add(stepTimeout))
	_, writeErr := io.WriteString(conn, "a line")
	_, readErr := io.ReadFull(conn, got)
	if err := errors.Join(err, writeErr, readErr); err != nil || string(got) != "a line" {
		t.Fatalf("%q, %v", got, err)
	}
}

// TestLogNobodyReads runs a remote and a local whose standard error is a full pipe, at the level
// with the most lines: streams, other requests, new clients and signals don't notice.
func TestLogNobodyReads(t *testing.T) {
	t.Parallel()
	s, echo := newStage(t), serveEcho(t)
	start := func(cmd *exec.Cmd) (*process, readyLine) {
		_, cmd.Stderr = stuckPipe(t)
		p := startIn(t, cmd, false)
		return p, awaitLine(t, p)
	}
	remote, ready := start(s.plain("remote", "--listen", "127.0.0.1:0", "--allow-anyone",
		"--print-ready", "--log-level", "debug"))
	s.remote = ready
	local, near := start(s.local("--log-level", "debug"))
	for range 250 {
		dialEcho(t, near.Socks, echo)
	}
	client := &http.Client{Timeout: stepTimeout}
	defer client.CloseIdleConnections()
	for range 250 {
		response, err := client.Get("http://" + ready.Listen[0] + "/")
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
	}
	if output, err := s.command("check").CombinedOutput(); err != nil {
		t.Errorf("a new client: %v\n%s", err, output)
	}
	for _, p := range []*process{local, remote} {
		began := time.Now()
		p.send(t, syscall.SIGTERM)
		checkStatus(t, p, exit.OK)
		if took := time.Since(began); took > 4*time.Second { // flushing takes a second of it
			t.Errorf("it stops after %v", took)
		}
	}
}

// TestLogGap reads a log late: the lines that were dropped are counted in it.
func TestLogGap(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	r, w := stuckPipe(t)
	cmd := s.plain("remote", "--listen", "127.0.0.1:0", "--allow-anyone", "--print-ready",
		"--log-level", "debug")
	cmd.Stderr = w
	p := startIn(t, cmd, false)
	address := awaitLine(t, p).Listen[0]
	client := &http.Client{Timeout: stepTimeout}
	defer client.CloseIdleConnections()
	const requests = 4000
	for range requests {
		response, err := client.Get("http://" + address + "/")
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
	}
	w.Close()
	text := make(chan []byte, 1)
	go func() {
		all, _ := io.ReadAll(r) // what is missing shows below
		text <- all
	}()
	p.send(t, syscall.SIGTERM)
	checkStatus(t, p, exit.OK)
	logged, dropped := 0, 0
	for line := range bytes.Lines(<-text) {
		_, count, isNote := bytes.Cut(line, []byte("log lines were dropped, as nobody read them lines="))
		if isNote {
			n := 0
			if _, err := fmt.Sscan(string(count), &n); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			dropped += n
		} else if bytes.Contains(line, []byte("client refused")) {
			logged++
		}
	}
	// The log has a few lines of other kinds, which may be among those that were dropped.
	if dropped == 0 || logged+dropped < requests || logged+dropped > requests+10 {
		t.Errorf("%d lines are logged and %d dropped, of %d", logged, dropped, requests)
	}
}

// TestLogReaderDies closes the pipe that the log goes to: neither end notices, nor what is under
// way.
func TestLogReaderDies(t *testing.T) {
	t.Parallel()
	s, echo := newStage(t), serveEcho(t)
	var readers []*os.File
	start := func(cmd *exec.Cmd) (*process, readyLine) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		readers = append(readers, r)
		cmd.Stderr = w
		p := startIn(t, cmd, false)
		w.Close()
		return p, awaitLine(t, p)
	}
	remote, ready := start(s.plain("remote", "--listen", "127.0.0.1:0", "--allow-anyone",
		"--print-ready", "--log-level", "debug"))
	s.remote = ready
	local, near := start(s.local("--log-level", "debug"))
	for _, r := range readers {
		r.Close()
	}
	for range 20 {
		dialEcho(t, near.Socks, echo)
	}
	remote.send(t, syscall.SIGHUP) // has something to tell
	if output, err := s.command("check").CombinedOutput(); err != nil {
		t.Errorf("a new client: %v\n%s", err, output)
	}
	for _, p := range []*process{local, remote} {
		p.send(t, syscall.SIGTERM)
		checkStatus(t, p, exit.OK)
	}
}

// TestReadyLineReaderDies starts a remote whose standard output nobody reads: it serves.
func TestReadyLineReaderDies(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := s.plain("remote", "--listen", "127.0.0.1:0", "--allow-anyone", "--print-ready")
	cmd.Stdout = w
	r.Close()
	p := startIn(t, cmd, false)
	w.Close()
	up := func(text string) bool { return strings.Contains(text, "remote up") }
	if text := p.stderr.await(up, p.ended); !up(text) {
		t.Fatalf("standard error %q", text)
	}
	p.send(t, syscall.SIGTERM)
	checkStatus(t, p, exit.OK)
}

// TestErrorIsReported shows that errors come out even though standard error is written in the
// background.
func TestErrorIsReported(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	output, err := s.plain("remote", "--listen", "nowhere", "--allow-anyone").CombinedOutput()
	var status *exec.ExitError
	if !errors.As(err, &status) || status.ExitCode() != exit.Usage ||
		!strings.HasPrefix(string(output), "culvert: bad --listen \"nowhere\": ") {
		t.Errorf("%v, %q", err, output)
	}
}

// TestHealthChecks sends a remote what load balancers, scanners and other visitors send: at the
// default level it logs none of that, and at the level error nothing of net/http's own either.
func TestHealthChecks(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	sh := &shell{dir: s.dir, env: s.env}
	if output, err := sh.run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes " +
		"-keyout tls.key -out tls.pem -days 1 -subj /CN=localhost 2>/dev/null"); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	for level, expected := range map[string]string{
		"info": "remote up", "error": "", "debug": "TLS handshake error",
	} {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			p := startIn(t, s.plain("remote", "--listen", "127.0.0.1:0", "--allow-anyone", "--tls-cert",
				"tls.pem", "--tls-key", "tls.key", "--print-ready", "--log-level", level), false)
			check(t, awaitLine(t, p).Listen[0])
			p.send(t, syscall.SIGTERM)
			checkStatus(t, p, exit.OK)
			text := p.stderr.String()
			visits := strings.Count(text, "127.0.0.1:")
			if level == "info" {
				visits -= 2 // its own address, and that nobody's is told apart there
			}
			if !strings.Contains(text, expected) || (visits > 0) != (level == "debug") {
				t.Errorf("%d lines of visitors in\n%s", visits, text)
			}
		})
	}
}

// check visits a remote with TLS in all ways but a client's.
func check(t *testing.T, address string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), stepTimeout)
	defer cancel()
	config := &tls.Config{InsecureSkipVerify: true}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	defer client.CloseIdleConnections()
	for _, url := range []string{"https://" + address + "/", "https://" + address + "/health"} {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
	}
	// One speaks no TLS, one goes at once. The remote's last word shows that it has noticed.
	for _, text := range []string{"GET / HTTP/1.0\r\n\r\n", ""} {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		deadline, _ := ctx.Deadline()
		conn.SetDeadline(deadline)
		_, err = io.WriteString(conn, text)
		if err := errors.Join(err, conn.(*net.TCPConn).CloseWrite()); err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, conn) // its error is how the remote ends it
		conn.Close()
	}
}

// TestClientsThatLeave has clients walk away in the middle of the handshake. The remote's log tells
// that, and calls neither them nor the remote wrong.
func TestClientsThatLeave(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	p := startIn(t, s.plain("remote", "--listen", "127.0.0.1:0", "--allow-anyone", "--print-ready"),
		false)
	ready := awaitLine(t, p)
	const closeNormally = "\x88\x82\x00\x00\x00\x00\x03\xe8"
	for _, last := range []string{"", closeNormally} {
		leave(t, ready.Listen[0], last)
	}
	// This one gets to see the remote's key, and doesn't know it.
	s.remote = ready
	cmd := s.plain("local", "--key", "client.json", "--socks", "0", "ws://"+ready.Listen[0]+"/")
	checkStatus(t, startIn(t, cmd, false), exit.WrongRemote)
	p.send(t, syscall.SIGTERM)
	checkStatus(t, p, exit.OK)
	text := p.stderr.String()
	warned := regexp.MustCompile(` WRN .* from=`).MatchString(text)
	if strings.Count(text, " INF client left") != 3 || warned ||
		strings.Contains(text, "refused") || strings.Contains(text, "wrong") {
		t.Errorf("the remote logs\n%s", text)
	}
}

// leave opens a WebSocket, sends its last words and closes the connection.
func leave(t *testing.T, address, last string) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, stepTimeout)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	err = conn.SetDeadline(time.Now().Add(stepTimeout))
	_, writeErr := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"+
		"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
	response, readErr := http.ReadResponse(bufio.NewReader(conn), nil)
	if err := errors.Join(err, writeErr, readErr); err != nil ||
		response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%+v, %v", response, err)
	}
	response.Body.Close()
	_, err = io.WriteString(conn, last)
	if err := errors.Join(err, conn.(*net.TCPConn).CloseWrite()); err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, conn) // until the remote has noticed
}
