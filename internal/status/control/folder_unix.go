//go:build unix

package control

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// makesParents is false: a system without a folder for what is running, such as an empty root,
// gets none.
const makesParents = false

// folderPath returns where control sockets are: in the folder that a service manager made for its
// service; in the user's runtime folder; in that of the system for root; else in the folder for
// temporary files, under a name of the user's own.
func folderPath() (string, error) {
	if dir, _, _ := strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":"); filepath.IsAbs(dir) {
		return dir, nil
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		// It may have been inherited from another user, as with sudo -E.
		if info, err := os.Stat(dir); err == nil && info.IsDir() && isOurs(info) {
			return filepath.Join(dir, "culvert"), nil
		}
	}
	user := os.Geteuid()
	if user != 0 {
		return filepath.Join(os.TempDir(), fmt.Sprintf("culvert-%d", user)), nil
	}
	if info, err := os.Stat("/run"); err == nil && info.IsDir() {
		return "/run/culvert", nil
	}
	return "/var/run/culvert", nil
}

// isOurs reports whether a file belongs to the user.
func isOurs(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}

// maySee reports whether the user may look for nodes in a folder of another user: root may, where a
// service manager made it for its service.
func maySee(path string) bool {
	dir, _, _ := strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":")
	return os.Geteuid() == 0 && path == dir
}

// isClosed reports whether nobody else may enter a folder.
func isClosed(info fs.FileInfo) bool { return info.Mode().Perm()&0o077 == 0 }
