//go:build unix && !linux

package cli

import "syscall"

// duplicate makes descriptor to another one of from's file.
func duplicate(from, to int) error { return syscall.Dup2(from, to) }
