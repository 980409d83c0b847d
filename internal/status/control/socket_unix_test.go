//go:build unix

package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"culvert/internal/state"

	"github.com/rs/zerolog"
)

// useFolder makes control sockets be in a folder of the test's own. Paths of sockets are short, so
// it is not below the test's name.
func useFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "control")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Setenv("XDG_RUNTIME_DIR", dir)
	return filepath.Join(dir, "culvert")
}

func mustListen(t *testing.T, name string) *Socket {
	t.Helper()
	s, err := Listen(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestListen checks who gets a name: one node at a time, also after another was killed.
func TestListen(t *testing.T) {
	dir := useFolder(t)
	first := mustListen(t, "work")
	for path, mode := range map[string]fs.FileMode{
		dir: fs.ModeDir | 0o700, filepath.Join(dir, "work.sock"): fs.ModeSocket | 0o600,
	} {
		if info, err := os.Lstat(path); err != nil || info.Mode() != mode {
			t.Errorf("%s: mode %v, %v, want %v", path, info.Mode(), err, mode)
		}
	}
	if _, err := Listen("work"); !errors.Is(err, ErrRunning) {
		t.Errorf("a second node with the name: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}

	// A process that was killed leaves its socket behind, but no lock.
	killed := mustListen(t, "work")
	killed.lock.Close()
	defer killed.listener.Close()
	next := mustListen(t, "work")
	defer next.Close()
	conn, err := net.Dial("unix", next.path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got, err := next.listener.Accept(); err != nil {
		t.Error(err)
	} else {
		got.Close()
	}
}

// TestNumbers checks that default names are the first that are free, and how names are ordered.
func TestNumbers(t *testing.T) {
	useFolder(t)
	var open []*Socket
	for range 11 {
		s, err := ListenNumbered("local")
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		open = append(open, s)
	}
	open[1].Close()
	again, err := ListenNumbered("local")
	if err != nil || again.Name != "local-2" {
		t.Fatalf("%v, %v", again, err)
	}
	defer again.Close()
	names, err := Names()
	if err != nil || len(names) != 11 || !slices.Equal(names[:3], []string{
		"local-1", "local-2", "local-3"}) || names[10] != "local-11" {
		t.Errorf("%v, %v", names, err)
	}
}

func TestNames(t *testing.T) {
	useFolder(t)
	if names, err := Names(); names != nil || err != nil {
		t.Errorf("without a folder: %v, %v", names, err)
	}
	for _, bad := range []string{
		"", ".hidden", "../up", "a/b", "a b", "none", strings.Repeat("x", 65), "ä",
	} {
		if _, err := Listen(bad); !errors.Is(err, ErrBadName) {
			t.Errorf("Listen(%q): %v", bad, err)
		}
		if _, err := Open(bad); !errors.Is(err, ErrBadName) {
			t.Errorf("Open(%q): %v", bad, err)
		}
	}
}

// TestFolder checks that no socket is made where others could reach or replace it.
func TestFolder(t *testing.T) {
	for what, spoil := range map[string]func(dir string) error{
		"open to others": func(dir string) error {
			if err := os.Mkdir(dir, 0o700); err != nil {
				return err
			}
			return os.Chmod(dir, 0o750)
		},
		"a link": func(dir string) error { return os.Symlink(os.TempDir(), dir) },
		"a file": func(dir string) error { return os.WriteFile(dir, nil, 0o600) },
	} {
		dir := useFolder(t)
		if err := spoil(dir); err != nil {
			t.Fatal(err)
		}
		if s, err := Listen("work"); err == nil || s != nil {
			t.Errorf("%s: the folder is accepted: %v, %v", what, s, err)
		}
		if _, err := Open("work"); err == nil {
			t.Errorf("%s: a client accepts the folder", what)
		}
	}
	if err := checkFolder("x", ownedBy{os.Geteuid() + 1}, true); err == nil {
		t.Error("a folder of another user is accepted")
	}
}

// ownedBy is a folder of mode 0700 that belongs to a user.
type ownedBy struct{ user int }

func (ownedBy) Name() string       { return "x" }
func (ownedBy) Size() int64        { return 0 }
func (ownedBy) Mode() fs.FileMode  { return fs.ModeDir | 0o700 }
func (ownedBy) ModTime() time.Time { return time.Time{} }
func (ownedBy) IsDir() bool        { return true }
func (o ownedBy) Sys() any         { return &syscall.Stat_t{Uid: uint32(o.user)} }

// TestRemovedFolder removes what others remove under a node: its runtime folder, as systemd does at
// the last logout, or files in it. The node is found again, and takes nothing from another that has
// been given the name since.
func TestRemovedFolder(t *testing.T) {
	name := fmt.Sprintf("removed-%d", os.Getpid())
	dir := useFolder(t)
	runtime := filepath.Dir(dir)
	t.Setenv("TMPDIR", t.TempDir())
	server := Serve(mustListen(t, name), Node{
		State: func(context.Context) state.State { return state.State{Version: state.Version} },
	}, zerolog.Nop())
	defer server.Close()
	found := func(what string) {
		t.Helper()
		if err := server.restore(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		client, err := Open(name)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		defer client.Close()
		if _, err := client.State(t.Context()); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	remove := func(path string) {
		t.Helper()
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	found("nothing is missing")
	for _, path := range []string{name + socketSuffix, name + lockSuffix, ""} {
		remove(filepath.Join(dir, path))
		found(path + " is missing")
	}

	remove(dir)
	other := mustListen(t, name)
	if err := server.restore(); !errors.Is(err, ErrRunning) {
		t.Errorf("while another node has the name: %v", err)
	}
	if _, err := os.Lstat(other.path); err != nil || !isAt(other.lock, other.lock.Name()) {
		t.Errorf("the other node has lost its socket: %v", err)
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
	found("the other node has ended")

	remove(runtime)
	found("the runtime folder is missing")
	if _, err := Listen(name); !errors.Is(err, ErrRunning) {
		t.Errorf("a second node with the name: %v", err)
	}
	if err := os.Mkdir(runtime, 0o700); err != nil {
		t.Fatal(err)
	}
	found("the runtime folder is there again")
	if path, err := find(name); err != nil || filepath.Dir(path) != dir {
		t.Errorf("it is at %s, %v", path, err)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if path, err := find(name); err == nil {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left behind: %v", path, err)
		}
	}
}

// TestLoginFolder checks that a node is found, and its name taken, whether it was started with the
// variable of a login or without.
func TestLoginFolder(t *testing.T) {
	logins := fmt.Sprintf("/run/user/%d", os.Geteuid())
	if !isOurFolder(logins) {
		if err := os.MkdirAll(logins, 0o700); err != nil {
			t.Logf("no runtime folder of logins: %v", err)
			return
		}
		defer os.Remove(logins)
		defer os.Remove(filepath.Join(logins, "culvert"))
	}
	t.Setenv("TMPDIR", t.TempDir())
	name := fmt.Sprintf("login-%d", os.Getpid())
	for started, elsewhere := range map[string]string{logins: "", "": logins} {
		t.Setenv("XDG_RUNTIME_DIR", started)
		s := mustListen(t, name)
		t.Setenv("XDG_RUNTIME_DIR", elsewhere)
		if names, err := Names(); err != nil || !slices.Contains(names, name) {
			t.Errorf("started with %q: found %v, %v", started, names, err)
		}
		if path, err := find(name); err != nil || path != s.path {
			t.Errorf("started with %q: found %q, %v, want %q", started, path, err, s.path)
		}
		if second, err := Listen(name); !errors.Is(err, ErrRunning) {
			t.Errorf("started with %q: a second node: %+v, %v", started, second, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestRequests checks what a node is asked, what it answers, and what it refuses.
func TestRequests(t *testing.T) {
	useFolder(t)
	socket := mustListen(t, "work")
	stopped := make(chan struct{})
	var asked []Forward
	server := Serve(socket, Node{
		State: func(context.Context) state.State { return state.State{Version: state.Version} },
		Stop:  func() { close(stopped) },
		Reload: func(context.Context) error {
			return &Error{What: "bad file", Hint: "mend it", Status: 1}
		},
		AddForward: func(_ context.Context, f Forward) (string, error) {
			asked = append(asked, f)
			return "127.0.0.1:8022", nil
		},
	}, zerolog.Nop())
	defer server.Close()
	client, err := Open("work")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx := t.Context()
	if s, err := client.State(ctx); err != nil || s.Version != state.Version {
		t.Errorf("state: %+v, %v", s, err)
	}
	var refused *Error
	if err := client.Reload(ctx); !errors.As(err, &refused) || refused.What != "bad file" ||
		refused.Hint != "mend it" || refused.Status != 1 {
		t.Errorf("reload: %+v", err)
	}
	forward := Forward{Kind: ForwardLocal, Spec: "8022:localhost:22"}
	address, err := client.AddForward(ctx, forward)
	if err != nil || address != "127.0.0.1:8022" || !slices.Equal(asked, []Forward{forward}) {
		t.Errorf("add: %v, %v, asked %v", address, err, asked)
	}
	if err := client.CancelForward(ctx, forward); !errors.As(err, &refused) {
		t.Errorf("cancel, which this node doesn't do: %v", err)
	}
	for _, bad := range []Forward{{Kind: "X"}, {Kind: "L", Spec: strings.Repeat("x", 2*maxBody)}} {
		if _, err := client.AddForward(ctx, bad); !errors.As(err, &refused) {
			t.Errorf("kind %s, %d bytes: %v", bad.Kind, len(bad.Spec), err)
		}
	}
	if response, err := client.send(ctx, http.MethodGet, "stop", nil); err != nil ||
		response.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("stop with GET: %v, %v", response, err)
	} else {
		response.Body.Close()
	}

	if err := client.bounded(ctx, "of-another-version", nil, nil); !errors.Is(err, ErrUnknown) {
		t.Errorf("a request that the node doesn't know: %v", err)
	}

	ended := make(chan error, 1)
	go func() { ended <- client.Stop(ctx) }()
	<-stopped
	select {
	case err := <-ended:
		t.Errorf("stop returned before the node has ended: %v", err)
	default:
	}
	server.Close()
	if err := <-ended; err != nil {
		t.Errorf("stop: %v", err)
	}
	if _, err := client.State(ctx); !errors.Is(err, ErrNotRunning) {
		t.Errorf("after the end: %v", err)
	}
}

// TestOpenRefused: only a name that nobody has is said not to be running.
func TestOpenRefused(t *testing.T) {
	useFolder(t)
	socket := mustListen(t, "work")
	defer socket.Close()
	folder := socket.folder()
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Open("work"); !errors.Is(err, ErrFolder) || errors.Is(err, ErrNotRunning) {
		t.Errorf("others may enter the folder: %v", err)
	}
	if err := os.Chmod(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	client, err := Open("nobody")
	if err == nil {
		defer client.Close()
		_, err = client.State(t.Context())
	}
	if !errors.Is(err, ErrNotRunning) || IsRunning("nobody") || !IsRunning("work") {
		t.Errorf("a name that nobody has: %v", err)
	}
}

// TestHandlerPanics: a panic of what is asked is an error in the log.
func TestHandlerPanics(t *testing.T) {
	useFolder(t)
	var lines bytes.Buffer
	server := Serve(mustListen(t, "work"), Node{
		Reload: func(context.Context) error { panic("out of cheese") },
	}, zerolog.New(zerolog.SyncWriter(&lines)).Level(zerolog.WarnLevel))
	client, err := Open("work")
	if err == nil {
		defer client.Close()
		err = client.Reload(t.Context())
	}
	server.Retire()
	if err == nil || !strings.Contains(lines.String(), "out of cheese") {
		t.Errorf("%v, logged %q", err, lines.String())
	}
}

// TestRetire: a node that gives up its name answers who has asked for that, while nobody waits for
// one that asks it to end.
func TestRetire(t *testing.T) {
	useFolder(t)
	stopping, retire := make(chan struct{}), make(chan struct{})
	server := Serve(mustListen(t, "work"), Node{
		Stop:    func() { close(stopping) },
		Restart: func(context.Context) error { close(retire); return nil },
	}, zerolog.Nop())
	client, err := Open("work")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	stopped, restarted := make(chan error, 1), make(chan error, 1)
	go func() { stopped <- client.Stop(t.Context()) }()
	<-stopping
	go func() { restarted <- client.Restart(t.Context()) }()
	<-retire
	if err := server.Retire(); err != nil {
		t.Error(err)
	}
	if err := errors.Join(<-restarted, <-stopped); err != nil {
		t.Error(err)
	}
}

// TestServiceFolder puts the socket into the folder that a service manager has made. Root finds it
// there, although it belongs to the service's user, and makes none of its own.
func TestServiceFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("RUNTIME_DIRECTORY", dir+":/run/other")
	s, err := ListenNumbered("remote")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := os.Lstat(filepath.Join(dir, "remote-1.sock")); err != nil {
		t.Error(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		if _, err := ListenNumbered("remote"); err == nil {
			t.Error("a socket was made in the folder of another user")
		}
	}
	if names, err := Names(); err != nil || !slices.Equal(names, []string{"remote-1"}) {
		t.Errorf("found %v, %v", names, err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Names(); err == nil {
		t.Error("a folder that others may enter is used")
	}
}
