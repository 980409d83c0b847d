package certs

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
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
