//go:build unix

package certs

import (
	"io/fs"
	"os"
	"syscall"
)

// keepOwner gives a new file the owner and the group of another, if that is not so already.
func keepOwner(f *os.File, other fs.FileInfo) error {
	created, err := f.Stat()
	if err != nil {
		return err
	}
	is, ok := created.Sys().(*syscall.Stat_t)
	want, known := other.Sys().(*syscall.Stat_t)
	if !ok || !known || is.Uid == want.Uid && is.Gid == want.Gid {
		return nil
	}
	return f.Chown(int(want.Uid), int(want.Gid))
}
