package netfault

import (
	"syscall"

	"golang.org/x/sys/windows"
)

// unusable are the errors of a socket on which no later call can succeed.
var unusable = [...]syscall.Errno{
	windows.ERROR_INVALID_HANDLE, windows.WSAEBADF, windows.WSAEINVAL, windows.WSAENOTSOCK,
}

// native are the numbers that this system's sockets have for errors of package syscall, which
// defines those but never meets them.
var native = map[syscall.Errno]syscall.Errno{
	syscall.EACCES:        windows.WSAEACCES,
	syscall.EADDRINUSE:    windows.WSAEADDRINUSE,
	syscall.EADDRNOTAVAIL: windows.WSAEADDRNOTAVAIL,
	syscall.ECONNREFUSED:  windows.WSAECONNREFUSED,
	syscall.ECONNRESET:    windows.WSAECONNRESET,
	syscall.EHOSTDOWN:     windows.WSAEHOSTDOWN,
	syscall.EHOSTUNREACH:  windows.WSAEHOSTUNREACH,
	syscall.ENETUNREACH:   windows.WSAENETUNREACH,
	syscall.ETIMEDOUT:     windows.WSAETIMEDOUT,
}

// exhausted are the errors for a lack of descriptors or memory.
var exhausted = [...]syscall.Errno{
	windows.ERROR_TOO_MANY_OPEN_FILES, windows.WSAEMFILE, windows.WSAENOBUFS,
	windows.ERROR_NOT_ENOUGH_MEMORY,
}
