//go:build linux

package e2e

import (
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"culvert/internal/testnet"
)

// exitCannotListen is culvert's status when it can't bind an address, including one of -R at the
// remote.
const exitCannotListen = 6

// startReverse starts a remote with rule as its --reverse, and a local with flags.
func startReverse(t *testing.T, rule string, flags ...string) *tunnel {
	t.Helper()
	tun := &tunnel{server: newIdentity(t), client: newIdentity(t)}
	tun.authorized = writeFile(t, "authorized_keys", tun.client.key+"\n")
	tun.remote = tun.startReverseRemote(t, "127.0.0.1:0", rule)
	tun.local = startNode(t, "local",
		culvert(t, localArgs(tun.client, tun.server, tun.remote.url(), flags...)...))
	return tun
}

func (tun *tunnel) startReverseRemote(t *testing.T, listen, rule string) *node {
	t.Helper()
	return startNode(t, "remote",
		culvert(t, remoteArgs(tun.server, "--listen", listen, "--authorized-keys", tun.authorized,
			"--reverse", rule)...))
}

// ssh through the remote's port reaches the sshd on the local's side.
func TestSSHBackThroughReverse(t *testing.T) {
	t.Parallel()
	server := startSSHD(t)
	tun := startReverse(t, "localhost", "-R", "0:127.0.0.1:"+server.port)
	_, port, err := net.SplitHostPort(tun.local.reverse[0])
	if err != nil {
		t.Fatal(err)
	}
	want := sum(t, randomBytes(sshSize))
	cmd := command(cleanEnv(t), t.TempDir(), needProgram(t, "ssh"), "-F", "none",
		"-o", "UserKnownHostsFile="+server.knownHosts,
		"-o", "GlobalKnownHostsFile=none", "-o", "HostKeyAlias=culvert-e2e",
		"-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes",
		"-o", "IdentityAgent=none",
		"-i", server.clientKey, "-p", port, server.user+"@127.0.0.1", "cat; exit 3")
	cmd.Stdin = randomBytes(sshSize)
	r := run(t, sshTime, cmd)
	if got := sum(t, strings.NewReader(r.stdout)); r.status != 3 || got != want {
		t.Errorf("status %d, got %s, want 3 and %s; %s", r.status, got, want, r.stderr)
	}
}

