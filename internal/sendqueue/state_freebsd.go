package sendqueue

import "golang.org/x/sys/unix"

// fionwrite is FIONWRITE of sys/filio.h, which x/sys/unix lacks: _IOR('f', 119, int).
const fionwrite = 0x40046677

// pendingOf returns how many bytes of a socket's send queue are unsent or unacknowledged. It is
// empty once the connection is reset.
func pendingOf(fd int) (int, error) { return unix.IoctlGetInt(fd, fionwrite) }
