//go:build unix

package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"culvert/internal/filelock"
)

// pidFile has the number of this process, and is locked while it runs, so that a number that a
// killed process left behind is known for what it is.
type pidFile struct {
	path string
	file *os.File
}

// openPIDFile creates the file, or replaces one that nobody has locked. Readers find no file, or
// one with a number.
func openPIDFile(path string) (*pidFile, error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name()) // fails once it has the other name only
	p := &pidFile{path, f}
	_, err = fmt.Fprintln(f, os.Getpid())
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		_, err = filelock.Try(f) // nobody else knows it
	}
	if err == nil {
		err = p.publish()
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return p, nil
}

// publish gives the file its name.
func (p *pidFile) publish() error {
	for {
		if err := os.Link(p.file.Name(), p.path); !errors.Is(err, fs.ErrExist) {
			return err
		}
		last, err := os.OpenFile(p.path, os.O_RDWR, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		replaced, err := p.replace(last)
		if err = errors.Join(err, last.Close()); replaced || err != nil {
			return err
		}
	}
}

// replace replaces the file of a process that has ended. It reports false if another process was
// quicker.
func (p *pidFile) replace(last *os.File) (bool, error) {
	free, err := filelock.Try(last)
	switch {
	case err != nil:
		return false, err
	case !free:
		text, _ := io.ReadAll(io.LimitReader(last, 20))
		return false, fmt.Errorf("%s is of process %s, which runs", p.path,
			strings.TrimSpace(string(text)))
	case !p.is(last):
		return false, nil
	}
	return true, os.Rename(p.file.Name(), p.path)
}

// is reports whether a file is the one that has the name.
func (p *pidFile) is(f *os.File) bool {
	named, err := os.Stat(p.path)
	if err != nil {
		return false
	}
	info, err := f.Stat()
	return err == nil && os.SameFile(named, info)
}

// remove removes the file, unless somebody has replaced it.
func (p *pidFile) remove() {
	if p == nil {
		return
	}
	if p.is(p.file) {
		_ = os.Remove(p.path)
	}
	_ = p.file.Close()
}
