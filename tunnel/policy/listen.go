package policy

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"

	"culvert/internal/netfault"
)

// maxSocketPath is the longest path that a socket may have in bytes: the system's structure ends
// with a zero byte (unix(7)).
const maxSocketPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// errSocketPath is the error for a path that the system would not take.
var errSocketPath = fmt.Errorf("the path of a socket has at most %d bytes", maxSocketPath)

// ErrSocketGroup is part of the error when a socket can't be given to its group.
var ErrSocketGroup = errors.New("the socket can't be given to its group")

// SocketAccess is who may connect to a unix socket. The zero value is its owner alone.
type SocketAccess struct {
	Mode  fs.FileMode // permission bits; 0 for 0600
	Group *int        // the id of the file's group; nil for the one that the system gives it
}

// Apply gives a socket's file its group before its mode, so that no other group has access.
func (a SocketAccess) Apply(path string) error {
	if a.Group != nil {
		if err := os.Chown(path, -1, *a.Group); err != nil {
			return fmt.Errorf("%w: %w", ErrSocketGroup, err)
		}
	}
	mode := a.Mode
	if mode == 0 {
		mode = 0o600
	}
	return os.Chmod(path, mode)
}

// socketFiles is held while the file of a socket is replaced or removed: another one that is bound
// there meanwhile would lose its own.
var socketFiles sync.Mutex

// ListenUnix binds a socket that only its owner may connect to. It replaces the file of a process
// that is gone.
func ListenUnix(path string) (net.Listener, error) { return ListenUnixFor(path, SocketAccess{}) }

// ListenUnixFor is ListenUnix for those whom access names.
func ListenUnixFor(path string, access SocketAccess) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, errSocketPath
	}
	socketFiles.Lock()
	defer socketFiles.Unlock()
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		if conn, err := net.Dial("unix", path); err == nil {
			conn.Close()
			return nil, syscall.EADDRINUSE
		} else if netfault.Is(err, syscall.ECONNREFUSED) {
			os.Remove(path)
		} else if errors.Is(err, syscall.EAGAIN) { // so many wait to be accepted
			return nil, syscall.EADDRINUSE
		}
	}
	// The socket gets its mode in a private folder, before it gets its name: nobody else can
	// connect in between.
	private, err := os.MkdirTemp(filepath.Dir(path), ".culvert-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(private)
	inside := filepath.Join(private, "s")
	short, release := shorten(private)
	ln, err := listenUnix(filepath.Join(short, "s"))
	release()
	if errors.Is(err, errSocketPath) {
		return listenUnderItsName(path, access)
	}
	if err != nil {
		return nil, err
	}
	err = access.Apply(inside)
	if err == nil {
		err = os.Link(inside, path)
	}
	if err != nil {
		ln.Close()
		return nil, err
	}
	return &unixListener{UnixListener: ln, path: path}, nil
}

// listenUnderItsName binds a socket whose path is too long for a private folder next to it. Called
// with socketFiles held.
func listenUnderItsName(path string, access SocketAccess) (net.Listener, error) {
	ln, err := listenPrivately(path)
	if err != nil {
		return nil, err
	}
	if access == (SocketAccess{}) {
		return ln, nil
	}
	if err := access.Apply(path); err != nil {
		ln.(*unixListener).closeLocked()
		return nil, err
	}
	return ln, nil
}

// listenUnix binds a socket, and leaves its file to the caller.
func listenUnix(path string) (*net.UnixListener, error) {
	if len(path) > maxSocketPath {
		return nil, errSocketPath
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	ln.SetUnlinkOnClose(false)
	return ln, nil
}

// unixListener has the address of its file, and removes that when it is closed.
type unixListener struct {
	*net.UnixListener
	path string
	keep atomic.Bool // Close leaves the file

	closed bool // guarded by socketFiles
}

// Addr returns the file's path as it was given.
func (l *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// AdoptUnix returns a listener with the path of its file for one that another process has made. It
// leaves the file to that process until KeepFile(false) is called.
func AdoptUnix(ln *net.UnixListener, path string) net.Listener {
	l := &unixListener{UnixListener: ln, path: path}
	l.KeepFile(true)
	return l
}

// KeepFile decides whether Close leaves the file to another process.
func (l *unixListener) KeepFile(keep bool) { l.keep.Store(keep) }

// Close implements net.Listener.
func (l *unixListener) Close() error {
	socketFiles.Lock()
	defer socketFiles.Unlock()
	return l.closeLocked()
}

// closeLocked is Close with socketFiles held. The file goes first: once nobody answers, another
// process replaces it with its own.
func (l *unixListener) closeLocked() error {
	if !l.closed && !l.keep.Load() {
		os.Remove(l.path)
	}
	l.closed = true
	return l.UnixListener.Close()
}
