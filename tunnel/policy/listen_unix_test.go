//go:build unix

package policy

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// A socket has the mode and the group that were asked for, also where its path leaves no room for a
// private folder.
func TestListenUnixFor(t *testing.T) {
	group := os.Getgid()
	if os.Geteuid() == 0 {
		group++
	}
	for name, listen := range map[string]func(string, SocketAccess) (net.Listener, error){
		"in a private folder": ListenUnixFor,
		"with a mask":         listenUnderItsName,
	} {
		t.Run(name, func(t *testing.T) {
			path := longPath(t, maxSocketPath)
			ln, err := listen(path, SocketAccess{Mode: 0o660, Group: &group})
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			info, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode() != fs.ModeSocket|0o660 {
				t.Errorf("mode %v", info.Mode())
			}
			if got := info.Sys().(*syscall.Stat_t).Gid; int(got) != group {
				t.Errorf("group %d, want %d", got, group)
			}
		})
	}
}

// TestListenUnixInTurns: a listener that is closed takes no file from the next one at its path.
func TestListenUnixInTurns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	var binding sync.WaitGroup
	for range 2 {
		binding.Go(func() {
			for bound := 0; bound < 300 && !t.Failed(); {
				ln, err := ListenUnix(path)
				if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EEXIST) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				bound++
				conn, err := net.Dial("unix", path)
				if err != nil {
					t.Errorf("listener %d: %v", bound, err)
				} else {
					conn.Close()
				}
				ln.Close()
				ln.Close() // does nothing
			}
		})
	}
	binding.Wait()
}
