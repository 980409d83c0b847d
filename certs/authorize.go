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
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"culvert/internal/secretfile"
)

// ErrNotListed is the error for a key that is not in a file of authorized keys.
var ErrNotListed = errors.New("not listed")

// ListedError is the error for a key that is already in a file of authorized keys, on another line
// than it should be added with.
type ListedError struct{ Line int }

func (e *ListedError) Error() string {
	return fmt.Sprintf("line %d has the key with other options or another name", e.Line)
}

// Authorize adds a line for a key to the file of authorized keys at path, which it creates, with
// its folders and private to its owner, if it is missing. It reports whether it did: a key that is
// listed is not added again, and one with other options or another comment than the entry's,
// unless the entry has neither, is a *ListedError.
func Authorize(path string, entry AuthorizedKey) (added bool, err error) {
	line, err := entry.line()
	if err != nil {
		return false, err
	}
	err = editAuthorized(path, true, func(content string, keys *AuthorizedKeys) (string, error) {
		for listed := range keys.All() {
			if !listed.Key.Equal(entry.Key) {
				continue
			}
			same := listed.Comment == entry.Comment &&
				strings.Join(listed.Allow, ",") == strings.Join(entry.Allow, ",") // as in a line
			if !same && (entry.Comment != "" || entry.Allow != nil) {
				return "", &ListedError{listed.Line}
			}
			return content, nil
		}
		added = true
		if content != "" && !strings.HasSuffix(content, "\n") {
			content += "\n"
		}
		return content + line + "\n", nil
	})
	return added && err == nil, err
}

// Deauthorize removes the line of a key from the file of authorized keys at path. The error wraps
// ErrNotListed if there is none.
func Deauthorize(path string, key PublicKey) error {
	return editAuthorized(path, false, func(content string, keys *AuthorizedKeys) (string, error) {
		for listed := range keys.All() {
			if listed.Key.Equal(key) {
				lines := strings.SplitAfter(content, "\n")
				return strings.Join(slices.Delete(lines, listed.Line-1, listed.Line), ""), nil
			}
		}
		return "", fmt.Errorf("%s: %w", path, ErrNotListed)
	})
}

// line returns the entry as a line of the file. It may have rules and a comment.
func (k AuthorizedKey) line() (string, error) {
	line := k.Key.String()
	if len(k.Allow) > 0 {
		line += " allow=" + strings.Join(k.Allow, ",")
	}
	if err := CheckKeyName(k.Comment); k.Comment != "" && err != nil {
		return "", err
	}
	if k.Comment != "" {
		line += " " + k.Comment
	}
	if parsed, err := parseAuthorizedKey(line); err != nil {
		return "", err
	} else if parsed.Comment != k.Comment {
		return "", errors.New("a rule has white space, or the name begins with #")
	}
	return line, nil
}

// CheckKeyName returns an error if name can't be the comment of a key: it has characters that don't
// print, or =, which options have.
func CheckKeyName(name string) error {
	switch {
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool {
		return !unicode.IsPrint(r)
	}):
		return errors.New("it has a character that doesn't print")
	case strings.Contains(name, "="):
		return errors.New("it has a =")
	case name == "" || strings.Join(strings.Fields(name), " ") != name || name[0] == '#':
		return errors.New("it is empty, begins with #, or has white space at its ends")
	}
	return nil
}

// editAuthorized replaces the content of a file of authorized keys: see editFile.
func editAuthorized(
	path string, create bool, edit func(content string, keys *AuthorizedKeys) (string, error),
) error {
	parse := func(content string) (*AuthorizedKeys, error) {
		keys, err := ParseAuthorizedKeys(strings.NewReader(content))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return keys, nil
	}
	return editFile(path, create, func(content string) (string, error) {
		keys, err := parse(content)
		if err != nil {
			return "", err
		}
		edited, err := edit(content, keys)
		if err != nil || edited == content {
			return content, err
		}
		_, err = parse(edited)
		return edited, err
	})
}

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
