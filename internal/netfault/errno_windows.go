package netfault

import (
	"syscall"

	"golang.org/x/sys/windows"
)

// unusable are the errors of a socket on which no later call can succeed.
var unusable = [...]syscall.Errno{
	windows.ERROR_INVALID_HANDLE, windows.WSAEBADF, windows.WSAEINVAL, windows.WSAENOTSOCK,
}
