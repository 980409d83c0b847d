package certs

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/windows"
)

// lockBeside takes the lock of another file in the folder of the one at path, until unlock is
// called. On Windows the lock of the file itself can't be held while that is replaced, and whoever
// waits for it keeps it from being replaced. The other file stays.
func lockBeside(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, secretFileMode)
	if errors.Is(err, os.ErrNotExist) {
		return func() {}, nil // there is no such folder, as the caller will find
	}
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { f.Close() }, nil
}

// rename renames a file to one that others may be reading, for which it waits.
func rename(from, to string) error {
	for deadline := time.Now().Add(lockWait); ; time.Sleep(lockRetry) {
		err := os.Rename(from, to)
		busy := errors.Is(err, windows.ERROR_ACCESS_DENIED) ||
			errors.Is(err, windows.ERROR_SHARING_VIOLATION)
		if !busy || time.Now().After(deadline) {
			return err
		}
	}
}
