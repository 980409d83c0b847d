package proc

import "time"

const (
	// stopTime is how long a process may take from SIGTERM to its end before it is killed.
	stopTime = 5 * time.Second

	// pipeDelay is how long the output of a process that has exited may stay open in one of its
	// children.
	pipeDelay = time.Second

	// goneTime bounds the wait for descendants that have been killed.
	goneTime = 5 * time.Second

	// pollPause is between two looks at /proc.
	pollPause = 20 * time.Millisecond

	// maxLines of a process's standard output wait to be taken; later ones are dropped meanwhile.
	maxLines = 256

	// maxLine in bytes bounds a line of standard output.
	maxLine = 1 << 20

	// maxTail in bytes is how much of the end of standard error is kept.
	maxTail = 4 << 10
)
