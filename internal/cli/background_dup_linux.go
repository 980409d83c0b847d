package cli

import "syscall"

// duplicate makes descriptor to another one of from's file. Not all of Linux's architectures have
// dup2.
func duplicate(from, to int) error { return syscall.Dup3(from, to, 0) }
