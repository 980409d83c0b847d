package rawsock

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SetInt sets an option of a socket (setsockopt(2)).
func SetInt(fd uintptr, level, option, value int) error {
	number := int32(value)
	_, _, errno := syscall.RawSyscall6(unix.SYS_SETSOCKOPT, fd, uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(&number)), unsafe.Sizeof(number), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// TCPInfo returns what TCP knows of a connection (TCP_INFO, tcp(7)). Fields that the kernel doesn't
// have are 0.
func TCPInfo(fd uintptr) (*unix.TCPInfo, error) {
	info := new(unix.TCPInfo)
	size := uint32(unsafe.Sizeof(*info))
	_, _, errno := syscall.RawSyscall6(unix.SYS_GETSOCKOPT, fd, unix.IPPROTO_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return nil, errno
	}
	return info, nil
}
