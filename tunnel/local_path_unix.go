//go:build !windows

package tunnel

import "syscall"

// pathGone are the errors of a socket for an address that the machine doesn't have, or from which
// there is no route. Routes may also be there to say so (ip-route(8): blackhole, prohibit).
var pathGone = [...]syscall.Errno{
	syscall.EADDRNOTAVAIL, syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN,
	syscall.EINVAL, syscall.EACCES,
}
