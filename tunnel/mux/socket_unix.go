//go:build unix

package mux

import (
	"io"
	"os"
	"syscall"

	"culvert/internal/rawsock"

	"golang.org/x/sys/unix"
)

// socketOf returns r's socket, nil when r is none.
func socketOf(r io.Reader) syscall.RawConn { return rawsock.SocketOf(r) }

// readSocket is called when the socket may be readable, and once before. It returns false to be
// called again.
func (b *blockReader) readSocket(fd uintptr) bool {
	many := min(b.many, max(1, b.room/maxData))
	if b.piece > 0 {
		many = min(many, max(1, b.piece/maxData))
	}
	if b.denied = !b.reserve(many); b.denied {
		return true
	}
	b.take(many)
	var vector [maxBlocks][]byte
	for i := range many {
		vector[i] = b.place(b.blocks[i])
	}
	var n int
	var err error
	for {
		n, err = readVector(int(fd), vector[:many])
		if err != unix.EINTR {
			break
		}
	}
	if err == unix.EAGAIN {
		b.release()
		return false
	}
	b.n, b.err = max(n, 0), err
	b.fill(b.n)
	switch {
	case err != nil:
		b.err = os.NewSyscallError("read", err)
	case n == 0:
		b.err = io.EOF
	case n == many*maxData:
		b.many = min(2*b.many, maxBlocks)
	case n <= (many-1)*maxData:
		b.many = max(b.many-1, 1)
	}
	return true
}

// readEach is readVector with a call for each buffer, where a buffer that is not filled is the
// last.
func readEach(fd int, vector [][]byte) (n int, err error) {
	for _, b := range vector {
		var got int
		got, err = unix.Read(fd, b)
		n += max(got, 0)
		if got < len(b) {
			break
		}
	}
	if n > 0 {
		return n, nil // the next call returns the error, or the end of file
	}
	return 0, err
}
