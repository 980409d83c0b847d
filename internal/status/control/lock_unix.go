//go:build unix

package control

import (
	"errors"
	"os"
)

// dropLock removes a lock's file before it gives the lock back, so that nobody else has taken it.
func dropLock(f *os.File) error {
	return errors.Join(os.Remove(f.Name()), f.Close())
}
