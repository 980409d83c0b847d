package certs

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"unicode"
	"unicode/utf8"

	"culvert/internal/secretfile"
)

// KnownRemotes remembers the keys of remotes in a file, as ssh does those of hosts. A line is an
// address, white space, the public key, and possibly a comment; empty lines and lines that begin
// with # are ignored. An address is a host and a port, and may be followed by a path, as the caller
// chooses. The case of the host does not matter, nor does a dot at the end of its name, as in the
// DNS; the rest is compared as text.
//
// Its methods may be called concurrently, and other processes may change the file at any time: Add
// and Forget see what they did, the others the file as of OpenKnownRemotes, Reload or the last
// change.
type KnownRemotes struct {
	path string

	mu      sync.Mutex // guards remotes
	remotes map[string]knownRemote
}

type knownRemote struct {
	key  PublicKey
	line int // from 1
}

// OpenKnownRemotes reads the file. One that does not exist yet is empty, and Add creates it. A line
// that cannot be read, or that contradicts an earlier one, is a *LineError with the path in it. The
// error for a file that others may write to wraps ErrWritable or ErrOwner.
func OpenKnownRemotes(path string) (*KnownRemotes, error) {
	k := &KnownRemotes{path: path}
	if err := k.Reload(); err != nil {
		return nil, err
	}
	return k, nil
}

// Reload reads the file again, which other processes, and people, may have changed. After an error,
// which is as for OpenKnownRemotes, what was known before still is.
func (k *KnownRemotes) Reload() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	f, err := secretfile.OpenTrusted(k.path)
	if errors.Is(err, fs.ErrNotExist) {
		k.remotes = nil
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	remotes, err := k.parse(f)
	if err == nil {
		k.remotes = remotes
	}
	return err
}

func (k *KnownRemotes) parse(r io.Reader) (map[string]knownRemote, error) {
	remotes := make(map[string]knownRemote)
	err := eachLine(r, func(number int, line string) error {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			return errors.New("want an address and a public key")
		}
		addr := sameRemote(fields[0])
		if err := checkRemoteAddr(addr); err != nil {
			return err
		}
		key, err := ParsePublicKey(fields[1])
		if err != nil {
			return err
		}
		if earlier, ok := remotes[addr]; ok {
			if earlier.key.Equal(key) {
				return nil
			}
			return fmt.Errorf("line %d has another key for the same address", earlier.line)
		}
		remotes[addr] = knownRemote{key: key, line: number}
		return nil
	})
	var bad *LineError
	switch {
	case errors.As(err, &bad):
		bad.Path = k.path
		return nil, bad
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", k.path, err)
	}
	return remotes, nil
}

// checkRemoteAddr accepts what reads back from a line as one word, and not as a comment.
func checkRemoteAddr(addr string) error {
	switch {
	case addr == "" || addr[0] == '#' || !utf8.ValidString(addr):
		return errors.New("not an address")
	case len(addr) > maxRemoteAddr:
		return fmt.Errorf("%w: an address of more than %d bytes", ErrTooLarge, maxRemoteAddr)
	case strings.ContainsFunc(addr, func(r rune) bool {
		return !unicode.IsPrint(r) || unicode.IsSpace(r)
	}):
		return errors.New("white space or an invisible character in an address")
	}
	return nil
}

// sameRemote returns the form that all spellings of an address have in common.
func sameRemote(addr string) string {
	end := strings.IndexByte(addr, '/')
	if end < 0 {
		end = len(addr)
	}
	host, port := addr[:end], ""
	if colon := strings.LastIndexByte(host, ':'); colon >= 0 {
		host, port = host[:colon], host[colon:]
	}
	return lowerHost(strings.TrimSuffix(host, ".")) + port + addr[end:]
}

// lookup returns the key that is remembered for addr.
func (k *KnownRemotes) lookup(addr string) (PublicKey, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	remote, ok := k.remotes[sameRemote(addr)]
	return remote.key, ok
}

// Check compares, in constant time, the key that a remote shows with the one that is remembered for
// it. It returns nil, ErrUnknownRemote or a *ChangedKeyError.
func (k *KnownRemotes) Check(addr string, key PublicKey) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.check(k.remotes, addr, key)
}

