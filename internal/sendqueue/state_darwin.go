package sendqueue

import "golang.org/x/sys/unix"

// pendingOf returns how many bytes of a socket's send queue are unsent or unacknowledged. It is
// empty once the connection is reset.
func pendingOf(fd int) (int, error) {
	return unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_NWRITE)
}
