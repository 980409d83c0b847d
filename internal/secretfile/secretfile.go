// Package secretfile opens files that hold secrets, and refuses those that others may access. It
// also opens files that decide whom to trust, and refuses those that others may write to.
//
// There is one rule for secrets. The permission bits have to keep everybody but the owner out. A
// file that root owns may also be read by its group, when another user reads it: that is how an
// administrator hands a key to a service, which can't change such a file's mode. OpenSSH is as
// lenient with files that aren't the caller's own. Windows has no such bits, and there every file
// passes.
package secretfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// ErrMode is wrapped when others may read or write a file. The cure is chmod 600.
var ErrMode = errors.New("key file is accessible by others than its owner")

const (
	// ownerOnly are the permission bits of a file that is private.
	ownerOnly fs.FileMode = 0o700

	// ownerAndReaders are those of a file that its group may read.
	ownerAndReaders fs.FileMode = 0o740
)

// Open opens a file that is private. For any other file the error wraps ErrMode.
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

// isPrivate is the rule for a file of this owner, which the user reads. The owner root has the
// number 0.
func isPrivate(mode fs.FileMode, owner, user int) bool {
	allowed := ownerOnly
	if owner == 0 && user != 0 {
		allowed = ownerAndReaders
	}
	return mode.Perm()&^allowed == 0
}
