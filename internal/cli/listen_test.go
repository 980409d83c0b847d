package cli

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"culvert/internal/cli/exit"

	"culvert/tunnel/policy"
)

func TestListenerAddress(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	ln, err := policy.ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if got := listenerAddress(ln); got != "unix:"+path {
		t.Errorf("address %s", got)
	}
}

func TestListenAllOrNone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	_, err := listenAll([]string{"unix:" + path, "127.0.0.1:0", "unix:" + path}, policy.SocketAccess{})
	var failure *exit.Failure
	if !errors.As(err, &failure) || failure.Code != exit.CannotListen {
		t.Fatalf("got %v", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the first socket is left: %v", err)
	}
}
