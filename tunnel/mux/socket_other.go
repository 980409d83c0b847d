//go:build !unix

package mux

import (
	"io"
	"syscall"

	"culvert/internal/rawsock"
)

// socketOf returns r's socket, to be waited for, so that no block is held until there is data; nil
// when r is none. Reading into several blocks is implemented for Unix.
func socketOf(r io.Reader) (raw, waits syscall.RawConn) { return nil, rawsock.SocketOf(r) }

func (b *blockReader) readSocket(uintptr) bool { panic("mux: no socket") }
