//go:build linux

package e2e

import (
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"culvert/internal/testnet"
)

// takeOver is a tunnel whose remote another process takes over. The local reaches it through a
// relay.
type takeOver struct {
	*tunnel
	t      *testing.T
	env    []string
	args   []string // of the remotes, without the address
	listen string
	socket string // the other address of remotes
	pid    string // the file of their number
	relay  *testnet.Relay
	web    *httptest.Server
	port   string // of -R
}

// newTakeOver returns what there is before the first process, which is to listen with TCP and on a
// unix socket.
func newTakeOver(t *testing.T) *takeOver {
	t.Helper()
	o := &takeOver{t: t, env: cleanEnv(t), port: testnet.FreePort(t), web: startSite(t)}
	o.listen, o.socket = "127.0.0.1:"+testnet.FreePort(t), filepath.Join(t.TempDir(), "socket")
	o.pid = filepath.Join(t.TempDir(), "pid")
	o.tunnel = &tunnel{server: newIdentity(t), client: newIdentity(t)}
	authorized := writeFile(t, "authorized_keys", o.client.key+"\n")
	o.args = []string{"--authorized-keys", authorized, "--reverse", "localhost",
		"--drain-timeout", "30s", "--listen", "unix:" + o.socket, "--pid-file", o.pid}
	return o
}

// startTakeOver starts the first process, and the local.
func startTakeOver(t *testing.T, secure bool) *takeOver {
	t.Helper()
	o := newTakeOver(t)
	scheme, flags := "ws", []string(nil)
	if secure {
		const name = "exit.culvert.test"
		ca := newWebCA(t)
		certFile, keyFile, _ := ca.issue(t, name)
		o.args = append(o.args, "--tls-cert", certFile, "--tls-key", keyFile)
		scheme, flags = "wss", []string{"--tls-ca", ca.file, "--tls-server-name", name}
	}
	o.remote = o.start("remote", "--name", "exit")
	o.startLocal(scheme, flags...)
	return o
}

// startLocal starts the local, whose remote runs.
func (o *takeOver) startLocal(scheme string, flags ...string) {
	o.t.Helper()
	o.relay = testnet.RelayTo(o.t, o.listen, testnet.RelayConfig{})
	flags = append(flags, "-R", "localhost:"+o.port+":"+strings.TrimPrefix(o.web.URL, "http://"),
		"-L", "0:"+testnet.EchoServer(o.t))
	o.local = startNode(o.t, "local", command(o.env, o.t.TempDir(), program,
		localArgs(o.client, o.server, scheme+"://"+o.relay.Address()+"/", flags...)...))
}

// start starts a process with the remote's key.
func (o *takeOver) start(name string, flags ...string) *node {
	o.t.Helper()
	return o.startWith(program, name, flags...)
}

// startWith is start with another program.
func (o *takeOver) startWith(program, name string, flags ...string) *node {
	o.t.Helper()
	args := append(append([]string{"--listen", o.listen}, o.args...), flags...)
	return startNode(o.t, name, command(o.env, o.t.TempDir(), program,
		remoteArgs(o.server, args...)...))
}

// TestTakeOver replaces a remote's process twice under load, the second time while the first one
// still drains, and cuts all connections meanwhile. Nobody is refused, no download is cut, and -R
// moves along.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	for name, secure := range map[string]bool{"tcp": false, "tls": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			startTakeOver(t, secure).test()
		})
	}
}

func (o *takeOver) test() {
	t := o.t
	connected, fetched := o.connectAlways(), o.fetchAlways()
	remotes, download := []*node{o.remote}, startDrip(t, o.tunnel, o.web, "short")
	var streams []net.Conn
	for i := range 2 {
		streams = append(streams, testnet.Dial(t, o.local.forwards[0], bulkTime))
		o.echo(streams)
		o.remote = o.start(fmt.Sprint("next remote ", i), "--take-over", "exit")
		remotes = append(remotes, o.remote)
		o.hasNumber(o.remote)
		testnet.Poll(t, patience, "the local has another session", func() bool {
			return strings.Count(o.local.stderr.String(), "session up") >= i+2
		})
		o.relay.Cut() // also the carriers of sessions that only older processes have
		o.echo(streams)
		testnet.Poll(t, patience, "the reverse forward is up", o.reversed)
	}
	if status, got := download.wait(patience), len(download.stdout.String()); status != 0 ||
		got != drips*dripSize {
		t.Errorf("download: status %d, %d bytes of %d", status, got, drips*dripSize)
	}
	for i, old := range remotes[:2] {
		testnet.Poll(t, patience, "the session has come back to "+old.name, func() bool {
			return strings.Contains(old.stderr.String(), "session resumed")
		})
		old.signal(syscall.SIGTERM) // the first: it goes on draining
		old.stderr.waitLine(t, old.process, "stopping", patience)
		o.echo(streams[i : i+1])
		streams[i].Close()
		if status := old.wait(bulkTime); status != 0 {
			t.Errorf("%s: status %d", old.name, status)
		}
		if strings.Contains(old.stderr.String(), "streams cut short") {
			t.Errorf("%s has cut streams", old.name)
		}
	}
	if c, f := connected(), fetched(); c == 0 || f == 0 {
		t.Errorf("%d connections and %d fetches meanwhile", c, f)
	}
	if !o.reversed() {
		t.Error("the reverse forward doesn't work in the end")
	}
	o.hasNumber(o.remote)
	list := must(t, patience, command(o.env, t.TempDir(), program, "status"))
	if !strings.Contains(list, "\nexit  ") || strings.Contains(list, "draining") ||
		!strings.Contains(list, strconv.Itoa(o.remote.cmd.Process.Pid)) {
		t.Errorf("culvert status:\n%s", list)
	}
}

