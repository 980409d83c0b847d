package cli

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"culvert/internal/netfault"
	"culvert/internal/testnet"

	"golang.org/x/sys/unix"
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

// TestReloadWithoutDescriptors rotates the logs of a remote that has no descriptor left.
func TestReloadWithoutDescriptors(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	p := startIn(t, s.plain("remote", "--allow-anyone", "--listen", "127.0.0.1:0", "--print-ready",
		"--log-file", "log", "--access-log", "access"), false)
	awaitLine(t, p)
	open, err := os.ReadDir("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	limit := unix.Rlimit{Cur: uint64(len(open)), Max: uint64(len(open))}
	if err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		t.Fatal(err)
	}
	names := []string{filepath.Join(s.dir, "log"), filepath.Join(s.dir, "access")}
	for _, name := range names {
		if err := os.Rename(name, name+".1"); err != nil {
			t.Fatal(err)
		}
	}
	p.send(t, syscall.SIGUSR1)
	testnet.Poll(t, stepTimeout, "the reload is logged in the new file", func() bool {
		text, _ := os.ReadFile(names[0])
		return strings.Contains(string(text), "reloaded")
	})
	if _, err := os.Stat(names[1]); err != nil {
		t.Error(err)
	}
	old, err := os.ReadFile(names[0] + ".1")
	if err != nil || strings.Contains(string(old), "old file") {
		t.Errorf("%v; the old file has\n%s", err, old)
	}
}
