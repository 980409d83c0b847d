package mux

import "golang.org/x/sys/unix"

// gone reports whether the socket that is read from was reset. Unlike SO_ERROR, that leaves the
// error to the read that comes to it.
func (b *blockReader) gone() (gone bool) {
	b.raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(fds, 0)
		gone = err == nil && n > 0 && fds[0].Revents&unix.POLLERR != 0
	})
	return gone
}
