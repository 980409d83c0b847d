package policy

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// shorten returns another path of a folder, which is valid until release is called: a socket's own
// path may be as long as the system allows, so that the path in a folder next to it is too long.
// Without a /proc it is the same path.
func shorten(folder string) (short string, release func()) {
	fd, err := unix.Open(folder, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return folder, func() {}
	}
	short = fmt.Sprintf("/proc/self/fd/%d", fd)
	if unix.Access(short, unix.F_OK) != nil {
		short = folder
	}
	return short, func() { unix.Close(fd) } // an error changes nothing
}
