package control

import (
	"io/fs"
	"os"
	"path/filepath"
)

// makesParents is true: the user's profile has no folder of ours before.
const makesParents = true

// folderPaths returns where control sockets are: in the user's profile, which others can't enter.
func folderPaths() ([]string, error) {
	dir, err := os.UserCacheDir() // %LocalAppData%
	return []string{filepath.Join(dir, "culvert", "run")}, err
}

// isOurs, isClosed and maySee: the access control list of the profile decides.
func isOurs(fs.FileInfo) bool { return true }

func isClosed(fs.FileInfo) bool { return true }

func maySee(string) bool { return false }
