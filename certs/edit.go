package certs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"culvert/internal/secretfile"
)

// errNotRegular means that a file can't be replaced by another one.
var errNotRegular = errors.New("not a regular file")

// editFile replaces the content of a file of trust, with the file's lock held, which it waits for
// as KnownRemotes.Add does. Readers see the old or the new content. The mode and the owner stay.
func editFile(path string, create bool, edit func(content string) (string, error)) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // or the new file would replace the link
	}
	f, err := openLocked(path, create)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() { // such as /dev/null, in the place of which there would be a file
		return &fs.PathError{Op: "edit", Path: path, Err: errNotRegular}
	}
	b, err := io.ReadAll(io.LimitReader(f, maxTrustFile+1))
	if err != nil {
		return err
	}
	content, err := edit(string(b))
	if err != nil || content == string(b) {
		return err
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // openLocked may have created it
	}
	return replaceFile(path, []byte(content), info, f)
}

// lockedFile is a file of trust with its lock, which Close gives back.
type lockedFile struct {
	*os.File
	unlock func()
}

// Close closes the file, if it is open still, and gives the lock back.
func (f *lockedFile) Close() error {
	defer f.unlock()
	return f.File.Close()
}

// openLocked opens a file of trust and takes its lock. Whoever held the lock before may have
// replaced the file.
func openLocked(path string, create bool) (*lockedFile, error) {
	if create {
		if err := os.MkdirAll(filepath.Dir(path), folderMode); err != nil {
			return nil, err
		}
	}
	unlock, err := lockBeside(path)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	f, err := openCurrent(path, create)
	if err != nil {
		unlock()
		return nil, err
	}
	return &lockedFile{f, unlock}, nil
}

// openCurrent is openLocked with the lock of the file itself.
func openCurrent(path string, create bool) (*os.File, error) {
	flags := os.O_RDWR
	if create {
		flags |= os.O_CREATE
	}
	for {
		f, err := os.OpenFile(path, flags, secretFileMode)
		if err != nil {
			return nil, err
		}
		if err := secretfile.CheckTrusted(f); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if err := lockFile(f); err != nil {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
		opened, openedErr := f.Stat()
		now, err := os.Stat(path)
		if openedErr == nil && err == nil && os.SameFile(opened, now) {
			return f, nil
		}
		f.Close()
		if err := errors.Join(openedErr, err); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
}

// replaceFile replaces the file at path, which is open and has this info. It closes the old one.
func replaceFile(path string, b []byte, info fs.FileInfo, old *lockedFile) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it has the other name
	_, err = io.Copy(f, bytes.NewReader(b))
	if err == nil {
		err = keepOwner(f, info)
	}
	if err == nil {
		err = f.Chmod(info.Mode().Perm())
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if runtime.GOOS == "windows" {
		old.File.Close() // an open file can't be replaced; another lock is held
	}
	if err = rename(f.Name(), path); err != nil {
		return err
	}
	return syncFolder(dir)
}
