package certs

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// staged is a new file that is complete and synced, but does not have its name yet.
type staged struct {
	path    string
	content []byte
	mode    fs.FileMode
	file    *os.File // open while it has no name at all
	temp    string   // its name until then, where it needs one
}

// writeNew creates the file path with the content b, and missing parent folders. It fails if path
// exists. A partial file is never visible, and nothing is left on failure.
func writeNew(path string, b []byte, mode fs.FileMode) error {
	s, err := stage(path, b, mode)
	if err != nil {
		return err
	}
	defer s.drop()
	return s.publish()
}

// stage writes the content of a file that is to be path, which must not exist. Where the system has
// files without a name, nothing is left even of a process that is killed.
func stage(path string, b []byte, mode fs.FileMode) (*staged, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, folderMode); err != nil {
		return nil, err
	}
	s := &staged{path: path, content: b, mode: mode}
	if _, err := os.Lstat(path); err == nil {
		return nil, s.exists()
	}
	if f, err := openUnnamed(path, mode); err == nil {
		if err := writeAndSync(f, b); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		s.file = f
		return s, nil
	}
	s.temp = filepath.Join(dir, ".new-"+rand.Text())
	if err := writeExclusive(s.temp, b, mode); err != nil {
		if failed, ok := errors.AsType[*fs.PathError](err); ok {
			failed.Path = path // the name that the caller knows
		}
		return nil, err
	}
	return s, nil
}

func (s *staged) exists() error {
	return &fs.PathError{Op: "create", Path: s.path, Err: fs.ErrExist}
}

// publish gives the file its name, unless that is taken.
func (s *staged) publish() error {
	var err error
	if s.file != nil {
		err = linkUnnamed(s.file, s.path)
	} else {
		err = os.Link(s.temp, s.path)
	}
	if errors.Is(err, fs.ErrExist) {
		return s.exists()
	}
	if err != nil {
		// Not every file system has hard links. A reader may then see the file before it is
		// complete.
		err = writeExclusive(s.path, s.content, s.mode)
	}
	if err != nil {
		return err
	}
	return syncFolder(filepath.Dir(s.path))
}

// drop removes what publish has not named. It is to be called in any case.
func (s *staged) drop() {
	if s.file != nil {
		s.file.Close()
	} else {
		os.Remove(s.temp)
	}
}

// writeExclusive creates a file that must not exist, and removes it again if it cannot be written
// whole.
func writeExclusive(path string, b []byte, mode fs.FileMode) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if err = errors.Join(writeAndSync(f, b), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

func writeAndSync(f *os.File, b []byte) error {
	if _, err := io.Copy(f, bytes.NewReader(b)); err != nil {
		return err
	}
	return f.Sync()
}
