package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"culvert/internal/cli/exit"
	"culvert/internal/testnet"
)

// stage is a remote, and what a local needs to use it.
type stage struct {
	dir    string
	env    []string
	remote readyLine
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{dir: t.TempDir()}
	s.env = append(os.Environ(), "HOME="+s.dir, "XDG_CONFIG_HOME=", "GORACE=atexit_sleep_ms=0")
	s.remote = serveAnyone(t, s.dir, s.env)
	createKey(t, s.dir, s.env)
	return s
}

// command returns a command of culvert that connects to the remote.
func (s *stage) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command("culvert", name, "--key", "client.json",
		"--remote-key", s.remote.PublicKey, "ws://"+s.remote.Listen[0]+"/")
	cmd.Args = append(cmd.Args, args...)
	cmd.Dir, cmd.Env = s.dir, s.env
	return cmd
}

// local returns the command of a local with a proxy on a free port.
func (s *stage) local(args ...string) *exec.Cmd {
	return s.command("local", append([]string{"--socks", "127.0.0.1:0", "--print-ready"}, args...)...)
}

// plain returns a command of culvert that connects to nothing.
func (s *stage) plain(args ...string) *exec.Cmd {
	cmd := exec.Command("culvert", args...)
	cmd.Dir, cmd.Env = s.dir, s.env
	return cmd
}

// startIn runs a command in a session of its own, until the test ends.
func startIn(t *testing.T, cmd *exec.Cmd, terminal bool) *process {
	t.Helper()
	p, err := startSession(cmd, terminal)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

// serveEcho serves echoes until the test ends, and returns its address.
func serveEcho(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveEchoOn(t, ln)
	return ln.Addr().String()
}

// serveEchoOn does so on a listener, which it closes.
func serveEchoOn(t *testing.T, ln net.Listener) {
	var serving sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		ln.Close()
		cancel()
		serving.Wait()
	})
	serving.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer context.AfterFunc(ctx, func() { conn.Close() })()
				defer conn.Close()
				io.Copy(conn, conn)
			})
		}
	})
}

// TestTerminalCloses closes the terminal in which a command runs: it ends, as ssh does.
func TestTerminalCloses(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	echo := serveEcho(t)
	for name, test := range map[string]struct {
		cmd    *exec.Cmd
		typed  string
		up     string // on the screen
		status int
	}{
		"remote": {s.plain("remote", "--listen", "127.0.0.1:0", "--allow-anyone", "--print-ready"),
			"", `"event":"ready"`, exit.OK},
		"demo":  {s.plain("demo", "--socks", "127.0.0.1:0"), "", "stop ", exit.OK},
		"local": {s.local(), "", `"event":"ready"`, exit.OK},
		"run": {s.command("run", "--", "sh", "-c", "echo is up; sleep 60"),
			"", "is up", exitSignal + int(syscall.SIGHUP)},
		"stdio": {s.command("local", "-W", echo), "hello\n", "hello\r\nhello\r\n", exit.OK},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			controller, terminal := openTerminal(t)
			screen, copied := recordTerminal(controller)
			test.cmd.Stdin, test.cmd.Stdout, test.cmd.Stderr = terminal, terminal, terminal
			p := startIn(t, test.cmd, true)
			terminal.Close()
			if _, err := io.WriteString(controller, test.typed); err != nil {
				t.Fatal(err)
			}
			up := func(text string) bool { return strings.Contains(text, test.up) }
			if text := screen.await(up, p.ended); !up(text) {
				t.Fatalf("not up: the terminal shows %q", text)
			}
			controller.Close()
			<-copied
			checkStatus(t, p, test.status)
		})
	}
}

// TestHangupWithoutTerminal has a local reconnect on SIGHUP, and on SIGUSR1; remotes are in
// testdata.
func TestHangupWithoutTerminal(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	var connections atomic.Int64
	remote := s.remote.Listen[0]
	s.remote.Listen = []string{testnet.ServeTCP(t, func(conn *net.TCPConn) {
		connections.Add(1)
		testnet.Pass(conn, remote, nil)
	})}
	p := startIn(t, s.local(), false)
	if _, err := p.awaitReady(); err != nil {
		t.Fatal(err)
	}
	for _, signal := range []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGHUP} {
		before := connections.Load()
		p.send(t, signal)
		testnet.Poll(t, stepTimeout, "a connection after "+signal.String(), func() bool {
			return connections.Load() > before
		})
	}
	p.send(t, syscall.SIGTERM)
	checkStatus(t, p, exit.OK)
	if !strings.Contains(p.stderr.String(), "stopping signal=terminated") {
		t.Errorf("something else ended it: %s", p.stderr)
	}
}