func (k *KnownRemotes) check(remotes map[string]knownRemote, addr string, key PublicKey) error {
	remote, ok := remotes[sameRemote(addr)]
	if !ok {
		return ErrUnknownRemote
	}
	if !remote.key.Equal(key) {
		return &ChangedKeyError{Addr: addr, Known: remote.key, Got: key, Path: k.path,
			Line: remote.line}
	}
	return nil
}

// Path returns the path of the file.
func (k *KnownRemotes) Path() string { return k.path }

// KnownRemote is a line of the file.
type KnownRemote struct {
	Addr string // in the form that all its spellings have in common
	Key  PublicKey
	Line int // from 1
}

// All returns the remotes that are remembered, in the order of their lines.
func (k *KnownRemotes) All() iter.Seq[KnownRemote] {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []KnownRemote
	for addr, remote := range k.remotes {
		all = append(all, KnownRemote{Addr: addr, Key: remote.key, Line: remote.line})
	}
	slices.SortFunc(all, func(a, b KnownRemote) int { return cmp.Compare(a.Line, b.Line) })
	return slices.Values(all)
}

// Forget removes what is remembered for addr from the file. The error wraps ErrNotListed if that is
// nothing. It locks and replaces the file as Authorize does.
func (k *KnownRemotes) Forget(addr string) error {
	addr = sameRemote(addr)
	if checkRemoteAddr(addr) != nil {
		return fmt.Errorf("%s: %w", k.path, ErrNotListed)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return editFile(k.path, false, func(content string) (string, error) {
		if _, err := k.parse(strings.NewReader(content)); err != nil {
			return "", err
		}
		var kept strings.Builder
		for line := range strings.Lines(content) {
			fields := strings.Fields(strings.TrimPrefix(line, byteOrderMark))
			if len(fields) == 0 || sameRemote(fields[0]) != addr {
				kept.WriteString(line)
			}
		}
		if kept.Len() == len(content) {
			return "", fmt.Errorf("%s: %w", k.path, ErrNotListed)
		}
		remotes, err := k.parse(strings.NewReader(kept.String()))
		if err == nil {
			k.remotes = remotes
		}
		return kept.String(), err
	})
}

// Add remembers key for addr, in memory and at the end of the file, which it creates, with its
// folders and private to its owner, if it is missing. A known key, even if another process added
// it, is not added again; another key for the same address is a *ChangedKeyError. Add waits up to 5
// seconds for a process that holds the file's lock, and then returns ErrLocked.
func (k *KnownRemotes) Add(addr string, key PublicKey) error {
	addr = sameRemote(addr)
	if err := checkRemoteAddr(addr); err != nil {
		return err
	}
	if key.IsLowOrder() {
		return fmt.Errorf("%w: of low order", ErrPublicKey)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	f, err := openLocked(k.path, true)
	if err != nil {
		return err
	}
	// Closing releases the lock. The line has been written and synced by then.
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxTrustFile+1))
	if err != nil {
		return err
	}
	remotes, err := k.parse(bytes.NewReader(content))
	if err != nil {
		return err
	}
	k.remotes = remotes
	if err := k.check(remotes, addr, key); !errors.Is(err, ErrUnknownRemote) {
		return err
	}
	return k.append(f.File, content, addr, key)
}

// append writes one line to the end of the file that holds content. An edit by hand may have left
// the last line without a line break.
func (k *KnownRemotes) append(f *os.File, content []byte, addr string, key PublicKey) error {
	line := addr + " " + key.String() + "\n"
	number := bytes.Count(content, []byte("\n")) + 1
	if len(content) > 0 && content[len(content)-1] != '\n' {
		line = "\n" + line
		number++
	}
	if len(content)+len(line) > maxTrustFile {
		return fmt.Errorf("add to %s: %w: more than %d bytes", k.path, ErrTooLarge, maxTrustFile)
	}
	_, err := io.WriteString(f, line)
	if err == nil {
		err = f.Sync()
	}
	if errors.Is(err, syscall.EINVAL) { // a device, such as /dev/null
		err = nil
	}
	if err != nil {
		// A part of a line would make the file unreadable.
		return errors.Join(err, f.Truncate(int64(len(content))))
	}
	k.remotes[addr] = knownRemote{key: key, line: number}
	return nil
}
