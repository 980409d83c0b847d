//go:build unix

package cli

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// reloadSignals are the signals that reload, in addition to SIGHUP.
var reloadSignals = []os.Signal{syscall.SIGUSR1}

// isReload reports whether a signal is one of them.
func isReload(s os.Signal) bool { return s == syscall.SIGUSR1 }

// hasTerminal reports whether the process has a controlling terminal. Where there is no /dev/tty,
// as in a chroot, it asks the standard streams: only the controlling terminal reports its
// foreground group.
func hasTerminal() bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDONLY|syscall.O_NOCTTY, 0)
	if err == nil {
		_ = tty.Close() // nothing was written
		return true
	}
	for _, f := range []*os.File{os.Stdin, os.Stdout, os.Stderr} {
		if _, err := foregroundGroup(f); err == nil {
			return true
		}
	}
	return false
}

// ownsTerminal reports whether what is typed on the terminal signals our process group, which a
// command of ours belongs to.
func ownsTerminal() bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDONLY, 0)
	if err != nil {
		return false
	}
	defer tty.Close()
	foreground, err := foregroundGroup(tty)
	return err == nil && foreground == unix.Getpgrp()
}

// foregroundGroup returns the foreground process group of the terminal, which has to be the
// controlling one.
func foregroundGroup(tty *os.File) (group int, err error) {
	raw, err := tty.SyscallConn()
	if err != nil {
		return 0, err
	}
	controlErr := raw.Control(func(fd uintptr) {
		group, err = unix.IoctlGetInt(int(fd), unix.TIOCGPGRP)
	})
	if controlErr != nil {
		return 0, controlErr
	}
	return group, err
}

// enableColor reports whether a terminal understands the control sequences of colors: all do.
func enableColor(*os.File) bool { return true }
