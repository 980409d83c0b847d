package cli

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"

	"culvert/internal/cli/exit"
)

// signalRelay passes signals on to a command while it runs.
type signalRelay struct {
	idle    context.Context // ends at a signal while no command runs
	reloads reloads         // for the tunnel
	stop    func()          // releases the signals

	mu     sync.Mutex // guards all below
	child  *os.Process
	caught syscall.Signal // the one that ended idle
}

// catchSignals starts catching the signals that end a program.
func catchSignals(parent context.Context) *signalRelay {
	idle, cancel := context.WithCancel(parent)
	r := &signalRelay{idle: idle, reloads: newReloads()}
	signals := make(chan os.Signal, 16)
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		if !signal.Ignored(s) { // as under nohup(1); the command inherits that
			signal.Notify(signals, s)
		}
	}
	signal.Notify(signals, reloadSignals...)
	done := make(chan struct{})
	var catching sync.WaitGroup
	catching.Go(func() {
		for {
			select {
			case s := <-signals:
				if isReload(s) {
					r.reloads.request()
				} else if !r.relay(s.(syscall.Signal)) {
					cancel()
				}
			case <-done:
				return
			}
		}
	})
	r.stop = func() {
		signal.Stop(signals)
		close(done)
		catching.Wait()
		cancel()
	}
	return r
}

// relay passes a signal on and reports whether there is a command to pass it on to. The terminal
// itself sends the command what is typed on it.
func (r *signalRelay) relay(s syscall.Signal) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.child == nil {
		r.caught = s
		return false
	}
	typed := s == syscall.SIGINT || s == syscall.SIGQUIT
	if !typed || !ownsTerminal() {
		r.child.Signal(s) // an error means that it has ended
	}
	return true
}

// interrupted returns the failure of a command that was not started because a signal came.
func (r *signalRelay) interrupted() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return exit.Fail(exitSignal+int(r.caught), "the command was not started",
		fmt.Errorf("%s came first", r.caught), "")
}

// wait runs the command to its end and returns its status.
func (r *signalRelay) wait(cmd *exec.Cmd) error {
	r.mu.Lock()
	if r.caught != 0 {
		r.mu.Unlock()
		return r.interrupted()
	}
	err := cmd.Start()
	if err == nil {
		r.child = cmd.Process
	}
	r.mu.Unlock()
	if err != nil {
		return startFailure(cmd.Args[0], err)
	}
	err = cmd.Wait()
	r.mu.Lock()
	r.child = nil
	r.mu.Unlock()
	if cmd.ProcessState == nil {
		return exit.Fail(exit.Failed, "can't wait for "+cmd.Args[0], err, "")
	}
	return exit.Status(commandStatus(cmd.ProcessState))
}

// commandStatus returns a command's exit status as a shell does.
func commandStatus(state *os.ProcessState) int {
	if w, ok := state.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return exitSignal + int(w.Signal())
	}
	return state.ExitCode()
}
