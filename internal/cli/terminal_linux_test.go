package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// openTerminal opens a pseudo-terminal (pty(7)).
func openTerminal(t *testing.T) (controller, terminal *os.File) {
	t.Helper()
	controller, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { controller.Close() })
	raw, err := controller.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var number int
	var unlockErr, numberErr error
	err = raw.Control(func(fd uintptr) {
		unlockErr = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
		number, numberErr = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
	})
	if err := errors.Join(err, unlockErr, numberErr); err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return controller, terminal
}

// recordTerminal records what a terminal shows until done is closed, when its last user has gone or
// the controller is closed.
func recordTerminal(controller *os.File) (screen *record, done <-chan struct{}) {
	screen = newRecord()
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		io.Copy(screen, controller)
	}()
	return screen, copied
}

// TestQuestionInterrupted interrupts local while it asks about an unknown remote: it stops as any
// program does that SIGINT ends, though cleanly.
func TestQuestionInterrupted(t *testing.T) {
	dir := t.TempDir()
	env := append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME=", "GORACE=atexit_sleep_ms=0")
	remote := serveAnyone(t, dir, env)

	controller, terminal := openTerminal(t)
	screen, copied := recordTerminal(controller)
	args := []string{"culvert", "local", "--socks", "127.0.0.1:0", "ws://" + remote.Listen[0] + "/"}
	local, err := startProcess(dir, env, args, terminal)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(local.kill)
	terminal.Close()
	asks := func(text string) bool { return strings.Contains(text, "(yes/no/KEY)? ") }
	if text := screen.await(asks, local.ended); !asks(text) {
		t.Fatalf("it does not ask; the terminal shows %q, standard error\n%s", text, local.stderr)
	}
	if err := local.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if status, err := local.wait(); status != exitSignal+2 || err != nil {
		t.Errorf("status %d, %v; standard error\n%s", status, err, local.stderr)
	}
	<-copied
	known := filepath.Join(dir, ".config", "culvert", "known_remotes")
	if _, err := os.Stat(known); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the remote is remembered: %v", err)
	}
}
