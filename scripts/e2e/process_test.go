//go:build linux

package e2e

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// patience bounds waits for what is fast on an idle machine, where a test has no bound of its
	// own.
	patience = 30 * time.Second

	// stopTime bounds culvert's exit after a signal: 5 s for draining, and a margin for a busy
	// machine.
	stopTime = 15 * time.Second

	// pipeDelay is how long a child of an exited process may keep the process's output open.
	pipeDelay = 5 * time.Second

	// maxLogged is how many bytes of a process's output are shown when its test has failed: the
	// end, which matters most.
	maxLogged = 16 << 10

	// raceStatus is a program's exit status when its race detector has found a race.
	raceStatus = 66
)

// needProgram returns the path of a program that the tests run.
func needProgram(t *testing.T, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, folder := range []string{"/usr/sbin", "/sbin"} { // not in an ordinary user's PATH
		if path, err := exec.LookPath(filepath.Join(folder, name)); err == nil {
			return path
		}
	}
	t.Fatalf("%s is missing: make test-deps installs it", name)
	return ""
}

// needRoot fails the test if it doesn't run as root.
func needRoot(t *testing.T, why string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatalf("this test must be run by root: %s", why)
	}
}

// cleanEnv returns an environment with a home directory of its own and none of the machine's
// settings.
func cleanEnv(t *testing.T) []string {
	t.Helper()
	home := t.TempDir()
	return []string{
		"HOME=" + home,
		"XDG_CONFIG_HOME=" + filepath.Join(home, "config"),
		"XDG_RUNTIME_DIR=" + home, // for control sockets
		"PATH=" + os.Getenv("PATH"),
		"LANG=C.UTF-8",
		"TMPDIR=" + os.TempDir(),
		"GIT_CONFIG_NOSYSTEM=1",
		"CULVERT_LOG_FORMAT=console",  // there is no terminal, and some tests read the log
		"CULVERT_NO_AUTO_RELOAD=true", // tests that change files show what a signal does
		"GORACE=halt_on_error=1 exitcode=66 atexit_sleep_ms=10",
	}
}

// process is a program that a test has started, in a process group of its own. When the test ends,
// what remains of the group is killed.
type process struct {
	t      *testing.T
	name   string
	cmd    *exec.Cmd
	stdout *output
	stderr *output
	exited chan struct{} // closed when it has been reaped
	quit   bool          // the test has sent SIGQUIT for the stacks of all goroutines
}

// spawns are the commands for spawner to start.
var spawns = make(chan func())

// spawner starts the processes that must not outlive the tests. The kernel sends the signal of
// Pdeathsig when the thread that started a process ends, not when its program does (prctl(2),
// PR_SET_PDEATHSIG), and threads that were in another network namespace do end (see package link).
// So a single thread, which never ends, starts them all.
func spawner() {
	runtime.LockOSThread()
	for start := range spawns {
		start()
	}
}

// spawn starts a command in a process group of its own. The command is killed when the tests are.
func spawn(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid, cmd.SysProcAttr.Pdeathsig = true, syscall.SIGKILL
	done := make(chan error, 1)
	spawns <- func() { done <- cmd.Start() }
	return <-done
}

// start runs a command in the background. Its Stdout and Stderr are collected unless they are set.
func start(t *testing.T, name string, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, name: name, cmd: cmd, stdout: newOutput(), stderr: newOutput(),
		exited: make(chan struct{})}
	if cmd.Stdout == nil {
		cmd.Stdout = p.stdout
	}
	cmd.Stderr = p.stderr
	cmd.WaitDelay = pipeDelay
	if err := spawn(cmd); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	go func() {
		defer close(p.exited)
		cmd.Wait() // cmd.ProcessState has the outcome
	}()
	t.Cleanup(p.end)
	return p
}

// end kills what remains of the group, and checks that the program ended without a race or a panic.
func (p *process) end() {
	p.killGroup()
	<-p.exited
	text := p.stderr.String()
	if p.status() == raceStatus || strings.Contains(text, "WARNING: DATA RACE") {
		p.t.Errorf("%s: the race detector found a race", p.name)
	}
	for _, crash := range []string{"panic: ", "fatal error: ", "goroutine 1 ["} {
		if strings.Contains(text, crash) && !p.quit {
			p.t.Errorf("%s crashed", p.name)
			break
		}
	}
	if p.t.Failed() {
		p.t.Logf("%s: status %d, standard error:\n%s", p.name, p.status(),
			text[max(0, len(text)-maxLogged):])
	}
}

// killGroup kills the process and those of its children that stayed in its group.
func (p *process) killGroup() { syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) }

// groupGone reports whether no process of the group is left.
func (p *process) groupGone() bool {
	return errors.Is(syscall.Kill(-p.cmd.Process.Pid, 0), syscall.ESRCH)
}

func (p *process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// status returns the exit status, -1 if a signal killed the process. The process must have exited.
func (p *process) status() int {
	if p.running() {
		return -1
	}
	return p.cmd.ProcessState.ExitCode()
}

// signal sends a signal to the process only, not to its group.
func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("%s: signal: %v", p.name, err)
	}
}

// wait waits for the process to exit and returns its status. It fails the test after timeout.
func (p *process) wait(timeout time.Duration) int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(timeout):
		p.t.Fatalf("%s did not exit within %v", p.name, timeout)
	}
	return p.status()
}

// kill kills the process group without warning, as a crash of its machine would.
func (p *process) kill() {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
	p.wait(patience)
}

// result is the outcome of a command that has ended.
type result struct {
	stdout string
	stderr string
	status int // -1 if killed by a signal or timed out
}

// run runs a command to its end, for at most timeout.
func run(t *testing.T, timeout time.Duration, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &stdout
	}
	cmd.Stderr = &stderr
	cmd.WaitDelay = pipeDelay
	if err := spawn(cmd); err != nil {
		t.Fatalf("%s: %v", cmd.Path, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	defer stop()
	cmd.Wait()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		t.Errorf("%s did not end within %v", cmd, timeout)
	}
	if status := cmd.ProcessState.ExitCode(); status == raceStatus {
		t.Errorf("%s: the race detector found a race", cmd)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// must runs a command, fails the test unless it succeeds, and returns its standard output.
func must(t *testing.T, timeout time.Duration, cmd *exec.Cmd) string {
	t.Helper()
	r := run(t, timeout, cmd)
	if r.status != 0 {
		t.Fatalf("%s: status %d\n%s%s", cmd, r.status, r.stdout, r.stderr)
	}
	return r.stdout
}

// command is like exec.Command with the given environment and working directory.
func command(env []string, folder, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Dir = env, folder
	return cmd
}
