package cli

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"culvert/internal/netfault"
)

// What was kept in reserve is enough to read files when no descriptor is left, more than once.
func TestReserve(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	read := func() error {
		_, err := os.ReadFile(file)
		return err
	}
	if err := read(); err != nil {
		t.Fatal(err)
	}
	kept := newReserve()
	defer kept.close()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	low := limit
	low.Cur = 128
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	defer syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		defer f.Close()
	}
	if err := read(); !netfault.Exhausted(err) {
		t.Fatalf("descriptors are left: %v", err)
	}
	for range 3 {
		if err := kept.spend(read); err != nil {
			t.Fatal(err)
		}
	}
	if err := read(); !netfault.Exhausted(err) {
		t.Errorf("the reserve was not taken back: %v", err)
	}
}
