//go:build darwin || openbsd

package mux

import "golang.org/x/sys/unix"

// readVector fills the buffers in order, with one system call.
func readVector(fd int, vector [][]byte) (int, error) { return unix.Readv(fd, vector) }
