package policy

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"culvert/internal/testnet"
)

func TestParseBind(t *testing.T) {
	for _, bad := range []string{
		"", "tcp:", "tcp:8022", "8022", "localhost:8022", "tcp:example.org:1", "tcp:localhost:65536",
		"tcp:localhost:-1", "tcp:localhost:http", "unix:", "unix:a", "unix:/a/../b", "udp:",
		"udp:localhost", "udp:unix:/a", "udp:tcp:localhost:1", "sctp:localhost:1", "tcp:1.2.3:4",
	} {
		if got, err := ParseBind(bad); err == nil {
			t.Errorf("%q is %+v", bad, got)
		}
	}
	if got, err := ParseBind("tcp:[::ffff:127.0.0.1]:80"); err != nil ||
		got.Addr.String() != "127.0.0.1:80" {
		t.Errorf("an IPv4-mapped address is %+v, %v", got, err)
	}
	tcp, tcpErr := ParseBind("tcp:localhost:80")
	udp, udpErr := ParseBind("udp:localhost:80")
	if tcpErr != nil || udpErr != nil || tcp.Addr != udp.Addr || tcp.UDP || !udp.UDP ||
		tcp.Conflicts(udp) ||
		!udp.Conflicts(udp) {
		t.Errorf("TCP is %+v, %v, and UDP %+v, %v", tcp, tcpErr, udp, udpErr)
	}
}

// bindPair is two binds, and whether something holds between them, either way.
type bindPair struct {
	a, b string
	want bool
}

func checkPairs(t *testing.T, holds func(a, b Bind) bool, pairs []bindPair) {
	t.Helper()
	for _, test := range pairs {
		a, aErr := ParseBind(test.a)
		b, bErr := ParseBind(test.b)
		got, reversed := holds(a, b), holds(b, a)
		if aErr != nil || bErr != nil || got != test.want || reversed != test.want {
			t.Errorf("%s and %s: %v and %v, want %v", test.a, test.b, got, reversed, test.want)
		}
	}
}

func TestConflicts(t *testing.T) {
	checkPairs(t, Bind.Conflicts, []bindPair{
		{"tcp:127.0.0.1:1", "tcp:127.0.0.1:1", true},
		{"tcp:127.0.0.1:1", "tcp:127.0.0.1:2", false},
		{"tcp:127.0.0.1:1", "tcp:127.0.0.2:1", false},
		{"tcp:127.0.0.1:1", "tcp:[::1]:1", false},
		{"tcp:127.0.0.1:1", "tcp:*:1", true},
		{"tcp:127.0.0.1:1", "tcp:0.0.0.0:1", true},
		{"tcp:127.0.0.1:1", "udp:*:1", false},
		{"unix:/a", "unix:/a", true},
		{"unix:/a", "unix:/b", false},
	})
}

func TestOverlaps(t *testing.T) {
	checkPairs(t, Bind.Overlaps, []bindPair{
		{"tcp:127.0.0.1:1", "tcp:127.0.0.1:1", true},
		{"tcp:127.0.0.1:1", "tcp:127.0.0.1:2", false},
		{"tcp:127.0.0.1:0", "tcp:127.0.0.1:0", false}, // the system chooses
		{"tcp:127.0.0.1:1", "tcp:127.0.0.2:1", false},
		{"tcp:127.0.0.1:1", "tcp:[::1]:1", false},
		{"tcp:127.0.0.1:1", "tcp:*:1", true},
		{"tcp:[::1]:1", "tcp:*:1", true},
		{"tcp:127.0.0.1:1", "tcp:0.0.0.0:1", true},
		{"tcp:[::1]:1", "tcp:0.0.0.0:1", false},
		{"tcp:0.0.0.0:1", "tcp:*:1", true},
		{"tcp:127.0.0.1:1", "udp:*:1", false},
		{"udp:127.0.0.1:1", "udp:*:1", true},
		{"unix:/a", "unix:/a", false},
	})
}