// echo checks that all streams work.
func (o *takeOver) echo(streams []net.Conn) {
	o.t.Helper()
	for i, conn := range streams {
		if err := testnet.CheckEcho(conn, "ping"); err != nil {
			o.t.Fatalf("stream %d: %v", i, err)
		}
	}
}

// hasNumber checks whose number is in the file of --pid-file.
func (o *takeOver) hasNumber(n *node) {
	o.t.Helper()
	text, err := os.ReadFile(o.pid)
	if want := strconv.Itoa(n.cmd.Process.Pid); strings.TrimSpace(string(text)) != want || err != nil {
		o.t.Errorf("the file has %q, %v, want %s of %s", text, err, want, n.name)
	}
}

// TestTakeOverFails checks that a remote goes on when another process can't take over, and that one
// that can still does.
func TestTakeOverFails(t *testing.T) {
	t.Parallel()
	o := startTakeOver(t, false)
	stream := testnet.Dial(t, o.local.forwards[0], bulkTime)
	other := newIdentity(t)
	for _, test := range []struct {
		why    string
		key    identity
		flags  []string
		status int
	}{
		{"no node \"nobody\" is running", o.server, []string{"--take-over", "nobody",
			"--listen", o.listen}, 1},
		{"the key is another one", other, []string{"--take-over", "exit", "--listen", o.listen}, 1},
		{"only a remote can be taken over", o.server, []string{"--take-over", "local-1"}, 1},
		{"exit listens where nothing of this process is to: ", o.server, []string{"--take-over", "exit",
			"--listen", "127.0.0.1:0"}, 2},
	} {
		r := run(t, patience, command(o.env, t.TempDir(), program,
			remoteArgs(test.key, append(test.flags, o.args...)...)...))
		if r.status != test.status || !strings.Contains(r.stderr, test.why) {
			t.Errorf("want status %d, %q; got status %d\n%s", test.status, test.why, r.status, r.stderr)
		}
		o.echo([]net.Conn{stream})
		must(t, patience, curl(t, o.local.socks, patience, o.web.URL+"/random/10"))
		o.hasNumber(o.remote)
	}
	old := o.remote
	testnet.Poll(t, patience, "the attempts are over", func() bool {
		return strings.Contains(old.stderr.String(), "not taken over")
	})
	o.remote = o.start("next remote", "--take-over", "exit")
	o.echo([]net.Conn{stream})
	stream.Close()
	if status := old.wait(bulkTime); status != 0 {
		t.Errorf("%s: status %d", old.name, status)
	}
	must(t, patience, curl(t, o.local.socks, patience, o.web.URL+"/random/10"))
}

// TestTakeOverKilled kills the process that was taken over while a client is away. When that comes
// back, it names its session there, and gets another in the new process at once.
func TestTakeOverKilled(t *testing.T) {
	t.Parallel()
	o := startTakeOver(t, false)
	must(t, patience, curl(t, o.local.socks, patience, o.web.URL+"/random/10"))
	o.relay.SetDown(true)
	o.relay.Cut()
	old := o.remote
	o.remote = o.start("next remote", "--take-over", "exit")
	old.kill()
	o.relay.SetDown(false)
	must(t, patience, curl(t, o.local.socks, patience, o.web.URL+"/random/10"))
}

// reversed reports whether the port at the remote leads to the site.
func (o *takeOver) reversed() bool {
	r := run(o.t, patience, command(o.env, o.t.TempDir(), needProgram(o.t, "curl"), "-q", "--silent",
		"--fail", "--max-time", "5", "http://localhost:"+o.port+"/random/10"))
	return r.status == 0
}

// fetchAlways makes new connections through the tunnel all the time, none of which may fail, until
// the function that it returns is called, which returns their number.
func (o *takeOver) fetchAlways() (stop func() int) {
	n := 0
	halt := always(o.t, time.Millisecond, func() {
		cmd := curl(o.t, o.local.socks, patience, o.web.URL+"/random/1000")
		if r := run(o.t, patience, cmd); r.status != 0 {
			o.t.Errorf("fetch %d: status %d\n%s", n, r.status, r.stderr)
		}
		n++
	})
	return func() int {
		halt()
		return n
	}
}

// connectAlways connects to the remote all the time, in both ways. Nothing may be refused.
func (o *takeOver) connectAlways() (stop func() int) {
	n := 0
	halt := always(o.t, 10*time.Millisecond, func() {
		for network, address := range map[string]string{"tcp": o.listen, "unix": o.socket} {
			conn, err := net.Dial(network, address)
			if err != nil {
				o.t.Errorf("connection %d: %v", n, err)
				continue
			}
			conn.Close()
			n++
		}
	})
	return func() int {
		halt()
		return n
	}
}
