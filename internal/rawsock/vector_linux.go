package rawsock

import (
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const direct = true

// maxVector is how many buffers one call reads into or writes from.
const maxVector = 8

// Readv reads into the buffers in order, with one call (readv(2)), the first eight of them at most.
// The socket must not block. It returns 0 at its end, and unix.EAGAIN when nothing has come.
func Readv(fd uintptr, vector [][]byte) (int, error) {
	return transfer(unix.SYS_READV, fd, vector)
}

// Writev writes what the buffers hold, with one call (writev(2)), the first eight of them at most,
// and returns how much the socket has taken. It must not block. The error is unix.EAGAIN when it
// is full.
func Writev(fd uintptr, vector [][]byte) (int, error) {
	return transfer(unix.SYS_WRITEV, fd, vector)
}

// transfer makes one of the two calls. The runtime would have to know if it could block.
func transfer(call, fd uintptr, vector [][]byte) (int, error) {
	var parts [maxVector]unix.Iovec
	n := min(len(vector), maxVector)
	for i, b := range vector[:n] {
		parts[i].Base = unsafe.SliceData(b)
		parts[i].SetLen(len(b))
	}
	for {
		moved, _, errno := syscall.RawSyscall(call, fd, uintptr(unsafe.Pointer(&parts[0])), uintptr(n))
		runtime.KeepAlive(vector)
		switch errno {
		case 0:
			return int(moved), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}
