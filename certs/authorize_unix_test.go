//go:build unix

package certs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestAuthorizeInDevice: what isn't a file, such as /dev/null, isn't replaced by one.
func TestAuthorizeInDevice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Authorize(path, AuthorizedKey{Key: newKeyPair(t).Public()}); !errors.Is(err,
		errNotRegular) {
		t.Errorf("got %v", err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode()&fs.ModeNamedPipe == 0 {
		t.Errorf("in its place is %v, %v", info, err)
	}
}
