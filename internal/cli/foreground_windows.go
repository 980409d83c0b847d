package cli

// ownsTerminal is true, since a console sends its interrupts to every process that is attached to it.
func ownsTerminal() bool { return true }
