package rawsock

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// HasFailed reports whether a socket was reset, or has failed in another way. Unlike SO_ERROR, that
// leaves the error to the read that comes to it.
func HasFailed(raw syscall.RawConn) bool { return events(raw)&unix.POLLERR != 0 }

// HasHungUp reports whether a socket has failed, or both halves of its connection have ended. That
// is so when the peer of a Unix socket closes it. The peer of a TCP connection ends only its own
// half by that.
func HasHungUp(raw syscall.RawConn) bool {
	return events(raw)&(unix.POLLERR|unix.POLLHUP) != 0
}

// events returns those of poll(2) that need not be asked for.
func events(raw syscall.RawConn) (events int16) {
	raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd)}}
		if n, err := unix.Poll(fds, 0); err == nil && n > 0 {
			events = fds[0].Revents
		}
	})
	return events
}
