package cli

import (
	"os"

	"golang.org/x/sys/windows"
)

// reloadSignals are the signals that reload: there are none here.
var reloadSignals []os.Signal

func isReload(os.Signal) bool { return false }

// hasTerminal reports true: a console that is closed ends its processes.
func hasTerminal() bool { return true }

// ownsTerminal reports true: a console sends its interrupts to every process attached to it.
func ownsTerminal() bool { return true }

// enableColor makes a console understand the control sequences of colors, and reports whether it
// does.
func enableColor(f *os.File) bool {
	console := windows.Handle(f.Fd())
	var mode uint32
	if windows.GetConsoleMode(console, &mode) != nil {
		return false
	}
	mode |= windows.ENABLE_PROCESSED_OUTPUT | windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING
	return windows.SetConsoleMode(console, mode) == nil
}
