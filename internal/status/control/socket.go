package control

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"culvert/internal/filelock"
)

// ErrRunning means that a node with the name is running.
var ErrRunning = errors.New("a node with this name is running")

// ErrBadName means that a name is none.
var ErrBadName = errors.New("a name is 1 to 64 letters, digits, dots, underscores and hyphens")

var nameForm = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]*$`)

// CheckName returns ErrBadName for what can't be the name of a node. A leading dot would hide the
// socket.
func CheckName(name string) error {
	if len(name) > maxName || !nameForm.MatchString(name) || name == "none" {
		return ErrBadName
	}
	return nil
}

// Socket is the control socket of this process.
type Socket struct {
	Name string

	mu       sync.Mutex // guards the rest, which restore replaces
	path     string
	listener net.Listener
	lock     *os.File // held while the process lives; nil while it has no socket
}

// Listen makes the control socket of a node with a name. The error is ErrRunning if another process
// has it.
func Listen(name string) (*Socket, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	s := &Socket{Name: name}
	if err := s.listen(); err != nil {
		return nil, err
	}
	return s, nil
}

// ListenNumbered makes the control socket of a node whose name is the base with the first number
// that is free.
func ListenNumbered(base string) (*Socket, error) {
	for n := 1; n <= maxNumber; n++ {
		s, err := Listen(base + "-" + strconv.Itoa(n))
		if !errors.Is(err, ErrRunning) {
			return s, err
		}
	}
	return nil, ErrRunning
}

// listen takes the lock of the name and makes the socket.
func (s *Socket) listen() error {
	dir, err := newFolder()
	if err != nil {
		return err
	}
	lock, err := takeLock(filepath.Join(dir, s.Name+lockSuffix))
	if err != nil {
		return err
	}
	path := filepath.Join(dir, s.Name+socketSuffix)
	ln, err := s.listenAt(path)
	if err != nil {
		return errors.Join(err, dropLock(lock))
	}
	s.path, s.listener, s.lock = path, ln, lock
	return nil
}

// listenAt makes the socket, whose lock is held, unless the name has been given in another folder.
func (s *Socket) listenAt(path string) (net.Listener, error) {
	others, err := folders()
	if err != nil {
		return nil, err
	}
	for _, dir := range others {
		if dir != filepath.Dir(path) && isHeld(filepath.Join(dir, s.Name+lockSuffix)) {
			return nil, ErrRunning
		}
	}
	// Whose lock is free has ended, even if its socket is still there.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	ln.SetUnlinkOnClose(false) // another node may have the path by then
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, ln.Close(), os.Remove(path))
	}
	return ln, nil
}

// restore makes the socket once more if it has been removed, or if it isn't in the folder that new
// ones have now: systemd removes a user's runtime folder at the last logout, and makes it at the
// next login. The listener is nil if nothing has changed, or with an error; restore may be called
// again.
func (s *Socket) restore() (net.Listener, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock != nil {
		paths, err := folderPaths()
		if err == nil {
			_, err = os.Lstat(s.path)
		}
		if err == nil && filepath.Dir(s.path) == paths[0] && isAt(s.lock, s.lock.Name()) {
			return nil, nil
		}
		s.release() // its errors are that there is nothing left
	}
	if err := s.listen(); err != nil {
		return nil, err
	}
	return s.listener, nil
}

// Close removes the socket, and gives the name back.
func (s *Socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock == nil {
		return nil
	}
	return s.release()
}

// release removes what of the socket is this node's, and gives the name back. It is called with mu
// held.
func (s *Socket) release() (err error) {
	if isAt(s.lock, s.lock.Name()) {
		if err = os.Remove(s.path); errors.Is(err, os.ErrNotExist) {
			err = nil
		}
	}
	closed := s.listener.Close()
	if errors.Is(closed, net.ErrClosed) {
		closed = nil // a Server has closed it
	}
	err = errors.Join(err, closed, dropLock(s.lock))
	s.lock = nil
	return err
}

// folder returns where the socket is.
func (s *Socket) folder() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return filepath.Dir(s.path)
}

const (
	socketSuffix = ".sock"
	lockSuffix   = ".lock"
)

// takeLock makes and locks a file. The error is ErrRunning if another process holds the lock.
func takeLock(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		ok, err := filelock.Try(f)
		if ok && isAt(f, path) {
			return f, nil
		}
		f.Close()
		switch {
		case err != nil:
			return nil, fmt.Errorf("lock %s: %w", path, err)
		case !ok:
			return nil, ErrRunning
		}
		// Its last holder has removed the file since it was opened.
	}
}

// isAt reports whether an open file is the one at a path.
func isAt(f *os.File, path string) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(opened, there)
}

// isHeld reports whether a process holds the lock whose file is at a path.
func isHeld(path string) bool {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	ok, err := filelock.Try(f)
	return err == nil && !ok
}

// Names returns the names of the sockets in the user's folders, in order. A process that was killed
// leaves one behind.
func Names() ([]string, error) {
	dirs, err := folders()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			name, ok := strings.CutSuffix(entry.Name(), socketSuffix)
			if ok && CheckName(name) == nil {
				names = append(names, name)
			}
		}
	}
	slices.SortFunc(names, compareNames)
	return slices.Compact(names), nil
}

// find returns the path of the socket of a name: of the one whose node lives, if there are several.
// It may not be there.
func find(name string) (string, error) {
	dirs, err := folders()
	if err != nil {
		return "", err
	}
	if len(dirs) == 0 {
		return "", fs.ErrNotExist
	}
	for _, dir := range dirs {
		if isHeld(filepath.Join(dir, name+lockSuffix)) {
			return filepath.Join(dir, name+socketSuffix), nil
		}
	}
	return filepath.Join(dirs[0], name+socketSuffix), nil
}

// compareNames orders local-2 before local-10.
func compareNames(a, b string) int {
	baseA, numberA := splitNumber(a)
	baseB, numberB := splitNumber(b)
	return cmp.Or(strings.Compare(baseA, baseB), cmp.Compare(numberA, numberB), strings.Compare(a, b))
}

func splitNumber(name string) (base string, number int) {
	base = strings.TrimRight(name, "0123456789")
	number, _ = strconv.Atoi(name[len(base):])
	return base, number
}