// TestHangupIgnored starts a remote as nohup(1) does: SIGHUP neither ends nor reloads it, with a
// terminal or without one, and SIGUSR1 reloads it.
func TestHangupIgnored(t *testing.T) {
	t.Parallel()
	for _, onTerminal := range []bool{true, false} {
		t.Run(fmt.Sprint("terminal ", onTerminal), func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			cmd := exec.Command("sh", "-c", "trap '' HUP; exec culvert remote "+
				"--listen 127.0.0.1:0 --allow-anyone --print-ready")
			cmd.Dir, cmd.Env = s.dir, s.env
			_, terminal := openTerminal(t)
			if onTerminal {
				cmd.Stdin = terminal
			}
			p := startIn(t, cmd, onTerminal)
			if _, err := p.awaitReady(); err != nil {
				t.Fatal(err)
			}
			const times = 2
			for n := range times {
				p.send(t, syscall.SIGHUP)
				p.send(t, syscall.SIGUSR1)
				reloaded := func(text string) bool {
					return strings.Count(text, "INF reloaded\n") > n
				}
				if text := p.stderr.await(reloaded, p.ended); !reloaded(text) {
					t.Fatalf("standard error %q", text)
				}
			}
			p.send(t, syscall.SIGHUP)
			p.send(t, syscall.SIGTERM)
			checkStatus(t, p, exit.OK)
			if n := strings.Count(p.stderr.String(), "reloaded"); n != times {
				t.Errorf("reloaded %d times", n)
			}
		})
	}
}

// TestReloadOnTerminal reloads a remote that has a terminal, which SIGHUP would end.
func TestReloadOnTerminal(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	_, terminal := openTerminal(t)
	cmd := s.plain("remote", "--listen", "127.0.0.1:0", "--allow-anyone", "--print-ready")
	cmd.Stdin = terminal
	p := startIn(t, cmd, true)
	if _, err := p.awaitReady(); err != nil {
		t.Fatal(err)
	}
	p.send(t, syscall.SIGUSR1)
	reloaded := func(text string) bool { return strings.Contains(text, "INF reloaded\n") }
	if text := p.stderr.await(reloaded, p.ended); !reloaded(text) {
		t.Fatalf("standard error %q", text)
	}
	p.send(t, syscall.SIGHUP)
	p.send(t, syscall.SIGHUP) // a terminal's end may bring several
	checkStatus(t, p, exit.OK)
}

// TestSignalBeforeReady interrupts a local that waits for its remote.
func TestSignalBeforeReady(t *testing.T) {
	t.Parallel()
	for signal, status := range map[syscall.Signal]int{
		syscall.SIGINT: exitSignal + int(syscall.SIGINT), syscall.SIGTERM: exit.OK,
	} {
		s := newStage(t)
		// It accepts, and says nothing. A reconnecting local may leave a connection in its queue.
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		cmd := s.plain("local", "--key", "client.json", "--socks", "0", "--print-ready",
			"wss://"+ln.Addr().String()+"/")
		p := startIn(t, cmd, false)
		conn, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		p.send(t, syscall.SIGUSR1) // has nothing to reconnect, and ends nothing
		p.send(t, signal)
		checkStatus(t, p, status)
		conn.Close()
	}
}

// TestStdioStreamsGone takes both standard streams of -W away, while the target says nothing and
// stays: it ends, with an error if not all has arrived. With one of them it goes on, and ends when
// it has something to write.
func TestStdioStreamsGone(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	echo := testnet.ServeTCP(t, func(conn *net.TCPConn) {
		io.Copy(conn, conn)
		<-t.Context().Done() // after the end of file, too
	})
	relay, relayed := testnet.RelayTo(t, s.remote.Listen[0], testnet.RelayConfig{}), *s
	relayed.remote.Listen = []string{relay.Address()}
	start := func(t *testing.T, s *stage) (p *process, in *os.File, out *os.File) {
		childIn, in, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		out, childOut, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			in.Close()
			out.Close()
		})
		cmd := s.command("local", "-W", echo)
		cmd.Stdin, cmd.Stdout = childIn, childOut
		p = startIn(t, cmd, false)
		childIn.Close()
		childOut.Close()
		exchange(t, in, out)
		return p, in, out
	}
	t.Run("both", func(t *testing.T) {
		t.Parallel()
		p, in, out := start(t, s)
		out.Close()
		in.Close()
		checkStatus(t, p, exit.OK)
	})
	t.Run("both, with data that doesn't arrive", func(t *testing.T) {
		t.Parallel()
		p, in, out := start(t, &relayed)
		defer relay.Freeze()()
		out.Close()
		if _, err := io.WriteString(in, "more\n"); err != nil {
			t.Fatal(err)
		}
		in.Close()
		checkStatus(t, p, exit.Failed)
		if text := p.stderr.String(); !strings.Contains(text, "standard input") {
			t.Errorf("standard error %q", text)
		}
	})
	t.Run("output", func(t *testing.T) {
		t.Parallel()
		p, in, out := start(t, s)
		out.Close()
		if _, err := io.WriteString(in, "more\n"); err != nil {
			t.Fatal(err)
		}
		checkStatus(t, p, exitSignal+int(syscall.SIGPIPE))
		if text := p.stderr.String(); text != "" {
			t.Errorf("standard error %q", text)
		}
	})
	t.Run("signal", func(t *testing.T) {
		t.Parallel()
		p, _, _ := start(t, s)
		p.send(t, syscall.SIGTERM) // while it reads standard input, which stays open
		checkStatus(t, p, exit.OK)
	})
}

// exchange sends a line to an echo, and reads it back.
func exchange(t *testing.T, in io.Writer, out *os.File) {
	t.Helper()
	const line = "a line\n"
	if _, err := io.WriteString(in, line); err != nil {
		t.Fatal(err)
	}
	err := out.SetReadDeadline(time.Now().Add(stepTimeout))
	got := make([]byte, len(line))
	if _, readErr := io.ReadFull(out, got); errors.Join(err, readErr) != nil || string(got) != line {
		t.Fatalf("%q, %v, %v", got, err, readErr)
	}
}
