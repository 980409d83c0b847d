package secretfile

import "io/fs"

// IsPrivate reports true: package os makes up the permission bits here.
func IsPrivate(fs.FileInfo) bool { return true }

// checkTrusted accepts every file, for the same reason.
func checkTrusted(fs.FileInfo) error { return nil }
