//go:build unix && !linux

package cli

import "syscall"

// endOf returns how a child has ended, nil if it hasn't. It may be called until it returns an end.
func endOf(pid int) *childEnd { return waitFor(pid, syscall.WNOHANG) }
