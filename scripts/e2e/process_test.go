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
	// patience bounds every wait for something that is quick on an idle machine, where a test has no
	// bound of its own.
	patience = 30 * time.Second

	// stopTime is how long culvert may take from a signal to its exit: 5 s for draining, and some for
	// a busy machine.
	stopTime = 15 * time.Second

	// pipeDelay is how long the output of a process that has exited may stay open in one of its
	// children.
	pipeDelay = 5 * time.Second

	// maxLogged bounds in bytes what is shown of the output of a process when its test has failed: the
	// end tells most.
	maxLogged = 16 << 10

	// raceStatus is what a program exits with when its race detector has found a race.
	raceStatus = 66
)

// needProgram returns the path of a program that the tests run.
func needProgram(t *testing.T, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, folder := range []string{"/usr/sbin", "/sbin"} { // off an ordinary user's PATH
		if path, err := exec.LookPath(filepath.Join(folder, name)); err == nil {
			return path
		}
	}
	t.Fatalf("%s is missing: make test-deps installs it", name)
	return ""
}

// needRoot fails a test that can't be run by an ordinary user.
func needRoot(t *testing.T, why string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatalf("this test must be run by root: %s", why)
	}
}

// cleanEnv is an environment with a home of its own, in which nothing of the machine's settings
// shows.
func cleanEnv(t *testing.T) []string {
	t.Helper()
	home := t.TempDir()
	return []string{
		"HOME=" + home,
		"XDG_CONFIG_HOME=" + filepath.Join(home, "config"),
		"PATH=" + os.Getenv("PATH"),
		"LANG=C.UTF-8",
		"TMPDIR=" + os.TempDir(),
		"GIT_CONFIG_NOSYSTEM=1",
		"GORACE=halt_on_error=1 exitcode=66 atexit_sleep_ms=10",
	}
}

// process is a program that a test has started, in a process group of its own. Whatever of it is
// left when the test ends is killed.
type process struct {
	t      *testing.T
	name   string
	cmd    *exec.Cmd
	stdout *output
	stderr *output
	exited chan struct{} // closed when it has been reaped
}

// spawns are the commands that spawner is to start.
var spawns = make(chan func())

// spawner starts what is to die with the tests. The kernel sends the signal of Pdeathsig when the
// thread that started a process ends, not when its program does (prctl(2), PR_SET_PDEATHSIG), and
// threads that were in another network namespace do end (see package link): one thread, which
// lasts, starts them all.
func spawner() {
	runtime.LockOSThread()
	for start := range spawns {
		start()
	}
}

// spawn starts a command in a process group of its own, which is killed when the tests are.
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
		cmd.Wait() // how it went is in cmd.ProcessState
	}()
	t.Cleanup(p.end)
	return p
}

// end makes sure that nothing is left, and that the program ended without a race or a panic.
func (p *process) end() {
	p.killGroup()
	<-p.exited
	text := p.stderr.String()
	if p.status() == raceStatus || strings.Contains(text, "WARNING: DATA RACE") {
		p.t.Errorf("%s: the race detector found a race", p.name)
	}
	for _, crash := range []string{"panic: ", "fatal error: ", "goroutine 1 ["} {
		if strings.Contains(text, crash) {
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

// status is the exit status, -1 after a death by signal. The process must have exited.
func (p *process) status() int {
	if p.running() {
		return -1
	}
	return p.cmd.ProcessState.ExitCode()
}

// signal sends a signal to the process alone, not to its group.
func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("%s: signal: %v", p.name, err)
	}
}

// wait returns the exit status. It fails the test after timeout.
func (p *process) wait(timeout time.Duration) int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(timeout):
		p.t.Fatalf("%s did not exit within %v", p.name, timeout)
	}
	return p.status()
}

// kill ends the process as a crash of its machine would.
func (p *process) kill() {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
	p.wait(patience)
}

// result is what a command that was run to its end has left.
type result struct {
	stdout string
	stderr string
	status int // -1 after a death by signal or a timeout
}

// run runs a command to its end, for timeout at most.
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

// must runs a command that has to succeed, and returns its standard output.
func must(t *testing.T, timeout time.Duration, cmd *exec.Cmd) string {
	t.Helper()
	r := run(t, timeout, cmd)
	if r.status != 0 {
		t.Fatalf("%s: status %d\n%s%s", cmd, r.status, r.stdout, r.stderr)
	}
	return r.stdout
}

// command is exec.Command in a given environment and folder.
func command(env []string, folder, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Dir = env, folder
	return cmd
}
