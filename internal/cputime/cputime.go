// Package cputime measures the processor time of this process and of the machine.
package cputime

import "time"

// Times are sums since some time in the past.
type Times struct {
	Used time.Duration // of processors, by this process
	Idle time.Duration // of all processors of the machine; only Linux tells
}

// Read returns the times so far.
func Read() Times { return Times{Used: used(), Idle: idle()} }
