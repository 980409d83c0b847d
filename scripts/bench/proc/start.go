//go:build linux

package proc

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Starter starts processes that are killed when the benchmark ends. Its methods may be called
// concurrently.
type Starter struct {
	starts chan func()
	ended  chan struct{}
}

// NewStarter returns a new starter. Close it after its processes have been stopped.
func NewStarter() *Starter {
	s := &Starter{make(chan func()), make(chan struct{})}
	go s.serve()
	return s
}

// serve starts all processes from one thread, which lasts: the kernel sends the signal of Pdeathsig
// when the thread that started a process ends, not when its program does (prctl(2),
// PR_SET_PDEATHSIG), and threads that were in another network namespace do end.
func (s *Starter) serve() {
	defer close(s.ended)
	runtime.LockOSThread()
	for start := range s.starts {
		start()
	}
}

// Close ends the thread of the starter, which kills the processes that still run.
func (s *Starter) Close() {
	close(s.starts)
	<-s.ended
}

func (s *Starter) start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = pipeDelay
	done := make(chan error, 1)
	s.starts <- func() { done <- cmd.Start() }
	return <-done
}

// Process is a program in a process group of its own. Stop ends it.
type Process struct {
	Lines  <-chan string // of its standard output; closed at its end
	Exited <-chan struct{}

	name   string
	cmd    *exec.Cmd
	stderr *tail
	stop   func()
}

// Start runs a command in the background. Errors carry the name.
func (s *Starter) Start(name string, cmd *exec.Cmd) (*Process, error) {
	lines, exited := make(chan string, maxLines), make(chan struct{})
	p := &Process{Lines: lines, Exited: exited, name: name, cmd: cmd, stderr: &tail{}}
	p.stop = sync.OnceFunc(p.end)
	cmd.Stderr = p.stderr
	reader, writer := io.Pipe()
	cmd.Stdout = writer
	if err := s.start(cmd); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	go func() {
		defer close(exited)
		cmd.Wait() // the result is in cmd.ProcessState
		writer.Close()
	}()
	go func() {
		defer close(lines)
		defer reader.Close()
		for scan := newScanner(reader); scan.Scan(); {
			select {
			case lines <- scan.Text():
			default:
			}
		}
	}()
	return p, nil
}

func newScanner(r io.Reader) *bufio.Scanner {
	scan := bufio.NewScanner(r)
	scan.Buffer(nil, maxLine)
	return scan
}

// PID returns the process ID.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Line waits for the next line of standard output.
func (p *Process) Line(ctx context.Context) (string, error) {
	select {
	case line, ok := <-p.Lines:
		if !ok {
			return "", p.Err()
		}
		return line, nil
	case <-ctx.Done():
		return "", fmt.Errorf("%s: no output: %w", p.name, ctx.Err())
	}
}

// Err waits for a process that should not have exited, and returns an error with its exit state and
// the end of its standard error.
func (p *Process) Err() error {
	<-p.Exited
	return fmt.Errorf("%s: %v: %s", p.name, p.cmd.ProcessState, p.stderr)
}

// Stop ends the process and its descendants, and waits until they have exited.
func (p *Process) Stop() { p.stop() }

func (p *Process) end() {
	family := Tree(p.PID()) // while their parents still run: orphans can no longer be identified
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.Exited:
	case <-time.After(stopTime):
	}
	syscall.Kill(-p.PID(), syscall.SIGKILL)
	<-p.Exited
	family.kill()
}

// Run runs a command with input to completion, and returns its standard output. The command is
// killed when ctx is done.
func (s *Starter) Run(ctx context.Context, name string, cmd *exec.Cmd,
	input []byte) ([]byte, error) {
	var stdout bytes.Buffer
	stderr := &tail{}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &stdout, stderr
	if err := s.start(cmd); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	stop := context.AfterFunc(ctx, func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	defer stop()
	err := cmd.Wait()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%s: %w", name, context.Cause(ctx))
	}
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return nil, fmt.Errorf("%s: %v: %s", name, exit.ProcessState, stderr)
	}
	return stdout.Bytes(), err
}

// tail keeps the last bytes that are written to it.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, b...)
	if over := len(t.kept) - maxTail; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.kept))
}
