//go:build unix && !darwin && !linux && !openbsd

package mux

// readVector fills the buffers in order. x/sys/unix has no Readv here.
func readVector(fd int, vector [][]byte) (int, error) { return readEach(fd, vector) }
