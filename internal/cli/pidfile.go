//go:build unix

package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"culvert/internal/filelock"
)

// pidFile has the number of this process, and is locked while it runs, so that a number that a
// killed process left behind is known for what it is.
type pidFile struct {
	path string
	file *os.File
}

// openPIDFile creates the file, or replaces one that nobody has locked, or only the process before,
// 0 for none. Readers find no file, or one with a number.
func openPIDFile(path string, before int) (*pidFile, error) {
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
		err = p.publish(before)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return p, nil
}

// publish gives the file its name.
func (p *pidFile) publish(before int) error {
	for {
		if err := os.Link(p.file.Name(), p.path); !errors.Is(err, fs.ErrExist) {
			return err
		}
		last, err := os.OpenFile(p.path, os.O_RDWR, 0)
		if errors.Is(err, fs.ErrNotExist) {
			if info, err := os.Lstat(p.path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
				return fmt.Errorf("%s is a symbolic link to nothing", p.path)
			}
			continue
		}
		if err != nil {
			return err
		}
		replaced, err := p.replace(last, before)
		if err = errors.Join(err, last.Close()); replaced || err != nil {
			return err
		}
	}
}

// replace replaces the file of a process that has ended, or of the one before. It reports false if
// another process was quicker.
func (p *pidFile) replace(last *os.File, before int) (bool, error) {
	free, err := filelock.Try(last)
	if err != nil {
		return false, err
	}
	if !free {
		text, _ := io.ReadAll(io.LimitReader(last, 20))
		if owner := strings.TrimSpace(string(text)); owner != strconv.Itoa(before) {
			return false, fmt.Errorf("%s is of process %s, %w", p.path, owner, errPIDRuns)
		}
	}
	if !p.is(last) {
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
	// A process that has taken over this one may be about to replace the file.
	aside := fmt.Sprintf("%s.%d", p.path, os.Getpid())
	if p.is(p.file) && os.Rename(p.path, aside) == nil {
		if own := (&pidFile{aside, p.file}); !own.is(p.file) {
			_ = os.Link(aside, p.path)
		}
		_ = os.Remove(aside)
	}
	_ = p.file.Close()
}
