//go:build unix

package cputime

import (
	"time"

	"golang.org/x/sys/unix"
)

func used() time.Duration {
	var use unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &use) != nil {
		return 0
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}
