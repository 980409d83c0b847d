package stdstream

import (
	"os"

	"golang.org/x/sys/unix"
)

// hangupEvents returns what to ask poll(2) for to learn of a hangup: macOS reports none without
// being asked for anything. Of a socket, it would take the end of the peer's half for one.
func hangupEvents(f *os.File) int16 {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		return 0
	}
	return unix.POLLHUP
}
