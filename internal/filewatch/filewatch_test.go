package filewatch

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"culvert/internal/testnet"
)

// changeTimeout bounds how long a test waits for a change to be noticed: less than pollInterval, so
// that it was the system's notice.
const changeTimeout = 20 * time.Second

// must fails the test on errors.
func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// write writes a file in place.
func write(path, text string) error { return os.WriteFile(path, []byte(text), 0o600) }

// replace writes a file as careful programs do.
func replace(path, text string) error {
	return errors.Join(write(path+".new", text), os.Rename(path+".new", path))
}

// TestChanges changes files in all ways that programs have, and shows that each is noticed once it
// has settled.
func TestChanges(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		before, change func(dir, path string) error
	}{
		"in place": {
			func(_, path string) error { return write(path, "one") },
			func(_, path string) error { return write(path, "two") },
		},
		"renamed over": {
			func(_, path string) error { return write(path, "one") },
			func(_, path string) error { return replace(path, "two") },
		},
		"created": {
			func(_, _ string) error { return nil },
			func(_, path string) error { return write(path, "one") },
		},
		"removed": {
			func(_, path string) error { return write(path, "one") },
			func(_, path string) error { return os.Remove(path) },
		},
		"mode": {
			func(_, path string) error { return write(path, "one") },
			func(_, path string) error { return os.Chmod(path, 0o640) },
		},
		"owner": {
			func(_, path string) error { return write(path, "one") },
			changeGroup,
		},
		"link replaced": { // as certbot does
			func(dir, path string) error {
				return errors.Join(os.Mkdir(filepath.Join(dir, "archive"), 0o700),
					write(filepath.Join(dir, "archive", "1"), "one"),
					write(filepath.Join(dir, "archive", "2"), "one"),
					os.Symlink(filepath.Join("..", "archive", "1"), path))
			},
			func(_, path string) error {
				return errors.Join(os.Symlink(filepath.Join("..", "archive", "2"), path+".new"),
					os.Rename(path+".new", path))
			},
		},
		"link's target": {
			func(dir, path string) error {
				return errors.Join(os.Mkdir(filepath.Join(dir, "archive"), 0o700),
					write(filepath.Join(dir, "archive", "1"), "one"),
					os.Symlink(filepath.Join("..", "archive", "1"), path))
			},
			func(dir, _ string) error { return replace(filepath.Join(dir, "archive", "1"), "two") },
		},
		"linked folder": { // as Kubernetes does
			func(dir, path string) error {
				live := filepath.Dir(path)
				return errors.Join(os.Mkdir(filepath.Join(live, "..1"), 0o700),
					os.Mkdir(filepath.Join(live, "..2"), 0o700),
					write(filepath.Join(live, "..1", "file"), "one"),
					write(filepath.Join(live, "..2", "file"), "one"),
					os.Symlink("..1", filepath.Join(live, "..data")),
					os.Symlink(filepath.Join("..data", "file"), path))
			},
			func(dir, path string) error {
				data := filepath.Join(filepath.Dir(path), "..data")
				return errors.Join(os.Symlink("..2", data+"_tmp"), os.Rename(data+"_tmp", data))
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "live", "file")
			must(t, os.Mkdir(filepath.Join(dir, "live"), 0o700), test.before(dir, path))
			changes := make(chan struct{}, 10)
			w := New([]string{path})
			must(t, w.Start(func() { changes <- struct{}{} }))
			defer w.Close()
			must(t, write(filepath.Join(dir, "live", "other"), "is none of ours"))
			must(t, test.change(dir, path))
			testnet.Poll(t, changeTimeout, "a change", func() bool { return len(changes) == 1 })
		})
	}
}

// TestPoll shows that changes are noticed without the system's help, once the file has settled, and
// each once. Those that the caller has seen don't count.
func TestPoll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	must(t, write(path, "one"))
	synctest.Test(t, func(t *testing.T) {
		var changes atomic.Int32
		w := New([]string{path})
		w.changed = func() { changes.Add(1) }
		go w.run()
		pass := func(d time.Duration) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
		}
		check := func(when string, want int32) {
			t.Helper()
			if got := changes.Load(); got != want {
				t.Errorf("%s: %d changes, want %d", when, got, want)
			}
		}
		pass(2 * pollInterval)
		check("without a change", 0)
		must(t, replace(path, "two"))
		pass(settleTime + settleTime/2) // it looks each settleTime from now on
		must(t, replace(path, "three"))
		pass(settleTime)
		check("before it has settled", 0)
		pass(settleTime)
		check("once it has settled", 1)
		pass(2 * pollInterval)
		check("later", 1)
		must(t, replace(path, "four"))
		w.Seen()
		pass(2 * pollInterval)
		check("after it was seen", 1)
		w.Close()
	})
}
