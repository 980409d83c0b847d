package cli

import "os"

// reloadSignals are the signals that reload: there are none here.
var reloadSignals []os.Signal

func isReload(os.Signal) bool { return false }

// hasTerminal reports true: a console that is closed ends its processes.
func hasTerminal() bool { return true }

// ownsTerminal reports true: a console sends its interrupts to every process attached to it.
func ownsTerminal() bool { return true }
