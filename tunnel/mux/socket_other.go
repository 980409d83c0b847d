//go:build !unix

package mux

import (
	"io"
	"syscall"
)

// socketOf returns nil: reading without a buffer that waits is made for Unix.
func socketOf(io.Reader) syscall.RawConn { return nil }

func (b *blockReader) readSocket(uintptr) bool { panic("mux: no socket") }
