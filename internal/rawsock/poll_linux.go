package rawsock

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// HasFailed reports whether a socket was reset, or has failed in another way. Unlike SO_ERROR, that
// leaves the error to the read that comes to it.
func HasFailed(raw syscall.RawConn) bool { return shows(raw, unix.POLLERR) }

// HasHungUp reports whether a socket has failed, or both halves of its connection have ended. That
// is so when the peer of a Unix socket closes it. The peer of a TCP connection ends only its own
// half by that.
func HasHungUp(raw syscall.RawConn) bool {
	return shows(raw, unix.POLLERR|unix.POLLHUP)
}

func shows(raw syscall.RawConn, events int16) (shown bool) {
	raw.Control(func(fd uintptr) { shown = Shows(fd, events) })
	return shown
}

// Shows reports whether a socket has one of the events of poll(2), which keeps its pending error.
func Shows(fd uintptr, events int16) bool {
	asked := unix.PollFd{Fd: int32(fd)}
	var wait unix.Timespec // none
	n, _, errno := syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&asked)), 1,
		uintptr(unsafe.Pointer(&wait)), 0, 0, 0)
	return errno == 0 && n > 0 && asked.Revents&events != 0
}