// FuzzParseBind checks that the address that is bound is the one that the rules have checked: it
// parses back to itself.
func FuzzParseBind(f *testing.F) {
	for _, seed := range []string{
		"tcp:localhost:8022", "tcp:*:0", "tcp::1", "tcp:[fe80::1%eth0]:80", "unix:/run/a",
		"tcp:[::ffff:1.2.3.4]:5", "udp:localhost:53",
	} {
		f.Add(seed)
	}
	nothing, err := ParseReverseRules(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		bind, err := ParseBind(text)
		if err != nil {
			return
		}
		if nothing.Grant(bind) || (*ReverseRules)(nil).Grant(bind) {
			t.Errorf("%q is granted by no rule", text)
		}
		again := "unix:" + bind.Socket
		if bind.Socket == "" {
			again = map[bool]string{false: "tcp:", true: "udp:"}[bind.UDP] + bind.Addr.String()
		}
		if got, err := ParseBind(again); err != nil || got != bind {
			t.Errorf("%q is %+v, and then %+v, %v", text, bind, got, err)
		}
	})
}

func TestListenUnix(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "socket")
	ln, err := ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := ln.Addr(); got.Network() != "unix" || got.String() != path {
		t.Errorf("address %s %s", got.Network(), got)
	}
	checkSocket(t, path)
	if _, err := ListenUnix(path); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a socket that is listened on: %v", err)
	}
	accepted := make(chan error, 1)
	go func() {
		conn, err := ln.Accept()
		// The probe of the second ListenUnix comes first.
		for ; err == nil; conn, err = ln.Accept() {
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
	select {
	case err := <-accepted:
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept ends with %v", err)
		}
	case <-testnet.Within(t, 10*time.Second).Done():
		t.Error("accept does not end")
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
	ln, err := ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	checkSocket(t, path)
}

// longPath returns a path of so many bytes in a new folder.
func longPath(t *testing.T, length int) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "p")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir + "/" + strings.Repeat("s", length-len(dir)-1)
}

// A path may be as long as the system allows, even if a temporary one is longer, and no longer.
func TestListenUnixLongestPath(t *testing.T) {
	for name, listen := range map[string]func(string) (net.Listener, error){
		"in a private folder": ListenUnix,
		"with a mask":         listenPrivately,
	} {
		t.Run(name, func(t *testing.T) {
			path := longPath(t, maxSocketPath)
			ln, err := listen(path)
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			checkSocket(t, path)
			if got := ln.Addr().String(); got != path {
				t.Errorf("its address is %s", got)
			}
			conn, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
			if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
				t.Errorf("entries of its folder: %v, %v", entries, err)
			}
			if _, err := listen(longPath(t, maxSocketPath+1)); !errors.Is(err, errSocketPath) {
				t.Errorf("a longer path: %v", err)
			}
		})
	}
}

func TestListenUnixKeepsOtherFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ListenUnix(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
	if b, err := os.ReadFile(path); string(b) != "precious" {
		t.Errorf("the file holds %q, %v", b, err)
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

// Binding uses the requested address and IP version.
func TestBindListens(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	for text, want := range map[string]string{
		"tcp:127.0.0.1:0": "127.0.0.1", "tcp:[::1]:0": "::1",
		"tcp:0.0.0.0:0": "0.0.0.0", "tcp:*:0": "::",
	} {
		bind, err := ParseBind(text)
		if err != nil {
			t.Fatal(err)
		}
		ln, err := bind.Listen()
		if err != nil {
			t.Fatal(err)
		}
		host, _, _ := net.SplitHostPort(ln.Addr().String())
		ln.Close()
		if host != want {
			t.Errorf("%s listens on %s", text, host)
		}
	}
	bind, err := ParseBind("unix:" + socket)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := bind.Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if got := ln.Addr().String(); got != socket {
		t.Errorf("listens on %s, want %s", got, socket)
	}
	if bind, err = ParseBind("udp:localhost:0"); err != nil {
		t.Fatal(err)
	}
	conn, err := bind.ListenUDP()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if at := conn.LocalAddr().(*net.UDPAddr); !at.IP.Equal(net.IPv4(127, 0, 0, 1)) || at.Port == 0 {
		t.Errorf("UDP is bound to %s", at)
	}
}

// A bind of any port may stay at the port it got as long as the rules grant either.
func TestGrantBound(t *testing.T) {
	bound, err := ParseBind("tcp:127.0.0.1:8022")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		rule, asked string
		want        bool
	}{
		{"localhost", "tcp:localhost:0", true},
		{"localhost:8022", "tcp:localhost:0", true},
		{"localhost:8023", "tcp:localhost:0", false},
		{"localhost:8023", "malformed", false},
		{"localhost:8022", "malformed", true},
	} {
		rules, err := ParseReverseRules([]string{test.rule})
		if err != nil {
			t.Fatal(err)
		}
		if got := rules.GrantBound(bound, test.asked); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
}
