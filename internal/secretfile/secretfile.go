// Package secretfile opens files that hold secrets, and refuses those that others than their owner
// may access.
package secretfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
)

// ErrMode is wrapped when others than the owner may read or write a file. The cure is chmod 600.
var ErrMode = errors.New("key file is accessible by others than its owner")

// Open opens a file that only its owner may access. For any other file the error wraps ErrMode.
func Open(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !IsPrivate(info) {
		err = fmt.Errorf("read %s: %w (mode %04o)", path, ErrMode, info.Mode().Perm())
	}
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, err
	}
	return f, nil
}

// IsPrivate reports whether the permission bits of a file keep everybody but its owner out. Windows
// has no such bits, and package os makes them up, so IsPrivate reports true there.
func IsPrivate(info fs.FileInfo) bool {
	return runtime.GOOS == "windows" || info.Mode().Perm()&0o077 == 0
}
