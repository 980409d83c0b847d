package secretfile

import (
	"errors"
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
