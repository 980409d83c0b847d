//go:build !unix

package mux

import (
	"io"
	"syscall"
)

// socketOf returns nil: reading without holding a buffer is implemented for Unix.
func socketOf(io.Reader) syscall.RawConn { return nil }

func (b *blockReader) readSocket(uintptr) bool { panic("mux: no socket") }
