//go:build linux

package e2e

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"culvert/internal/testnet"
)

// Exit statuses of culvert that the tests expect.
const (
	exitFailed      = 1
	exitIdentity    = 4
	exitNotAdmitted = 5
)

// backTime bounds how long the tunnel takes to work again once the remote is back. A few seconds
// are few enough for a user not to reload; by then the pause between two attempts has grown to a
// second or two.
const backTime = 8 * time.Second

// A killed remote comes back without its sessions: connections in progress end with an error, and
// new ones use the same port.
func TestRemoteComesBack(t *testing.T) {
	t.Parallel()
	tun, web := startTunnel(t), startSite(t)
	download := startDrip(t, tun, web, "endless")
	address := tun.remote.listen[0]
	tun.remote.kill()
	tun.startRemote(t, address, tun.server)
	if status := download.wait(patience); status != curlRecvError {
		t.Errorf("curl: status %d, want %d for a truncated download", status, curlRecvError)
	}
	got := must(t, backTime, curl(t, tun.local.socks, backTime, web.URL+"/random/1000"))
	if sum(t, strings.NewReader(got)) != sum(t, randomBytes(1000)) {
		t.Error("a download after the remote came back has the wrong content")
	}
	if !tun.local.running() {
		t.Errorf("local exited with status %d", tun.local.status())
	}
}

// While the remote is away, a new connection waits for it instead of failing.
func TestConnectionWaitsForRemote(t *testing.T) {
	t.Parallel()
	tun, web := startTunnel(t), startSite(t)
	address := tun.remote.listen[0]
	tun.remote.kill()
	tun.local.stderr.waitLine(t, tun.local.process, "connection lost", patience)
	early := start(t, "curl", curl(t, tun.local.socks, patience, web.URL+"/random/1000"))
	tun.startRemote(t, address, tun.server)
	if status := early.wait(patience); status != 0 {
		t.Errorf("curl: status %d", status)
	}
}

// final waits for a local to give up, and checks its error.
func final(t *testing.T, local *node, status int, says ...string) {
	t.Helper()
	if got := local.wait(patience); got != status {
		t.Errorf("local: status %d, want %d", got, status)
	}
	text := "\n" + local.stderr.String()
	_, last, found := strings.Cut(text, "\nculvert: ")
	if lines := strings.Count(last, "\n"); !found || lines > 2 {
		t.Errorf("the output does not end with an error and a remedy of one line each:\n%s", text)
	}
	for _, want := range says {
		if !strings.Contains(last, want) {
			t.Errorf("%q is not in %q", want, last)
		}
	}
}

// Somebody else answers in place of the remote, as on another network: it is not connected to,
// whether the remote's key was pinned or remembered, and when the remote is back, so is the tunnel.
// A local that starts then has status 4.
func TestRemoteKeyChanges(t *testing.T) {
	t.Parallel()
	const warning = "not the remote that answers here"
	replace := func(t *testing.T, tun *tunnel, local *node) (other identity) {
		t.Helper()
		other = newIdentity(t)
		address := tun.remote.listen[0]
		tun.remote.kill()
		impostor := tun.startRemote(t, address, other)
		testnet.Poll(t, patience, "it was tried again", func() bool {
			return strings.Count(local.stderr.String(), warning) >= 2
		})
		if text := local.stderr.String(); !strings.Contains(text, other.key) {
			t.Errorf("the log does not have the key of who answered:\n%s", text)
		}
		if strings.Contains(impostor.stderr.String(), "session up") {
			t.Error("the local has connected to somebody else")
		}
		return other
	}
	t.Run("pinned", func(t *testing.T) {
		tun := startTunnel(t)
		address := tun.remote.listen[0]
		other := replace(t, tun, tun.local)
		args := localArgs(tun.client, tun.server, "ws://"+address+"/")
		late := start(t, "late local", culvert(t, args...))
		final(t, &node{process: late}, exitIdentity, other.key, "--remote-key")
	})
	t.Run("remembered", func(t *testing.T) {
		tun := startRemoteOnly(t)
		known := writeFile(t, "known_remotes", "")
		args := []string{"local", "--print-ready", "--accept-new", "--known-remotes", known,
			"--key", tun.client.file, "--socks", "127.0.0.1:0", tun.remote.url()}
		local := startNode(t, "local", culvert(t, args...))
		other := replace(t, tun, local)
		late := start(t, "late local", culvert(t, args...))
		final(t, &node{process: late}, exitIdentity, "the remote's key has changed",
			other.key, tun.server.key, known)
	})
	t.Run("comes back", func(t *testing.T) {
		tun := startTunnel(t)
		address := tun.remote.listen[0]
		tun.remote.kill()
		impostor := tun.startRemote(t, address, newIdentity(t))
		tun.local.stderr.waitLine(t, tun.local.process, warning, patience)
		impostor.stop()
		tun.startRemote(t, address, tun.server)
		tun.local.signal(syscall.SIGUSR1)
		web := startSite(t)
		must(t, patience, curl(t, tun.local.socks, patience, web.URL+"/random/1000"))
	})
}

// A client that was removed from the list is refused, by a remote that restarts and by one that
// reloads the list.
func TestClientIsRemoved(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"restart", "reload"} {
		t.Run(how, func(t *testing.T) {
			tun := startTunnel(t)
			if err := os.WriteFile(tun.authorized, []byte(newIdentity(t).key+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if how == "restart" {
				address := tun.remote.listen[0]
				tun.remote.kill()
				tun.startRemote(t, address, tun.server)
			} else {
				tun.remote.signal(syscall.SIGHUP)
			}
			final(t, tun.local, exitNotAdmitted, "not admitted", tun.client.key)
		})
	}
}
