package cli

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"culvert/certs"
	"culvert/internal/cli/exit"

	"golang.org/x/sys/unix"
)

// serviceManager is what a process is told of systemd, and tells it.
type serviceManager struct {
	t    *testing.T
	conn *net.UnixConn
}

func newServiceManager(t *testing.T) *serviceManager {
	t.Helper()
	address := &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"}
	conn, err := net.ListenUnixgram("unixgram", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &serviceManager{t, conn}
}

// supervises makes a command notify the manager, and feed its watchdog.
func (m *serviceManager) supervises(cmd *exec.Cmd) *exec.Cmd {
	cmd.Env = append(slices.Clone(cmd.Env), "NOTIFY_SOCKET="+m.conn.LocalAddr().String(),
		fmt.Sprintf("WATCHDOG_USEC=%d", (600*time.Millisecond).Microseconds()))
	return cmd
}

// await returns the next notification that begins with a word. Before it there may be others of
// those that are named, but none besides.
func (m *serviceManager) await(word string, others ...string) string {
	m.t.Helper()
	if err := m.conn.SetReadDeadline(time.Now().Add(stepTimeout)); err != nil {
		m.t.Fatal(err)
	}
	packet := make([]byte, 1<<12)
	for {
		n, err := m.conn.Read(packet)
		if err != nil {
			m.t.Fatalf("no %s: %v", word, err)
		}
		text := string(packet[:n])
		if strings.HasPrefix(text, word) {
			return text
		}
		if !slices.ContainsFunc(others, func(o string) bool { return strings.HasPrefix(text, o) }) {
			m.t.Fatalf("%q before %s", text, word)
		}
	}
}

// TestSupervisedRemote follows the life of a remote as systemd does. Its watchdog is fed until a
// listener can't be reached.
func TestSupervisedRemote(t *testing.T) {
	t.Parallel()
	s, manager := newStage(t), newServiceManager(t)
	certificate(t, s)
	p := startIn(t, manager.supervises(s.plain("remote", "--allow-anyone", "--listen", "unix:door",
		"--listen", ":0", "--tls-cert", "tls.pem", "--tls-key", "tls.key")), false)
	ready := manager.await("READY=1\n")
	if !strings.Contains(ready, "\nSTATUS=listening on unix:door, [::]:") {
		t.Errorf("ready with %q", ready)
	}
	manager.await("WATCHDOG=1")
	p.send(t, syscall.SIGUSR1)
	if text := manager.await("RELOADING=1\n", "WATCHDOG=1"); !strings.Contains(
		text, "\nMONOTONIC_USEC=") {
		t.Errorf("reload with %q", text)
	}
	manager.await("READY=1", "WATCHDOG=1")
	manager.await("WATCHDOG=1")
	if err := os.Remove(filepath.Join(s.dir, "door")); err != nil {
		t.Fatal(err)
	}
	starved := func(times int) {
		t.Helper()
		enough := func(text string) bool { return strings.Count(text, "watchdog is not fed") >= times }
		if text := p.stderr.await(enough, p.ended); !enough(text) {
			t.Fatalf("a listener that is gone was noticed less than %d times:\n%s", times, text)
		}
	}
	starved(1)
	p.send(t, syscall.SIGUSR1) // what was sent before is read by then
	manager.await("RELOADING=1\n", "WATCHDOG=1")
	manager.await("READY=1")
	starved(3)
	p.send(t, syscall.SIGTERM)
	manager.await("STOPPING=1\nEXTEND_TIMEOUT_USEC=40000000") // --drain-timeout, and a margin
	checkStatus(t, p, exit.OK)
}

// TestProbeOfForeignSocket: a socket unit may let only others connect to a socket, such as a web
// server's group. That is no fault of the data path; a socket without a file is.
func TestProbeOfForeignSocket(t *testing.T) {
	t.Parallel()
	folder, err := os.MkdirTemp("/tmp", "culvert-") // all may look into it
	if err == nil {
		err = os.Chmod(folder, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	path := filepath.Join(folder, "door")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	ask, probed := make(chan struct{}), make(chan error, 1)
	defer close(ask)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if os.Geteuid() == 0 {
			const nobody = 65534
			if err := unix.Setfsuid(nobody); err != nil { // without root's rights to files
				t.Error(err)
			}
		}
		for range ask {
			probed <- probe(t.Context(), ln, func(net.Conn) error {
				return errors.New("connected, whatever the mode of the socket")
			})
		}
	}()
	ask <- struct{}{}
	if err := <-probed; err != nil {
		t.Error(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	ask <- struct{}{}
	if err := <-probed; err == nil {
		t.Error("a socket without a file is fine")
	}
}

// TestSupervisedWithoutIPv6: the watchdog is fed where IPv6 is switched off, so that a listener of
// all addresses is bound to :: and ::1 can't be dialed.
func TestSupervisedWithoutIPv6(t *testing.T) {
	t.Parallel()
	s, manager := newStage(t), newServiceManager(t)
	cmd := s.plain("remote", "--allow-anyone", "--listen", ":0")
	alone := exec.Command("unshare", append([]string{"--net", "sh", "-euc", `
		echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
		ip link set lo up
		exec "$@"`, "sh", cmd.Path}, cmd.Args[1:]...)...)
	alone.Dir, alone.Env = cmd.Dir, cmd.Env
	p := startIn(t, manager.supervises(alone), false)
	if ready := manager.await("READY=1\n"); !strings.Contains(
		ready, "\nSTATUS=listening on [::]:") {
		t.Errorf("ready with %q", ready)
	}
	manager.await("WATCHDOG=1")
	p.send(t, syscall.SIGTERM)
	manager.await("STOPPING=1", "WATCHDOG=1")
	checkStatus(t, p, exit.OK)
}

// TestReachable: what listens on all addresses of IPv6 may or may not listen on those of IPv4.
func TestReachable(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		addr net.Addr
		want []string
	}{
		{&net.TCPAddr{IP: net.IPv6unspecified, Port: 80}, []string{"[::1]:80", "127.0.0.1:80"}},
		{&net.TCPAddr{IP: net.IPv4zero, Port: 80}, []string{"127.0.0.1:80"}},
		{&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80}, []string{"192.0.2.1:80"}},
		{&net.TCPAddr{IP: net.IPv6loopback, Port: 80}, []string{"[::1]:80"}},
		{&net.UnixAddr{Name: "/run/a", Net: "unix"}, []string{"/run/a"}},
	} {
		if got := reachable(test.addr); !slices.Equal(got, test.want) {
			t.Errorf("%v: %q, want %q", test.addr, got, test.want)
		}
	}
}

// certificate makes tls.pem and tls.key.
func certificate(t *testing.T, s *stage) {
	t.Helper()
	sh := &shell{dir: s.dir, env: s.env}
	output, err := sh.run("umask 077; openssl req -x509 -newkey ec -pkeyopt " +
		"ec_paramgen_curve:P-256 -nodes -subj /CN=exit.example.org -keyout tls.key -out tls.pem " +
		"2>/dev/null")
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
}

// TestSupervisedLocal follows the life of a local: it is ready when the tunnel is, and a remote
// that is gone is no reason to restart it.
func TestSupervisedLocal(t *testing.T) {
	t.Parallel()
	s, manager := newStage(t), newServiceManager(t)
	remote := startIn(t, s.plain("remote", "--allow-anyone", "--listen", "127.0.0.1:0",
		"--print-ready"), false)
	s.remote = awaitLine(t, remote)
	p := startIn(t, manager.supervises(s.local("--socks-auth", "user:secret")), false)
	if text := manager.await("READY=1\n"); !strings.Contains(
		text, "\nSTATUS=connected to ws://"+s.remote.Listen[0]+"/") {
		t.Errorf("ready with %q", text)
	}
	manager.await("WATCHDOG=1")
	remote.kill()
	lost := func(text string) bool {
		return strings.Contains(text, "session lost") ||
			strings.Contains(text, "connection lost")
	}
	if text := p.stderr.await(lost, p.ended); !lost(text) {
		t.Fatalf("the remote's end was not noticed:\n%s", text)
	}
	for range 3 {
		manager.await("WATCHDOG=1")
	}
	p.send(t, syscall.SIGTERM)
	manager.await("STOPPING=1", "WATCHDOG=1")
	checkStatus(t, p, exit.OK)
}

// activated returns a command that gets the files as a socket unit of systemd passes them, with a
// name for each.
func activated(cmd *exec.Cmd, files ...*os.File) *exec.Cmd {
	sh := exec.Command("sh", append([]string{"-c",
		`LISTEN_PID=$$ exec "$@"`, "sh", cmd.Path}, cmd.Args[1:]...)...)
	sh.Dir, sh.ExtraFiles = cmd.Dir, files
	sh.Env = append(slices.Clone(cmd.Env), fmt.Sprintf("LISTEN_FDS=%d", len(files)),
		"LISTEN_FDNAMES="+strings.TrimSuffix(strings.Repeat("culvert.socket:", len(files)), ":"))
	return sh
}

// bind binds addresses of TCP, of UDP with /udp at the end, or of unix sockets, as a socket unit
// does, and returns where they are bound. They stay bound.
func bind(t *testing.T, addresses ...string) (files []*os.File, bound []string) {
	t.Helper()
	add := func(socket interface{ File() (*os.File, error) }, addr net.Addr) {
		file, err := socket.File()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { file.Close() })
		files, bound = append(files, file), append(bound, addr.String())
	}
	for _, address := range addresses {
		network := "tcp"
		if filepath.IsAbs(address) {
			network = "unix"
		}
		if port, ok := strings.CutSuffix(address, "/udp"); ok {
			conn, err := net.ListenPacket("udp", port)
			if err != nil {
				t.Fatal(err)
			}
			add(conn.(*net.UDPConn), conn.LocalAddr())
			conn.Close()
			continue
		}
		ln, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		if unix, ok := ln.(*net.UnixListener); ok {
			unix.SetUnlinkOnClose(false)
		}
		add(ln.(interface{ File() (*os.File, error) }), ln.Addr())
		ln.Close()
	}
	return files, bound
}

// TestActivation passes sockets to a remote and a local for all kinds of listeners. They serve on
// them, and leave them to the manager when they end.
func TestActivation(t *testing.T) {
	t.Parallel()
	s, echo := newStage(t), serveEcho(t)
	files, bound := bind(t, "127.0.0.1:0", filepath.Join(s.dir, "door"), ":0")
	_, port, err := net.SplitHostPort(bound[2])
	if err != nil {
		t.Fatal(err)
	}
	remote := startIn(t, activated(s.plain("remote", "--allow-anyone", "--print-ready",
		"--listen", bound[0], "--listen", "unix:"+bound[1], "--listen", ":"+port), files...), false)
	s.remote = awaitLine(t, remote)
	want := []string{bound[0], "unix:" + bound[1], bound[2]}
	if !slices.Equal(s.remote.Listen, want) {
		t.Errorf("the remote listens on %v, want %v", s.remote.Listen, want)
	}

	files, bound = bind(t, "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0/udp")
	local := startIn(t, activated(s.command("local", "--print-ready", "--socks", bound[0],
		"--pac", bound[1], "-L", bound[2]+":"+echo, "-L", bound[3]+":127.0.0.1:9/udp"),
		files...), false)
	near := awaitLine(t, local)
	if near.Socks != bound[0] || !slices.Equal(near.Forwards, []string{bound[2], bound[3] + "/udp"}) {
		t.Errorf("the local listens on %+v, want %v", near, bound)
	}
	dialEcho(t, bound[0], echo)
	client := &http.Client{Timeout: stepTimeout}
	defer client.CloseIdleConnections()
	response, err := client.Get("http://" + bound[1] + "/proxy.pac")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("the PAC file: %s", response.Status)
	}
	exchangeLine(t, bound[2])

	for _, p := range []*process{local, remote} {
		p.send(t, syscall.SIGTERM)
		checkStatus(t, p, exit.OK)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "door")); err != nil {
		t.Errorf("the socket that was passed is gone: %v", err)
	}
}

