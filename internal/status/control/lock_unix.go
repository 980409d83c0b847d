//go:build unix

package control

import (
	"errors"
	"os"
)

// dropLock removes a lock's file before it gives the lock back, so that nobody else has taken it.
// If another process has made a file of that name since this one was removed, it stays.
func dropLock(f *os.File) (err error) {
	if isAt(f, f.Name()) {
		err = os.Remove(f.Name())
	}
	return errors.Join(err, f.Close())
}
