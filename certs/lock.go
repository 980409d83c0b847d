package certs

import (
	"os"
	"time"

	"culvert/internal/filelock"
)

// lockFile takes the file's lock for this opening of it, until the file is closed. It polls, since
// the systems' waiting calls have no deadline.
func lockFile(f *os.File) error {
	for deadline := time.Now().Add(lockWait); ; time.Sleep(lockRetry) {
		ok, err := filelock.Try(f)
		if ok || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return ErrLocked
		}
	}
}
