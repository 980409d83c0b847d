package cli

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"culvert/tunnel"
)

func TestListenUnix(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "socket")
	ln, err := tunnel.ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := listenerAddress(ln); got != "unix:"+path {
		t.Errorf("address %s", got)
	}
	checkSocket(t, path)
	if _, err := tunnel.ListenUnix(path); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a socket that is listened on: %v", err)
	}
	accepted := make(chan error, 1)
	go func() {
		conn, err := ln.Accept()
		for ; err == nil; conn, err = ln.Accept() { // the probe of the second ListenUnix comes first
			conn.Close()
		}
		accepted <- err
	}()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept ends with %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestListenUnixReplacesStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false) // as when a process is killed
	stale.Close()
	if _, err := net.Dial("unix", path); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("the stale socket answers %v", err)
	}
	ln, err := tunnel.ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	checkSocket(t, path)
}

func TestListenUnixKeepsOtherFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := tunnel.ListenUnix(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
	if b, err := os.ReadFile(path); string(b) != "precious" {
		t.Errorf("the file holds %q, %v", b, err)
	}
}

func TestListenAllOrNone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	_, err := listenAll([]string{"unix:" + path, "127.0.0.1:0", "unix:" + path})
	var failure *Failure
	if !errors.As(err, &failure) || failure.Code != exitCannotListen {
		t.Fatalf("got %v", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the first socket is left: %v", err)
	}
}

func checkSocket(t *testing.T, path string) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Type() != fs.ModeSocket || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want a socket of 0600", info.Mode())
	}
}
