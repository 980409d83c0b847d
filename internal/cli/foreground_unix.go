//go:build unix

package cli

import (
	"os"

	"golang.org/x/sys/unix"
)

// ownsTerminal reports whether what is typed on the terminal signals our process group, which a
// command of ours belongs to.
func ownsTerminal() bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDONLY, 0)
	if err != nil {
		return false
	}
	defer tty.Close()
	raw, err := tty.SyscallConn()
	if err != nil {
		return false
	}
	foreground := 0
	controlErr := raw.Control(func(fd uintptr) {
		foreground, err = unix.IoctlGetInt(int(fd), unix.TIOCGPGRP)
	})
	if controlErr != nil || err != nil {
		return false
	}
	return foreground == unix.Getpgrp()
}