// TestActivatedTakeOver: the file of a socket that a service manager has passed stays, whichever
// process ends last.
func TestActivatedTakeOver(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.env = append(s.env, "XDG_RUNTIME_DIR="+s.dir)
	kept, own := filepath.Join(s.dir, "kept"), filepath.Join(s.dir, "own")
	files, bound := bind(t, kept)
	args := []string{"remote", "--allow-anyone", "--print-ready",
		"--listen", "unix:" + bound[0], "--listen", "unix:" + own}
	first := startIn(t, activated(s.plain(append(args, "--name", "exit")...), files...), false)
	awaitLine(t, first)
	second := startIn(t, s.plain(append(args, "--take-over", "exit")...), false)
	awaitLine(t, second)
	checkStatus(t, first, exit.OK)
	for _, path := range []string{kept, own} {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("after the take-over: %v", err)
		}
	}
	second.send(t, syscall.SIGTERM)
	checkStatus(t, second, exit.OK)
	if _, err := os.Stat(kept); err != nil {
		t.Errorf("the socket that was passed is gone: %v", err)
	}
	if _, err := os.Stat(own); !os.IsNotExist(err) {
		t.Errorf("the remote's own socket is left behind: %v", err)
	}
}

// exchangeLine connects to an echo.
func exchangeLine(t *testing.T, address string) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, stepTimeout)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(stepTimeout))
	got := make([]byte, 6)
	if _, err := io.WriteString(conn, "a line"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "a line" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestActivationUnnamed passes sockets that no flag names, which would take connections that nobody
// serves.
func TestActivationUnnamed(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	for name, cmd := range map[string]*exec.Cmd{
		"remote": s.plain("remote", "--allow-anyone", "--listen", "127.0.0.1:0"),
		"local":  s.local(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files, bound := bind(t, "127.0.0.1:0")
			p := startIn(t, activated(cmd, files...), false)
			checkStatus(t, p, exit.Usage)
			want := "culvert: the service manager passes a socket that nothing is to listen on: " + bound[0]
			if text := p.stderr.String(); !strings.Contains(text, want) {
				t.Errorf("the error is %q, want %q", text, want)
			}
		})
	}
}

