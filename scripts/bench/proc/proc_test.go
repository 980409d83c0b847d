//go:build linux

package proc

import (
	"context"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

func newStarter(t *testing.T) *Starter {
	t.Helper()
	s := NewStarter()
	t.Cleanup(s.Close)
	return s
}

// Stop also ends a child that has left the process group and ignores SIGTERM.
func TestStop(t *testing.T) {
	s := newStarter(t)
	p, err := s.Start("sh",
		exec.Command("sh", "-c", "setsid sh -c 'trap \"\" TERM; echo $$; sleep 1000' & wait"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	line, err := p.Line(ctx)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	child, ok := readStat(pid)
	if !ok {
		t.Fatalf("no process %d", pid)
	}
	in := false
	for _, m := range Tree(p.PID()) {
		in = in || m == child.member
	}
	if !in {
		t.Errorf("the child %d is not in the tree of %d", pid, p.PID())
	}
	p.Stop()
	if child.alive() {
		t.Error("the child is left")
	}
	if err := p.Err(); !strings.HasPrefix(err.Error(), "sh: signal: terminated") {
		t.Errorf("error %q", err)
	}
}

func TestRun(t *testing.T) {
	s := newStarter(t)
	output, err := s.Run(t.Context(), "cat", exec.Command("cat"), []byte("text"))
	if err != nil || string(output) != "text" {
		t.Errorf("cat: %q, %v", output, err)
	}
	_, err = s.Run(t.Context(), "sh", exec.Command("sh", "-c", "echo why >&2; exit 3"), nil)
	if err == nil || err.Error() != "sh: exit status 3: why" {
		t.Errorf("a command that fails: %v", err)
	}
	if _, err := s.Run(t.Context(), "nothing", exec.Command("/nothing"), nil); err == nil {
		t.Error("a command that does not exist was run")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Run(ctx, "sleep", exec.Command("sleep", "1000"), nil); err == nil {
		t.Error("a command that was cancelled did not fail")
	}
}

// The CPU time of a family includes that of its members and of children that have exited.
func TestCPU(t *testing.T) {
	s := newStarter(t)
	p, err := s.Start("sh", exec.Command("sh", "-c",
		`sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done'; echo done; sleep 1000`))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	family := Tree(p.PID())
	if _, err := p.Line(ctx); err != nil {
		t.Fatal(err)
	}
	if used := family.CPU(); used < 0.02 {
		t.Errorf("%v s of CPU", used)
	}
	if memory := Tree(p.PID()).Memory(); memory < 100<<10 || memory > 100<<20 {
		t.Errorf("%v bytes of memory", memory)
	}
}

// Memory measures what a process has allocated.
func TestMemory(t *testing.T) {
	s := newStarter(t)
	p, err := s.Start("sh", exec.Command("sh", "-c",
		`v=$(head -c 30000000 /dev/zero | tr '\0' x); echo ${#v}; sleep 1000; echo $v`))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if line, err := p.Line(ctx); err != nil || line != "30000000" {
		t.Fatalf("%q, %v", line, err)
	}
	if memory := Tree(p.PID()).Memory(); memory < 30e6 || memory > 300e6 {
		t.Errorf("%v bytes", memory)
	}
	if _, ok := memoryLine(p.PID(), "status", "VmRSS:"); !ok {
		t.Error("no resident set size")
	}
}

func TestListening(t *testing.T) {
	s := newStarter(t)
	p, err := s.Start("sleep", exec.Command("sleep", "1000"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	if err := p.Listening(t.Context(), port); err != nil { // it is in the same network namespace
		t.Error(err)
	}
	ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := p.Listening(ctx, port); err == nil {
		t.Error("a port that was closed has a listener")
	}
	p.Stop()
	if err := p.Listening(t.Context(), port); err == nil {
		t.Error("a process that has ended listens")
	}
}
