//go:build unix

package secretfile

import (
	"io/fs"
	"os"
	"syscall"
)

// IsPrivate reports whether the process may take the file for a secret.
func IsPrivate(info fs.FileInfo) bool {
	user := os.Geteuid()
	owner := user // unknown owners get no leniency
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		owner = int(stat.Uid)
	}
	return isPrivate(info.Mode(), owner, user)
}
