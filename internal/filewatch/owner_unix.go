//go:build unix

package filewatch

import (
	"io/fs"
	"syscall"
)

// owner is the user and the group of a file.
type owner struct{ user, group uint32 }

// ownerOf returns the owner of a file, the zero one if that is unknown.
func ownerOf(info fs.FileInfo) owner {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return owner{stat.Uid, stat.Gid}
	}
	return owner{}
}
