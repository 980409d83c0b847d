package certs

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// openUnnamed creates a file in the folder of path that has no name until linkUnnamed gives it that
// one. Not every file system can do that.
func openUnnamed(path string, mode fs.FileMode) (*os.File, error) {
	const flags = unix.O_TMPFILE | unix.O_WRONLY | unix.O_CLOEXEC
	fd, err := unix.Open(filepath.Dir(path), flags, uint32(mode.Perm()))
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// linkUnnamed gives the file its name, which must be free. See open(2), O_TMPFILE.
func linkUnnamed(f *os.File, path string) error {
	unnamed := "/proc/self/fd/" + strconv.Itoa(int(f.Fd()))
	err := unix.Linkat(unix.AT_FDCWD, unnamed, unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
	if err != nil {
		return &os.LinkError{Op: "link", Old: unnamed, New: path, Err: err}
	}
	return nil
}
