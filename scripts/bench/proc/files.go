//go:build linux

package proc

import "syscall"

// MaxFiles returns how many files this process may have open. The programs that it starts have the
// same limit.
func MaxFiles() (int, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	return int(min(limit.Cur, 1<<30)), nil
}
