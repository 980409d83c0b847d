//go:build unix

package policy

import (
	"net"
	"sync"
	"syscall"
)

// umask is held while the process's mask for new files is another.
var umask sync.Mutex

// listenPrivately binds a socket under its final name, with a mask that keeps others out. Files
// that the process makes at the same moment get it too, which makes them no more accessible.
func listenPrivately(path string) (net.Listener, error) {
	umask.Lock()
	before := syscall.Umask(0o177)
	ln, err := listenUnix(path)
	syscall.Umask(before)
	umask.Unlock()
	if err != nil {
		return nil, err
	}
	return &unixListener{UnixListener: ln, path: path}, nil
}
