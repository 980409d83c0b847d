//go:build unix

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"culvert/internal/cli/exit"
	"culvert/internal/status/control"

	"github.com/rs/zerolog"
)

// successorTimeout bounds how long the process that is to replace this one may take to serve.
const successorTimeout = 45 * time.Second

// successorInterval is how often this process looks whether that one has ended.
const successorInterval = 20 * time.Millisecond

// guardInterval is the same once that one has taken over.
const guardInterval = 200 * time.Millisecond

// firstProcess is the number of a system's or a container's first process, with which all others
// end.
const firstProcess = 1

// takeOverFlag is what a successor is told.
const takeOverFlag = "--take-over"

// successor starts the program that is installed now, with the command line of this process, to
// take over from it.
type successor struct {
	giver      *giver
	background *backgroundOptions
	log        zerolog.Logger

	program string // its path; there may be another version by now
	failed  error  // why there is no path
}

func newSuccessor(g *giver, background *backgroundOptions, log zerolog.Logger) *successor {
	s := &successor{giver: g, background: background, log: log}
	s.program, s.failed = programPath()
	return s
}

// programPath returns the path of this program. A link by which it was started, such as one to the
// folder of a version, stays a link.
func programPath() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	path, err := exec.LookPath(os.Args[0])
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil || !sameFile(path, self) {
		return self, nil
	}
	return path, nil
}

func sameFile(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

const anotherContainer = "start another container, and stop this one"

// containerInits are the first processes, by the names that the kernel has for them, that end once
// the process that they have started does.
var containerInits = []string{
	"tini", "tini-static", "docker-init", "podman-init", "dumb-init", "catatonit",
}

// isRunByContainer reports whether the first process of a container has started this one, and waits
// for it.
func isRunByContainer() bool {
	if os.Getppid() != firstProcess {
		return false
	}
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", firstProcess))
	return err == nil && slices.Contains(containerInits, strings.TrimSpace(string(name)))
}

// start is control.Node.Restart. It returns once the other process serves, or won't. Whoever asked
// may be gone by then.
func (s *successor) start(context.Context) error {
	switch {
	case os.Getpid() == firstProcess:
		return &control.Error{
			What: "it is the first process of its container, which would end with it",
			Hint: anotherContainer, Status: exit.Usage,
		}
	case !s.background.background && isRunByContainer():
		return &control.Error{
			What: "the init of its container runs it, and the container would end with it",
			Hint: anotherContainer, Status: exit.Usage,
		}
	case s.failed != nil:
		return told(exit.Fail(exit.Failed, "can't find its program", s.failed, ""))
	}
	done, err := s.giver.succeed()
	if err != nil {
		return err
	}
	defer done()
	if err := s.run(); err != nil {
		s.log.Error().Err(err).Msg("not replaced")
		return &control.Error{
			What: err.Error(), Hint: "its log may have the reason; the old process goes on",
			Status: exit.Failed,
		}
	}
	return nil
}

// run starts the process, and ends it if it doesn't take over.
func (s *successor) run() error {
	cmd := exec.Command(s.program)
	cmd.Args = successorArgs(os.Args, s.giver.served.observed.name())
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	release, err := s.background.prepare(cmd)
	if err != nil {
		return err
	}
	defer release()
	if err := cmd.Start(); err != nil {
		return err
	}
	s.log.Info().Int("pid", cmd.Process.Pid).Str("program", s.program).
		Msg("another process is to take over")
	pid := cmd.Process.Pid
	end, err := s.await(pid)
	switch {
	case s.giver.hasTaken(pid):
		s.giver.giving.Go(func() { s.guard(pid, end) })
		return cmd.Process.Release() // it outlives this process
	case end == nil && endOf(pid) == nil:
		cmd.Process.Kill()
	}
	reap(pid)
	return err
}

// await waits until a process has taken over, or won't. It returns how the process has ended, too,
// if it has.
func (s *successor) await(pid int) (end *childEnd, err error) {
	timeout := time.NewTimer(successorTimeout)
	defer timeout.Stop()
	ticker := time.NewTicker(successorInterval)
	defer ticker.Stop()
	for {
		select {
		case <-s.giver.released:
			if !s.giver.hasTaken(pid) {
				return end, errors.New("a third process has taken over")
			}
			return end, nil
		case <-ticker.C:
			if end == nil {
				end = endOf(pid)
			}
			if end != nil && !s.giver.isTaking(pid) { // else what it has said last is being read
				return end, end
			}
		case <-timeout.C:
			if !s.giver.isTaking(pid) {
				return end, fmt.Errorf("the new process doesn't serve after %v", successorTimeout)
			}
		case <-s.giver.ctx.Done():
			return end, errors.New("the old process ends")
		}
	}
}

// guard cuts what this process drains short when the process that has taken over fails. A service
// manager doesn't see that: the other process is its main one, but not its child while this one
// runs. end is how it has ended, nil if it hasn't.
func (s *successor) guard(pid int, end *childEnd) {
	ticker := time.NewTicker(guardInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if end == nil {
				end = endOf(pid)
			}
			if end == nil {
				continue
			}
			if !end.failed() {
				s.log.Info().Int("pid", pid).Msg("the process that has taken over has ended")
				return
			}
			s.log.Error().Int("pid", pid).Err(end).
				Msg("the process that has taken over has failed: this one ends")
			s.giver.signals.cut(exit.Fail(exit.Failed, "streams cut short", end, ""))
			return
		case <-s.giver.ctx.Done():
			return
		}
	}
}

// successorArgs are the arguments of the process that is to take over from one with a name, whose
// own are args.
func successorArgs(args []string, name string) []string {
	if n := len(args); n >= 2 && args[n-2] == takeOverFlag {
		args = args[:n-2]
	}
	return append(slices.Clone(args), takeOverFlag, name)
}
