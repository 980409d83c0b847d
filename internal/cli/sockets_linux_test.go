package cli

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// longestSocket is the length of the longest path of a socket in bytes (unix(7)).
const longestSocket = 107

// TestLongestSocketPaths gives every listener and every target that is a socket the longest path:
// by its name, and by its folder, in which no longer name has room.
func TestLongestSocketPaths(t *testing.T) {
	t.Parallel()
	for shape, folder := range map[string]int{
		"name": 0, "folder": longestSocket - len("/listener"),
	} {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			dir, err := os.MkdirTemp("", "s")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			if folder > 0 {
				dir = filepath.Join(dir, strings.Repeat("x", folder-len(dir)-1))
				if err := os.Mkdir(dir, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			testLongestSocketPaths(t, dir)
		})
	}
}

func testLongestSocketPaths(t *testing.T, dir string) {
	socket := func(name string) string {
		return filepath.Join(dir, name+strings.Repeat("x", longestSocket-len(dir)-1-len(name)))
	}
	echo := socket("echo")
	ln, err := net.Listen("unix", echo)
	if err != nil {
		t.Fatal(err)
	}
	serveEchoOn(t, ln)
	s := newStage(t)
	cmd := s.plain("remote", "--listen", "127.0.0.1:0", "--listen", "unix:"+socket("listen"),
		"--allow-anyone", "--allow", "unix:"+echo, "--reverse", "unix:"+socket("reverse"),
		"--print-ready")
	remote := startIn(t, cmd, false)
	s.remote = awaitLine(t, remote)
	args := []string{"--socks", "unix:" + socket("socks"),
		"-L", "unix:" + socket("local") + ":unix:" + echo, "-R", "unix:" + socket("reverse") + ":unix:" +
			echo, "--print-ready"}
	local := startIn(t, s.command("local", args...), false)
	awaitLine(t, local)
	for _, name := range []string{"local", "reverse"} {
		conn, err := net.Dial("unix", socket(name))
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 6)
		err = conn.SetDeadline(time.Now().Add(stepTimeout))
		_, writeErr := io.WriteString(conn, "a line")
		_, readErr := io.ReadFull(conn, got)
		if err := errors.Join(err, writeErr, readErr); err != nil || string(got) != "a line" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		conn.Close()
	}
	for _, name := range []string{"listen", "socks"} {
		conn, err := net.Dial("unix", socket(name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		conn.Close()
	}
	stdio := s.command("local", "-W", "unix:"+echo)
	stdio.Stdin = strings.NewReader("a line")
	if output, err := stdio.CombinedOutput(); err != nil || string(output) != "a line" {
		t.Errorf("-W: %q, %v", output, err)
	}
	refused := s.plain("remote", "--allow-anyone", "--listen", "unix:"+socket("long")+"x")
	const want = ": the path of a socket has at most 107 bytes\n"
	p := startIn(t, refused, false)
	status, err := p.wait()
	if text := p.stderr.String(); status == 0 || err != nil || !strings.Contains(text, want) {
		t.Errorf("a longer path: %q, status %d, %v", text, status, err)
	}
}
