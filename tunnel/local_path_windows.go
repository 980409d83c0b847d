package tunnel

import (
	"syscall"

	"golang.org/x/sys/windows"
)

// pathGone are the errors of a socket for an address that the machine doesn't have, or from which
// there is no route.
var pathGone = [...]syscall.Errno{
	windows.WSAEADDRNOTAVAIL, windows.WSAENETUNREACH, windows.WSAEHOSTUNREACH, windows.WSAENETDOWN,
}
