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
func socketOf(r io.Reader) (raw, waits syscall.RawConn) { return rawsock.SocketOf(r), nil }

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
	case err != nil: // after the n bytes, if there are any
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

// readEach is readVector with a call of read for each buffer, where a buffer that is not filled is
// the last. An error comes with what was read before it: some systems report a reset once, and then
// an end of file.
func readEach(
	fd int, vector [][]byte, read func(fd int, p []byte) (int, error),
) (n int, err error) {
	for _, b := range vector {
		var got int
		got, err = read(fd, b)
		n += max(got, 0)
		if got < len(b) {
			break
		}
	}
	if n > 0 && (err == unix.EAGAIN || err == unix.EINTR) { // the next call shows what there is
		err = nil
	}
	return n, err
}
