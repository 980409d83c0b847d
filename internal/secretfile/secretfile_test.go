package secretfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestOpen(t *testing.T) {
	for _, tt := range []struct {
		mode    fs.FileMode
		private bool
	}{
		{0o600, true}, {0o400, true}, {0o700, true},
		{0o640, false}, {0o604, false}, {0o620, false}, {0o601, false}, {0o644, false},
	} {
		path := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, tt.mode); err != nil {
			t.Fatal(err)
		}
		f, err := Open(path)
		if !tt.private && runtime.GOOS != "windows" {
			if f != nil || !errors.Is(err, ErrMode) || !strings.Contains(err.Error(), path) {
				t.Errorf("mode %o: got %v, want ErrMode", tt.mode, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("mode %o: %v", tt.mode, err)
			continue
		}
		if b, err := io.ReadAll(f); err != nil || string(b) != "content" {
			t.Errorf("mode %o: read %q, %v", tt.mode, b, err)
		}
		f.Close()
	}
	if _, err := Open(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

// The rule, for any user.
func TestRule(t *testing.T) {
	const root, service, other = 0, 33, 1000
	for _, tt := range []struct {
		owner, user int
		modes       string // that are accepted
	}{
		{root, root, "0600 0400 0700"},
		{service, service, "0600 0400 0700"},
		{root, service, "0600 0400 0700 0640 0440 0740"},
		{other, service, "0600 0400 0700"},
		{other, root, "0600 0400 0700"},
	} {
		for _, mode := range []fs.FileMode{
			0o600, 0o400, 0o700, 0o640, 0o440, 0o740, 0o660, 0o650, 0o644, 0o604, 0o606, 0o620, 0o777,
		} {
			want := strings.Contains(tt.modes, fmt.Sprintf("%04o", mode))
			if got := isPrivate(mode, tt.owner, tt.user); got != want {
				t.Errorf("mode %04o, owner %d, user %d: %v", mode, tt.owner, tt.user, got)
			}
		}
	}
}
