//go:build unix

package quota

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"culvert/internal/testnet"
)

// TestLedgerOnFullDisk: a write that fails half-way leaves the file as it was, and nothing else.
// It runs in a process with a limit on the size of files.
func TestLedgerOnFullDisk(t *testing.T) {
	const variable = "CULVERT_TEST_QUOTA_FILE"
	if path := os.Getenv(variable); path != "" {
		saveShort(t, path)
		return
	}
	path := filepath.Join(t.TempDir(), "quota.json")
	l := mustOpen(t, path)
	l.Add("a", 1)
	l.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLedgerOnFullDisk$")
	child.Env = append(os.Environ(), variable+"="+path)
	if out, err := child.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if now, err := os.ReadFile(path); err != nil || string(now) != string(whole) {
		t.Errorf("the file has changed: %q, %v", now, err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("files are left: %v", entries)
	}
}

func saveShort(t *testing.T, path string) {
	var limit syscall.Rlimit
	setLimit(&limit.Cur, 20)
	setLimit(&limit.Max, 20)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	var report error
	l, err := Open(path, func(err error) { report = err })
	if err != nil {
		t.Fatal(err)
	}
	l.Add("another client", 1)
	l.Close()
	if report == nil || !strings.Contains(report.Error(), "too large") {
		t.Errorf("reported %v", report)
	}
}

// TestLedgerOfKilledProcess: a process that is killed at any time leaves a whole file, and nothing
// else once the next one has begun.
func TestLedgerOfKilledProcess(t *testing.T) {
	const variable = "CULVERT_TEST_QUOTA_LOOP"
	if path := os.Getenv(variable); path != "" {
		l := mustOpen(t, path)
		for {
			l.Add("a", 1)
			l.save()
		}
	}
	path := filepath.Join(t.TempDir(), "quota.json")
	last := int64(0)
	for i := range 20 {
		child := exec.CommandContext(t.Context(), os.Args[0],
			"-test.run=^TestLedgerOfKilledProcess$")
		child.Env = append(os.Environ(), variable+"="+path)
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		testnet.Poll(t, 30*time.Second, "the file changes", func() bool {
			saved, err := read(path)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("while it is written: %v", err)
			}
			return saved.Used["a"] > last+int64(i)
		})
		child.Process.Kill()
		child.Wait() // it was killed
		l := mustOpen(t, path)
		l.RemoveLeftovers()
		if l.Used("a") <= last {
			t.Fatalf("used %d, after %d", l.Used("a"), last)
		}
		last = l.Used("a")
		if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
			t.Fatalf("files are left: %v", entries)
		}
	}
}

// setLimit sets a field of Rlimit, which is signed on some systems.
func setLimit[T int64 | uint64](field *T, value int) { *field = T(value) }
