package control

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// folder returns the folder of control sockets, which is made if it is missing and create is set.
// It belongs to the user, and nobody else may enter it.
func folder(create bool) (string, error) {
	path, err := folderPath()
	if err != nil {
		return "", err
	}
	if create {
		if makesParents {
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				return "", err
			}
		}
		if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", err
		}
	}
	info, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	return path, checkFolder(path, info, create)
}

// ErrFolder means that others could put a socket into the folder, or reach one.
var ErrFolder = errors.New("no folder for control sockets")

// checkFolder refuses a folder in which others could put a socket, or reach one.
func checkFolder(path string, info fs.FileInfo, create bool) error {
	switch {
	case !info.IsDir():
		return fmt.Errorf("%w: %s is not a folder", ErrFolder, path)
	case !isOurs(info) && (create || !maySee(path)):
		return fmt.Errorf("%w: %s belongs to another user", ErrFolder, path)
	case !isClosed(info):
		return fmt.Errorf("%w: others may enter %s (mode %04o)", ErrFolder, path, info.Mode().Perm())
	}
	return nil
}
