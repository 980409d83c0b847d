package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"culvert/internal/testnet"
)

// TestBackground sends a local to the background from a terminal, on which it first asks about the
// remote. It then goes on without the terminal, reloads at SIGHUP, and ends at SIGTERM.
func TestBackground(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	controller, terminal := openTerminal(t)
	screen, copied := recordTerminal(controller)
	cmd := s.plain("local", "-f", "--key", "client.json", "--socks", "127.0.0.1:0", "--print-ready",
		"--pid-file", "pid", "--log-file", "log", "ws://"+s.remote.Listen[0]+"/")
	cmd.Stdin = terminal
	foreground := startIn(t, cmd, true)
	terminal.Close()
	asks := func(text string) bool { return strings.Contains(text, "(yes/no/KEY)? ") }
	if text := screen.await(asks, foreground.ended); !asks(text) {
		t.Fatalf("it does not ask; the terminal shows %q, standard error\n%s", text, foreground.stderr)
	}
	pid := readPID(t, filepath.Join(s.dir, "pid"))
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) }) // it has ended unless the test fails
	if pid == cmd.Process.Pid {
		t.Error("the process in the foreground is the node itself")
	}
	typeKeys(t, controller, "yes\r")
	if status, err := foreground.wait(); status != 0 || err != nil {
		t.Fatalf("status %d, %v; standard error\n%s", status, err, foreground.stderr)
	}
	<-copied // nobody has the terminal any more
	var ready readyLine
	if err := json.Unmarshal([]byte(foreground.stdout.String()), &ready); err != nil {
		t.Fatalf("%v: %q", err, foreground.stdout)
	}
	fetchPage(t, ready.Socks)

	log := filepath.Join(s.dir, "log")
	if err := os.Rename(log, log+".old"); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	testnet.Poll(t, time.Minute, "the log is opened again", func() bool {
		_, err := os.Stat(log)
		return err == nil
	})
	fetchPage(t, ready.Socks)
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	testnet.Poll(t, time.Minute, "the file of the process's number is removed", func() bool {
		_, err := os.Stat(filepath.Join(s.dir, "pid"))
		return errors.Is(err, fs.ErrNotExist)
	})
}

// TestBackgroundInterrupted interrupts the process in the foreground while it asks: the status is
// that of the one in the background.
func TestBackgroundInterrupted(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	controller, terminal := openTerminal(t)
	screen, copied := recordTerminal(controller)
	cmd := s.plain("local", "-f", "--key", "client.json", "--socks", "127.0.0.1:0",
		"ws://"+s.remote.Listen[0]+"/")
	cmd.Stdin = terminal
	foreground := startIn(t, cmd, true)
	terminal.Close()
	asks := func(text string) bool { return strings.Contains(text, "(yes/no/KEY)? ") }
	screen.await(asks, foreground.ended)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if status, err := foreground.wait(); status != exitSignal+2 || err != nil {
		t.Errorf("status %d, %v; standard error\n%s", status, err, foreground.stderr)
	}
	<-copied
}

// readPID reads a file of --pid-file.
func readPID(t *testing.T, path string) int {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSuffix(string(text), "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// fetchPage fetches a page through a proxy.
func fetchPage(t *testing.T, proxy string) {
	t.Helper()
	const page = "a page"
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, page)
	}))
	defer site.Close()
	transport := &http.Transport{
		Proxy: http.ProxyURL(&url.URL{Scheme: "socks5", Host: proxy}), DisableKeepAlives: true,
	}
	response, err := (&http.Client{Transport: transport}).Get(site.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, err := io.ReadAll(response.Body); err != nil || string(text) != page {
		t.Errorf("got %q, %v", text, err)
	}
}

// The file of a process that runs is replaced only by one that has taken over that process, which
// leaves it alone from then on.
func TestPIDFileOfAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	dangling := path + ".link"
	if err := os.Symlink("nowhere", dangling); err != nil {
		t.Fatal(err)
	}
	if _, err := openPIDFile(dangling, 0); err == nil {
		t.Error("a link to nothing was replaced")
	}
	before, err := openPIDFile(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range []int{0, os.Getpid() + 1} {
		if _, err := openPIDFile(path, other); err == nil {
			t.Errorf("the file was replaced by one that has taken over process %d", other)
		}
	}
	after, err := openPIDFile(path, os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	before.remove()
	if !after.is(after.file) {
		t.Error("the process before has removed the file")
	}
	after.remove()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is left: %v", err)
	}
}
