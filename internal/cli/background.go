package cli

import (
	"errors"

	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
)

// backgroundOptions let a node run without a terminal.
type backgroundOptions struct {
	background bool   // -f
	pidFile    string // "" for none
	logFile    string // "" for standard error

	out   *outputs
	ready readiness // of a process that another started to be in the background
	pid   *pidFile  // nil for none
	late  bool      // the file of the PID is another process's until that is taken over
}

func (o *backgroundOptions) define(s *flags.Set) {
	s.Group("background")
	s.Bool(&o.background, "f", "go to the background once everything is up, with exit status 0; "+
		"until then questions are asked and errors reported; not on Windows").Common()
	s.String(&o.pidFile, "pid-file", "", "write the process's number to `FILE`, which is locked, "+
		"and removed at the end; not on Windows")
	s.String(&o.logFile, "log-file", "", "log to `FILE`, which is opened again at a reload, "+
		"instead of standard error")
}

// open opens the files that the options name, until close; the log stays open until the program has
// reported its end. With -f, that happens in another process, in the background, and the error has
// the exit status of this one.
func (o *backgroundOptions) open(out *outputs) error {
	if o.inForeground() {
		return startInBackground()
	}
	o.ready, o.out = inheritReadiness(), out
	if o.logFile != "" {
		if err := out.openLog(o.logFile); err != nil {
			return exit.Fail(exit.Failed, "can't use the file of --log-file", err, "")
		}
	}
	if o.late {
		return nil
	}
	return o.openPID(0)
}

// errPIDRuns means that a PID file is that of a process that runs.
var errPIDRuns = errors.New("which runs")

// openPID writes the file of the PID, if there is to be one. It may be that of a process that has
// been taken over, 0 for none.
func (o *backgroundOptions) openPID(before int) (err error) {
	if o.pidFile == "" {
		return nil
	}
	if o.pid, err = openPIDFile(o.pidFile, before); err != nil {
		hint := "name a file in a folder that this user may write to"
		if errors.Is(err, errPIDRuns) {
			hint = "stop that process, or name another file"
		}
		return exit.Fail(exit.Failed, "can't use the file of --pid-file", err, hint)
	}
	return nil
}

func (o *backgroundOptions) close() { o.pid.remove() }

// detach is called when everything is up. In the background, it leaves the terminal and tells the
// process that waits in the foreground.
func (o *backgroundOptions) detach(signals *interrupts) error {
	if !o.ready.wanted() {
		return nil
	}
	o.out.stdout.Flush()
	o.out.stderr.Flush()
	signals.leaveTerminal()
	if err := o.ready.detach(); err != nil {
		return exit.Fail(exit.Failed, "can't go to the background", err, "leave -f out")
	}
	return nil
}
