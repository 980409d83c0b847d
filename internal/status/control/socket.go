package control

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

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

	path     string
	listener net.Listener
	lock     *os.File // held while the process lives
}

// Listen makes the control socket of a node with a name. The error is ErrRunning if another process
// has it.
func Listen(name string) (*Socket, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	dir, err := folder(true)
	if err != nil {
		return nil, err
	}
	return listenIn(dir, name)
}

// ListenNumbered makes the control socket of a node whose name is the base with the first number
// that is free.
func ListenNumbered(base string) (*Socket, error) {
	dir, err := folder(true)
	if err != nil {
		return nil, err
	}
	for n := 1; n <= maxNumber; n++ {
		s, err := listenIn(dir, base+"-"+strconv.Itoa(n))
		if !errors.Is(err, ErrRunning) {
			return s, err
		}
	}
	return nil, ErrRunning
}

func listenIn(dir, name string) (*Socket, error) {
	path := filepath.Join(dir, name+socketSuffix)
	lock, err := takeLock(filepath.Join(dir, name+lockSuffix))
	if err != nil {
		return nil, err
	}
	// Whose lock is free has ended, even if its socket is still there.
	err = os.Remove(path)
	if err == nil || errors.Is(err, os.ErrNotExist) {
		var ln net.Listener
		if ln, err = net.Listen("unix", path); err == nil {
			if err = os.Chmod(path, 0o600); err == nil {
				return &Socket{Name: name, path: path, listener: ln, lock: lock}, nil
			}
			ln.Close()
		}
	}
	return nil, errors.Join(err, dropLock(lock))
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

// Close removes the socket, and gives the name back.
func (s *Socket) Close() error {
	err := s.listener.Close() // which removes the path
	return errors.Join(err, dropLock(s.lock))
}

// Names returns the names of the sockets in the user's folder, in order. A process that was killed
// leaves one behind.
func Names() ([]string, error) {
	dir, err := folder(false)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		name, ok := strings.CutSuffix(entry.Name(), socketSuffix)
		if ok && CheckName(name) == nil {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, compareNames)
	return names, nil
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