// With -R PORT:socks the remote's port is a proxy: the local resolves names and connects.
func TestReverseProxy(t *testing.T) {
	t.Parallel()
	tun, web := startReverse(t, "localhost", "-R", "0:socks"), startSite(t)
	want := sum(t, randomBytes(1<<20))
	page := strings.Replace(web.URL, "127.0.0.1", "localhost", 1) + "/random/1048576"
	proxy := tun.local.reverse[0]
	for name, args := range map[string][]string{
		"SOCKS5":  {"--socks5-hostname", proxy, page},
		"SOCKS4a": {"--socks4a", proxy, page},
		"CONNECT": {"--proxytunnel", "--proxy", "http://" + proxy, page},
		"GET":     {"--proxy", "http://" + proxy, page},
	} {
		if got := sum(t,
			strings.NewReader(must(t, patience, bareCurl(t, patience, args...)))); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

// If a port is not granted, or belongs to another client, local exits with one line that states the
// error and one that states the remedy.
func TestReverseRefused(t *testing.T) {
	t.Parallel()
	echoAddress := testnet.EchoServer(t)
	tun := startReverse(t, "localhost", "-R", "0:"+echoAddress)
	taken, other := tun.local.reverse[0], newIdentity(t)
	rewrite(t, tun.authorized, tun.client.key+"\n"+other.key+"\n")
	tun.remote.signal(syscall.SIGHUP)
	tun.remote.stderr.waitLine(t, tun.remote.process, "INF reloaded", patience)
	for _, test := range []struct {
		bind   string
		status int
		says   []string
	}{
		{taken, exitCannotListen,
			[]string{"can't listen on " + taken + " at the remote: address in use", "give another port"}},
		{"*:0", exitNotAdmitted, []string{"can't listen on *:0 at the remote: not allowed", "--reverse"}},
		{"127.0.0.9:0", exitNotAdmitted, []string{"not allowed by the remote's rules", other.key}},
	} {
		r := run(t, patience,
			culvert(t, "local", "--key", other.file, "--remote-key", tun.server.key, "--log-level", "error",
				"--socks", "none", "-R", test.bind+":"+echoAddress, tun.remote.url()))
		if r.status != test.status || strings.Count(r.stderr, "\n") != 2 {
			t.Errorf("%s: status %d, want %d, and %q", test.bind, r.status, test.status, r.stderr)
		}
		for _, want := range test.says {
			if !strings.Contains(r.stderr, want) {
				t.Errorf("%s: %q is not in %q", test.bind, want, r.stderr)
			}
		}
	}

	// Another client can have the port as soon as its owner stops.
	tun.local.stop()
	next := startNode(t, "other local",
		culvert(t, localArgs(other, tun.server, tun.remote.url(), "-R", taken+":"+echoAddress)...))
	if len(next.reverse) != 1 || next.reverse[0] != taken {
		t.Errorf("the other local has %v, want %s", next.reverse, taken)
	}
	reachReverse(t, taken)
}

// reachReverse waits until an echo server answers through a port of the remote.
func reachReverse(t *testing.T, address string) net.Conn {
	t.Helper()
	var conn net.Conn
	testnet.Poll(t, patience, "an echo answers at "+address, func() bool {
		var err error
		if conn, err = net.DialTimeout("tcp", address, patience); err != nil {
			return false
		}
		conn.SetDeadline(time.Now().Add(patience))
		if testnet.CheckEcho(conn, "there") == nil {
			return true
		}
		conn.Close()
		return false
	})
	t.Cleanup(func() { conn.Close() })
	return conn
}

// The port of a killed local passes to the next local with the same key, although the remote keeps
// the old session for a while.
func TestReverseAfterKill(t *testing.T) {
	t.Parallel()
	echoAddress := testnet.EchoServer(t)
	tun := startReverse(t, "localhost", "-R", "0:"+echoAddress)
	address := tun.local.reverse[0]
	tun.local.kill()
	testnet.Poll(t, patience, "the remote has noticed, and gives the port to the next", func() bool {
		r := run(t, patience,
			culvert(t, "local", "--key", tun.client.file, "--remote-key", tun.server.key, "--socks", "none",
				"--log-level", "error", "-R", address+":"+echoAddress, "-W", echoAddress, tun.remote.url()))
		return r.status == 0
	})
}

// The port and its connections survive the loss of the WebSocket. The port is opened again after
// the remote restarts.
func TestReverseComesBack(t *testing.T) {
	t.Parallel()
	echoAddress := testnet.EchoServer(t)
	tun := &tunnel{server: newIdentity(t), client: newIdentity(t)}
	tun.authorized = writeFile(t, "authorized_keys", tun.client.key+"\n")
	tun.remote = tun.startReverseRemote(t, "127.0.0.1:0", "localhost")
	way := testnet.RelayTo(t, tun.remote.listen[0], testnet.RelayConfig{Idle: relayIdle})
	tun.local = startNode(t, "local",
		culvert(t, localArgs(tun.client, tun.server, "ws://"+way.Address()+"/",
			"-R", "0:"+echoAddress, "--keepalive", "0")...))
	address := tun.local.reverse[0]
	conn := reachReverse(t, address)
	// the relay cuts idle connections
	tun.local.stderr.waitLine(t, tun.local.process, "session resumed", patience)
	conn.SetDeadline(time.Now().Add(patience))
	if err := testnet.CheckEcho(conn, "after"); err != nil {
		t.Errorf("after the WebSocket was lost: %v", err)
	}
	reachReverse(t, address)

	listen := tun.remote.listen[0]
	tun.remote.kill()
	tun.startReverseRemote(t, listen, "localhost")
	reachReverse(t, address)
}
