//go:build unix && !darwin && !linux && !openbsd

package mux

import "golang.org/x/sys/unix"

// readVector fills the buffers in order. x/sys/unix has no Readv here. An error comes with what was
// read before it.
func readVector(fd int, vector [][]byte) (int, error) { return readEach(fd, vector, unix.Read) }
