package cli

// ownsTerminal reports true: a console sends its interrupts to every process attached to it.
func ownsTerminal() bool { return true }
