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

// Starter starts processes that die with the benchmark, however it ends. Its methods may be called
// concurrently.
type Starter struct {
	starts chan func()
	ended  chan struct{}
}

// NewStarter makes a starter. Close ends it, after its processes.
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

// Close ends the thread of the starter. What it has started and still runs is killed by that.
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

// Start runs a command in the background. Its name is for errors.
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
		cmd.Wait() // how it went is in cmd.ProcessState
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

// PID is the number of the process.
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

// Err says how a process has ended that should not have, with the end of its standard error. It
// waits for that end.
func (p *Process) Err() error {
	<-p.Exited
	return fmt.Errorf("%s: %v: %s", p.name, p.cmd.ProcessState, p.stderr)
}

// Stop ends the process and whatever it has started, and waits for that.
func (p *Process) Stop() { p.stop() }

func (p *Process) end() {
	family := Tree(p.PID()) // before their parents have gone and they can't be told any more
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.Exited:
	case <-time.After(stopTime):
	}
	syscall.Kill(-p.PID(), syscall.SIGKILL)
	<-p.Exited
	family.kill()
}

// Run runs a command to its end, with input, and returns its standard output. It is killed when ctx
// ends.
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

// tail keeps the end of what is written to it.
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