// TestServiceFolder starts a remote and a local without a home: their files are in the folder that
// systemd gives them, and the first start creates the keys and logs them.
func TestServiceFolder(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	for name, args := range map[string][]string{
		"remote": {"remote", "--listen", "127.0.0.1:0", "--allow-anyone", "--print-ready"},
		"local": {"local", "--socks", "127.0.0.1:0", "--accept-new", "--print-ready",
			"ws://" + s.remote.Listen[0] + "/"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			cmd := exec.Command("culvert", args...)
			cmd.Dir = s.dir
			cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "STATE_DIRECTORY=" + folder,
				"GORACE=atexit_sleep_ms=0"}
			p := startIn(t, cmd, false)
			ready := awaitLine(t, p)
			key, err := certs.ReadKeyPair(filepath.Join(folder, "identity.json"))
			if err != nil || key.Public().String() != ready.PublicKey {
				t.Fatalf("the key in the folder, and that of the node, are %v, %v and %s",
					key, err, ready.PublicKey)
			}
			logged := func(text string) bool {
				for line := range strings.Lines(text) {
					if strings.Contains(line, "created a key pair") {
						return strings.Contains(line, ready.PublicKey)
					}
				}
				return false
			}
			if text := p.stderr.await(logged, p.ended); !logged(text) {
				t.Errorf("the new key was not logged:\n%s", text)
			}
			p.send(t, syscall.SIGTERM)
			checkStatus(t, p, exit.OK)
		})
	}
}
