package mux

import "culvert/internal/rawsock"

// readVector fills the buffers in order, with one system call.
func readVector(fd int, vector [][]byte) (int, error) {
	return rawsock.Readv(uintptr(fd), vector)
}
