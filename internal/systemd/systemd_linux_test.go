package systemd

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// listenForNotices returns the socket to which notices to the service manager go.
func listenForNotices(t *testing.T) *net.UnixConn {
	t.Helper()
	address := &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"}
	conn, err := net.ListenUnixgram("unixgram", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", address.Name)
	return conn
}

// TestWatch lets every second check fail: the watchdog is fed after the others, and not otherwise.
func TestWatch(t *testing.T) {
	conn := listenForNotices(t)
	t.Setenv("WATCHDOG_USEC", "3000")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	broken := errors.New("broken")
	checks, failures := 0, 0
	new(Notifier).Watch(ctx, func(ctx context.Context) error {
		if _, ok := ctx.Deadline(); !ok {
			t.Error("a check has no deadline")
		}
		switch checks++; {
		case checks == 6:
			cancel()
		case checks%2 == 0:
			return broken
		}
		return nil
	}, func(err error) {
		if !errors.Is(err, broken) {
			t.Error(err)
		}
		failures++
	})
	if failures != 2 {
		t.Errorf("%d checks were reported as failed, want 2", failures)
	}
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	packet := make([]byte, 64)
	for range 3 {
		n, err := conn.Read(packet)
		if err != nil || string(packet[:n]) != "WATCHDOG=1" {
			t.Fatalf("got %q, %v", packet[:n], err)
		}
	}
	if err := send("END=1"); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(packet); err != nil || string(packet[:n]) != "END=1" {
		t.Errorf("got %q, %v too", packet[:n], err)
	}
}

// TestWatchNobody watches without a watchdog, and with the variables of another process.
func TestWatchNobody(t *testing.T) {
	for _, pid := range []string{"", "1"} {
		t.Setenv("WATCHDOG_USEC", map[string]string{"": "", "1": "1000"}[pid])
		t.Setenv("WATCHDOG_PID", pid)
		new(Notifier).Watch(t.Context(), func(context.Context) error {
			t.Error("checked")
			return nil
		}, func(err error) { t.Error(err) })
	}
}

// TestBound compares addresses as people write them with those that sockets have.
func TestBound(t *testing.T) {
	tcp := func(text string) net.Addr {
		addr, err := net.ResolveTCPAddr("tcp", text)
		if err != nil {
			t.Fatal(err)
		}
		return addr
	}
	unix := &net.UnixAddr{Name: "/run/door", Net: "unix"}
	for _, test := range []struct {
		addr  net.Addr
		asked string
		want  bool
	}{
		{tcp("127.0.0.1:80"), "127.0.0.1:80", true},
		{tcp("127.0.0.1:80"), "localhost:80", true},
		{tcp("127.0.0.1:80"), "127.0.0.1:81", false},
		{tcp("127.0.0.1:80"), "127.0.0.2:80", false},
		{tcp("127.0.0.1:80"), ":80", false},
		{tcp("[::]:80"), ":80", true},
		{tcp("[::]:80"), "0.0.0.0:80", false},
		{tcp("0.0.0.0:80"), "0.0.0.0:80", true},
		{tcp("0.0.0.0:80"), ":80", true},
		{tcp("[::]:80"), "[::1]:80", false},
		{tcp("[::1]:80"), "[::1]:80", true},
		{tcp("[::1]:80"), "127.0.0.1:0", false},
		{tcp("[::1]:80"), "unix:/run/door", false},
		{unix, "unix:/run/door", true},
		{unix, "unix:/run/other", false},
		{unix, ":80", false},
		{tcp("[::]:80"), "no address", false},
	} {
		if got := bound(test.addr, test.asked); got != test.want {
			t.Errorf("%v serves for %s: %t", test.addr, test.asked, got)
		}
	}
}

// TestHandOver checks that the manager learns which process is the main one, and nothing more from
// the one that was.
func TestHandOver(t *testing.T) {
	conn := listenForNotices(t)
	n := &Notifier{}
	for _, err := range []error{n.Ready("up"), n.HandOver(4711), n.Stopping(), send("END=1")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	n.Reload(func() {})
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	packet := make([]byte, 64)
	for _, want := range []string{"READY=1\nSTATUS=up", "MAINPID=4711", "END=1"} {
		if n, err := conn.Read(packet); err != nil || string(packet[:n]) != want {
			t.Errorf("got %q, %v, want %q", packet[:n], err, want)
		}
	}
}
