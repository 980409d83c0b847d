// Package cputime measures the processor time of this process and of the machine.
package cputime

import "time"

// Times are sums since some time in the past.
type Times struct {
	Used time.Duration // of processors, by this process

	// Of all processors of the machine: idling, and idling until a disk has answered. Only Linux
	// tells; they are 0 where they can't be read.
	Idle, DiskWait time.Duration
}

// Read returns the times so far.
func Read() Times {
	t := Times{Used: used()}
	t.Idle, t.DiskWait = idle()
	return t
}
