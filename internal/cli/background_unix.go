//go:build unix

package cli

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"sync"
	"syscall"

	"culvert/internal/cli/exit"
)

// A process in the background is not a fork, which Go's runtime doesn't survive, but another
// process of the same program: it inherits the terminal, on which it asks what it has to, and a
// pipe, to which it writes a byte once it is up. It then begins a session of its own.

// readinessVariable has the number of the pipe's descriptor.
const readinessVariable = "_CULVERT_READY_FD"

var errStopped = errors.New("stopped before everything was up")

// readiness is the pipe, or nil.
type readiness struct{ pipe *os.File }

// inheritReadiness returns the pipe of a process in the background.
func inheritReadiness() readiness {
	text, ok := os.LookupEnv(readinessVariable)
	if !ok {
		return readiness{}
	}
	_ = os.Unsetenv(readinessVariable) // or commands would inherit it; valid names don't fail
	fd, err := strconv.ParseUint(text, 10, 8)
	if err != nil || fd < 3 {
		return readiness{}
	}
	syscall.CloseOnExec(int(fd))
	pipe := os.NewFile(uintptr(fd), "readiness")
	if info, err := pipe.Stat(); err != nil || info.Mode()&fs.ModeNamedPipe == 0 {
		return readiness{} // not ours to close
	}
	return readiness{pipe}
}

func (r readiness) wanted() bool { return r.pipe != nil }

// detach leaves the session and the standard streams, and reports that all is up.
func (r readiness) detach() error {
	if _, err := syscall.Setsid(); err != nil {
		return os.NewSyscallError("setsid", err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	for standard := range 3 {
		if err := duplicate(int(null.Fd()), standard); err != nil {
			return os.NewSyscallError("dup", err)
		}
	}
	_, err = r.pipe.Write([]byte{1})
	if errors.Is(err, syscall.EPIPE) {
		err = nil // whoever waited has gone
	}
	return errors.Join(err, r.pipe.Close())
}

// inForeground reports whether this process is to start the one in the background.
func (o *backgroundOptions) inForeground() bool {
	_, started := os.LookupEnv(readinessVariable)
	return o.background && !started
}

// prepare makes a process that this one starts like this one: if that is in the background, the
// other goes there too, of which it need not tell. Release is called once it has.
func (o *backgroundOptions) prepare(cmd *exec.Cmd) (release func(), err error) {
	if !o.background {
		return func() {}, nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.ExtraFiles = []*os.File{w}
	cmd.Env = append(os.Environ(), readinessVariable+"=3") // the first of ExtraFiles
	return func() {
		r.Close()
		w.Close()
	}, nil
}

// startInBackground runs the same command line in the background until that is up, or has ended.
// The error has the exit status for this process. Signals until then are passed on.
func startInBackground() error {
	status, err := runInBackground()
	if err == nil {
		return exit.Status(status)
	}
	return exit.Fail(exit.Failed, "can't start in the background", err, "")
}

// runInBackground returns the exit status.
func runInBackground() (int, error) {
	program, err := os.Executable()
	if err != nil {
		return 0, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	cmd := exec.Command(program)
	cmd.Args = os.Args
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{w}
	cmd.Env = append(os.Environ(), readinessVariable+"=3") // the first of ExtraFiles
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGUSR1)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(signals, syscall.SIGHUP)
	}
	defer signal.Stop(signals)
	err = cmd.Start()
	w.Close()
	if err != nil {
		return 0, err
	}
	defer passSignals(signals, cmd.Process)()
	if _, err := r.Read(make([]byte, 1)); err == nil {
		return exit.OK, nil
	} else if !errors.Is(err, io.EOF) {
		return 0, err
	}
	err = cmd.Wait()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		return 0, err
	}
	status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
	switch {
	case status.Signaled():
		return exitSignal + int(status.Signal()), nil
	case status.ExitStatus() == exit.OK:
		return 0, errStopped
	}
	return status.ExitStatus(), nil
}

// passSignals passes signals on to a process until stop is called.
func passSignals(signals <-chan os.Signal, to *os.Process) (stop func()) {
	done := make(chan struct{})
	var passing sync.WaitGroup
	passing.Go(func() {
		for {
			select {
			case s := <-signals:
				_ = to.Signal(s) // it may have ended
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		passing.Wait()
	}
}
