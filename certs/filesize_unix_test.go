//go:build unix

package certs

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
)

// These tests run a process with a limit on the size of files, which only Unix has, so that its
// writes fail half-way.

func init() {
	childTasks["write short"] = childWriteShort
	childTasks["add short"] = childAddShort
}

// limitFileSize makes this process's writes past a size, in bytes, fail with EFBIG.
func limitFileSize(size int) error {
	var limit syscall.Rlimit
	setLimit(&limit.Cur, size)
	setLimit(&limit.Max, size)
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit)
}

// setLimit sets a field of Rlimit, which is signed on some systems.
func setLimit[T int64 | uint64](field *T, value int) { *field = T(value) }

// TestWriteLeavesNothingBehind: nothing is left of a file that could not be written whole.
func TestWriteLeavesNothingBehind(t *testing.T) {
	folder := t.TempDir()
	for _, what := range []string{"key", "ca", "direct"} {
		if out, err := child(t, "write short", what,
			filepath.Join(folder, what)).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", what, err, out)
		}
	}
	wantFiles(t, folder)
}

func childWriteShort(args []string) (string, error) {
	if err := limitFileSize(100); err != nil {
		return "", err
	}
	var err error
	switch what, path := args[0], args[1]; what {
	case "key":
		_, _, err = LoadOrCreateKeyPair(path)
	case "ca":
		var ca *CA
		if ca, err = NewCA(ones{}, "x", testNow, testNow.Add(1e9)); err == nil {
			err = ca.WriteFile(path)
		}
	case "direct": // as where there are no hard links
		err = writeExclusive(path, make([]byte, 200), secretFileMode)
	}
	if !errors.Is(err, syscall.EFBIG) {
		return "", fmt.Errorf("got %v, want EFBIG", err)
	}
	return "", nil
}

// ones is an endless source of bytes of value 1.
type ones struct{}

func (ones) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 1
	}
	return len(p), nil
}

// TestKnownRemotesCutShort: no part is left of a line that could not be written whole.
func TestKnownRemotesCutShort(t *testing.T) {
	path := filepath.Join(t.TempDir(), "known")
	if err := openKnown(t, path).Add("a:1", PublicKey{9}); err != nil {
		t.Fatal(err)
	}
	before := string(readFile(t, path))
	if out, err := child(t, "add short", path).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if got := string(readFile(t, path)); got != before {
		t.Errorf("the file is %q, want %q", got, before)
	}
}

func childAddShort(args []string) (string, error) {
	known, err := OpenKnownRemotes(args[0])
	if err != nil {
		return "", err
	}
	if err := limitFileSize(60); err != nil {
		return "", err
	}
	if err := known.Add("b:2", PublicKey{9, 2}); !errors.Is(err, syscall.EFBIG) {
		return "", fmt.Errorf("got %v, want EFBIG", err)
	}
	if _, ok := known.lookup("b:2"); ok {
		return "", errors.New("remembered what is not in the file")
	}
	return "", nil
}
