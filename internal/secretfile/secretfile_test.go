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

// A file that decides whom to trust may be read by everybody, and written by its owner alone.
func TestOpenTrusted(t *testing.T) {
	for mode, trusted := range map[fs.FileMode]bool{
		0o600: true, 0o644: true, 0o444: true, 0o755: true, 0o640: true,
		0o664: false, 0o666: false, 0o646: false, 0o620: false, 0o602: false, 0o777: false,
	} {
		path := filepath.Join(t.TempDir(), "list")
		if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		f, err := OpenTrusted(path)
		if err == nil {
			f.Close()
		}
		if trusted || runtime.GOOS == "windows" {
			if err != nil {
				t.Errorf("mode %04o: %v", mode, err)
			}
			continue
		}
		if !errors.Is(err, ErrWritable) || !strings.Contains(err.Error(), path) ||
			Hint(err, path) == "" {
			t.Errorf("mode %04o: got %v, want ErrWritable", mode, err)
		}
	}
	if f, err := OpenTrusted(os.DevNull); err != nil {
		t.Errorf("an empty list: %v", err)
	} else {
		f.Close()
	}
	if _, err := OpenTrusted(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

// The rule for files that decide whom to trust, for any user.
func TestTrustedRule(t *testing.T) {
	const root, service, other = 0, 33, 1000
	for _, tt := range []struct {
		owner, user int
		mode        fs.FileMode
		want        error
	}{
		{root, root, 0o644, nil},
		{service, service, 0o644, nil},
		{root, service, 0o644, nil},
		{root, service, 0o640, nil},
		{root, service, 0o664, ErrWritable},
		{service, service, 0o664, ErrWritable},
		{other, service, 0o644, ErrOwner},
		{other, service, 0o600, ErrOwner},
		{other, root, 0o644, ErrOwner},
		{root, service, 0o666 | fs.ModeDevice | fs.ModeCharDevice, nil},
		{root, service, 0o666 | fs.ModeNamedPipe, ErrWritable},
		{service, service, 0o600 | fs.ModeNamedPipe, nil},
	} {
		if got := isTrusted(tt.mode, tt.owner, tt.user); !errors.Is(got, tt.want) {
			t.Errorf("mode %v, owner %d, user %d: %v, want %v", tt.mode, tt.owner, tt.user, got,
				tt.want)
		}
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
