package secretfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"culvert/internal/shellquote"
)

// ErrWritable is wrapped when others may write to a file that decides whom to trust. The cure is
// chmod go-w.
var ErrWritable = errors.New("others than its owner may write to it")

// ErrOwner is wrapped when such a file belongs to neither the user nor root, and so may be written
// by somebody else. The cure is chown.
var ErrOwner = errors.New("it belongs to another user")

// others are the permission bits with which others than the owner may write to a file.
const others fs.FileMode = 0o022

// OpenTrusted opens a file that decides whom to trust or what is allowed: everybody may read it,
// but it has to belong to the user or to root, and nobody else may write to it. For any other file
// the error wraps ErrWritable or ErrOwner. These are OpenSSH's rules for authorized keys and its
// configuration. Devices, such as /dev/null, pass.
func OpenTrusted(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := CheckTrusted(f); err != nil {
		_ = f.Close() // nothing was written
		return nil, err
	}
	return f, nil
}

// CheckTrusted checks a file that is open already, as OpenTrusted does.
func CheckTrusted(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	switch err := checkTrusted(info); {
	case errors.Is(err, ErrOwner):
		return fmt.Errorf("read %s: %w", f.Name(), err)
	case err != nil:
		return fmt.Errorf("read %s: %w (mode %04o)", f.Name(), err, info.Mode().Perm())
	}
	return nil
}

// isTrusted is the rule for a file of this owner, which the user reads.
func isTrusted(mode fs.FileMode, owner, user int) error {
	switch {
	case mode&fs.ModeCharDevice != 0:
		return nil
	case owner != 0 && owner != user:
		return ErrOwner
	case mode.Perm()&others != 0:
		return ErrWritable
	}
	return nil
}

// Hint returns what to do about an error of Open or OpenTrusted for the file, "" for other errors.
func Hint(err error, path string) string {
	switch {
	case errors.Is(err, ErrMode):
		return "only its owner may read it: chmod 600 " + shellquote.Quote(path)
	case errors.Is(err, ErrWritable):
		return "only its owner may write to it: chmod go-w " + shellquote.Quote(path)
	case errors.Is(err, ErrOwner):
		return "it decides whom to trust, so it has to be yours or root's: chown it"
	}
	return ""
}
