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

	// pollPause is the interval between two reads of /proc.
	pollPause = 20 * time.Millisecond

	// maxLines is how many unread lines of standard output are kept; further ones are dropped.
	maxLines = 256

	// maxLine bounds a line of standard output, in bytes.
	maxLine = 1 << 20

	// maxTail is how many bytes are kept of the end of standard error.
	maxTail = 4 << 10
)
