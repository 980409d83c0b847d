//go:build unix

package control

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"culvert/internal/systemd"
)

// makesParents is false: a system without a folder for what is running, such as an empty root,
// gets none.
const makesParents = false

// folderPaths returns where control sockets are, first the place for new ones. A folder that a
// service manager made for its service is the only one, as is a runtime folder in a place of the
// user's own. Else they are in the runtime folder of the user's logins, while there is one, and in
// a lasting folder.
func folderPaths() ([]string, error) {
	if dir := systemd.RuntimeFolder(); dir != "" {
		return []string{dir}, nil
	}
	user := os.Geteuid()
	ofLogins := fmt.Sprintf("/run/user/%d", user)
	named := os.Getenv("XDG_RUNTIME_DIR")
	isNamed := filepath.IsAbs(named) && isOurFolder(named)
	kept := lasting(user)
	var paths []string
	switch login := filepath.Join(ofLogins, "culvert"); {
	case isNamed && filepath.Clean(named) != ofLogins:
		return []string{filepath.Join(named, "culvert")}, nil
	case isNamed:
		paths = []string{login, kept}
	case isOurFolder(ofLogins): // a shell that no login has made, such as cron's, has no variable
		paths = []string{kept, login}
	default:
		paths = []string{kept}
	}
	// TMPDIR is the session's own on macOS, and not set for a daemon.
	if usual := temporary("/tmp", user); user != 0 && usual != kept {
		paths = append(paths, usual)
	}
	return paths, nil
}

// lasting returns the folder that no logout removes: in that of the system for root, else in that
// for temporary files, under a name of the user's own.
func lasting(user int) string {
	if user != 0 {
		return temporary(os.TempDir(), user)
	}
	if info, err := os.Stat("/run"); err == nil && info.IsDir() {
		return "/run/culvert"
	}
	return "/var/run/culvert"
}

// temporary returns the folder of a user in one for temporary files.
func temporary(dir string, user int) string {
	return filepath.Join(dir, fmt.Sprintf("culvert-%d", user))
}

// isOurFolder reports whether a folder is there and the user's: a variable may have been inherited
// from another user, as with sudo -E.
func isOurFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir() && isOurs(info)
}

// isOurs reports whether a file belongs to the user.
func isOurs(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}

// maySee reports whether the user may look for nodes in a folder of another user: root may, where a
// service manager made it for its service.
func maySee(path string) bool {
	return os.Geteuid() == 0 && path == systemd.RuntimeFolder()
}

// isClosed reports whether nobody else may enter a folder.
func isClosed(info fs.FileInfo) bool { return info.Mode().Perm()&0o077 == 0 }
