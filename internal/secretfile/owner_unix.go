//go:build unix

package secretfile

import (
	"io/fs"
	"os"
	"syscall"
)

// IsPrivate reports whether the process may take the file for a secret.
func IsPrivate(info fs.FileInfo) bool {
	owner, user := ownerOf(info)
	return isPrivate(info.Mode(), owner, user)
}

// checkTrusted applies isTrusted to a file.
func checkTrusted(info fs.FileInfo) error {
	owner, user := ownerOf(info)
	return isTrusted(info.Mode(), owner, user)
}

// ownerOf returns the owner of a file, and the user of this process, who is taken for the owner if
// that is unknown.
func ownerOf(info fs.FileInfo) (owner, user int) {
	user = os.Geteuid()
	owner = user
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		owner = int(stat.Uid)
	}
	return owner, user
}
