//go:build linux

package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// identity is a key pair in a file.
type identity struct {
	file string
	key  string // public, as culvert prints it
}

func newIdentity(t *testing.T) identity {
	t.Helper()
	file := filepath.Join(t.TempDir(), "identity.json")
	key := must(t, patience, culvert(t, "keygen", "-o", file))
	return identity{file, strings.TrimSpace(key)}
}

// culvert returns a command that runs the program with a home directory of its own.
func culvert(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	return command(cleanEnv(t), t.TempDir(), program, args...)
}

// writeFile writes a file that is removed with the test, and returns its path.
func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// rewrite replaces a file's content.
func rewrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// node is a running remote or local.
type node struct {
	*process
	listen   []string // of a remote: the addresses it has bound
	socks    string   // of a local
	pac      string   // of a local: the URL of its PAC file
	forwards []string // of a local
	reverse  []string // of a local: the addresses that the remote has bound for it

	statusURL string // of --status
}

// url returns a remote's address.
func (n *node) url() string { return "ws://" + n.listen[0] + "/" }

// startNode runs a culvert command that prints a ready line. When the test ends, the node must stop
// on SIGTERM with status 0, unless it has already exited.
func startNode(t *testing.T, name string, cmd *exec.Cmd) *node {
	t.Helper()
	p := start(t, name, cmd)
	line := p.stdout.waitLine(t, p, "", patience)
	var ready struct {
		Event    string   `json:"event"`
		Listen   []string `json:"listen"`
		Socks    string   `json:"socks"`
		PAC      string   `json:"pac"`
		Forwards []string `json:"forwards"`
		Reverse  []string `json:"reverse"`
		Status   string   `json:"status"`
	}
	if err := json.Unmarshal([]byte(line), &ready); err != nil || ready.Event != "ready" {
		t.Fatalf("%s: not a ready line: %q", name, line)
	}
	n := &node{p, ready.Listen, ready.Socks, ready.PAC, ready.Forwards, ready.Reverse,
		ready.Status}
	t.Cleanup(n.stop)
	return n
}

// stop stops a node that is still running.
func (n *node) stop() {
	if !n.running() {
		return
	}
	n.signal(syscall.SIGTERM)
	select {
	case <-n.exited:
		if n.status() != 0 {
			n.t.Errorf("%s: status %d after SIGTERM", n.name, n.status())
		}
	case <-time.After(stopTime):
		n.t.Errorf("%s: still running %v after SIGTERM", n.name, stopTime)
	}
}

// remoteDrainTime is how long remotes wait for their streams when they stop.
const remoteDrainTime = 5 * time.Second

// remoteArgs returns the arguments of a remote on a free port of loopback.
func remoteArgs(server identity, flags ...string) []string {
	args := []string{"remote", "--print-ready", "--log-level", "debug", "--key", server.file}
	if !slices.Contains(flags, "--listen") {
		args = append(args, "--listen", "127.0.0.1:0")
	}
	if !slices.Contains(flags, "--drain-timeout") {
		args = append(args, "--drain-timeout", remoteDrainTime.String())
	}
	return append(args, flags...)
}

// localArgs returns the arguments of a local that authenticates its remote by key.
func localArgs(client, server identity, url string, flags ...string) []string {
	args := []string{"local", "--print-ready", "--log-level", "debug", "--key", client.file,
		"--remote-key", server.key}
	if !slices.Contains(flags, "--socks") {
		args = append(args, "--socks", "127.0.0.1:0")
	}
	return append(append(args, flags...), url)
}

// tunnel is a remote and a local connected to it.
type tunnel struct {
	server, client identity
	authorized     string // the remote's file of authorized keys, with the client's
	remote, local  *node
}

// startTunnel starts both on loopback; the flags are the local's.
func startTunnel(t *testing.T, localFlags ...string) *tunnel {
	t.Helper()
	tun := &tunnel{server: newIdentity(t), client: newIdentity(t)}
	tun.authorized = writeFile(t, "authorized_keys", tun.client.key+" the client of this test\n")
	tun.remote = tun.startRemote(t, "127.0.0.1:0", tun.server)
	tun.local = startNode(t, "local",
		culvert(t, localArgs(tun.client, tun.server, tun.remote.url(), localFlags...)...))
	return tun
}

// startRemote starts the tunnel's remote, or its replacement.
func (tun *tunnel) startRemote(t *testing.T, listen string, server identity) *node {
	t.Helper()
	return startNode(t, "remote",
		culvert(t, remoteArgs(server, "--listen", listen, "--authorized-keys", tun.authorized)...))
}
