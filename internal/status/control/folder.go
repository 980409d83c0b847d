package control

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// newFolder returns the folder for a new control socket, which is made if it is missing. It belongs
// to the user, and nobody else may enter it.
func newFolder() (string, error) {
	paths, err := folderPaths()
	if err != nil {
		return "", err
	}
	path := paths[0]
	if makesParents {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return "", err
		}
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	return path, checkFolder(path, info, true)
}

// folders returns the folders that are there for control sockets of the user: a node may have been
// started with another environment, or its folder have been removed since. The error, if there is
// none, is why the last was refused, or nil.
func folders() (found []string, err error) {
	paths, err := folderPaths()
	if err != nil {
		return nil, err
	}
	var refused error
	for _, path := range paths {
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = checkFolder(path, info, false)
		}
		if err != nil {
			refused = err
			continue
		}
		found = append(found, path)
	}
	if len(found) > 0 {
		return found, nil
	}
	return nil, refused
}

// ErrFolder means that others could put a socket into the folder, or reach one.
var ErrFolder = errors.New("no folder for control sockets")

// checkFolder refuses a folder in which others could put a socket, or reach one. Only in the user's
// own may sockets be made.
func checkFolder(path string, info fs.FileInfo, making bool) error {
	switch {
	case !info.IsDir():
		return fmt.Errorf("%w: %s is not a folder", ErrFolder, path)
	case !isOurs(info) && (making || !maySee(path)):
		return fmt.Errorf("%w: %s belongs to another user", ErrFolder, path)
	case !isClosed(info):
		return fmt.Errorf("%w: others may enter %s (mode %04o)", ErrFolder, path, info.Mode().Perm())
	}
	return nil
}
