//go:build linux

package e2e

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"culvert/internal/testnet"
)

const (
	// killRounds is how often TestKilled kills each node.
	killRounds = 4

	// killWithin is how long a node runs at most before that. The file of quotas is saved five
	// seconds after a change, so some rounds are longer.
	killWithin = 6 * time.Second

	// writingRounds is how often TestKilledWhileWriting kills each command.
	writingRounds = 12
)

// killTunnel is a tunnel that remembers as much as it can, with addresses that stay the same.
type killTunnel struct {
	*tunnel
	known, state    string
	listen, forward string
	target          string

	mu   sync.Mutex
	ends chan error // how connections to the target end that begin now
}

// newKillTunnel returns a tunnel of which a node is going to be killed. Content goes to the other
// one, and from there to an end that only reads: the system reports a reset just once, to a read or
// a write.
func newKillTunnel(t *testing.T, who string) *killTunnel {
	k := &killTunnel{
		tunnel:  &tunnel{server: newIdentity(t), client: newIdentity(t)},
		known:   filepath.Join(t.TempDir(), "known_remotes"),
		state:   t.TempDir(),
		listen:  "127.0.0.1:" + testnet.FreePort(t),
		forward: "127.0.0.1:" + testnet.FreePort(t),
	}
	k.authorized = writeFile(t, "authorized_keys", k.client.key+" quota=100G\n")
	k.target = testnet.ServeTCP(t, func(conn *net.TCPConn) {
		k.mu.Lock()
		ends := k.ends
		k.mu.Unlock()
		defer conn.Close()
		if who == "remote" {
			io.Copy(conn, zeros{})
			return
		}
		_, err := io.Copy(io.Discard, conn)
		ends <- err
	})
	return k
}

func (k *killTunnel) startRemote(t *testing.T) {
	t.Helper()
	k.remote = startNode(t, "remote", culvert(t, remoteArgs(k.server, "--listen", k.listen,
		"--authorized-keys", k.authorized, "--state-dir", k.state, "--resume-window", "2s",
		"--client-rate", "4M/4M")...))
}

func (k *killTunnel) startLocal(t *testing.T) {
	t.Helper()
	k.local = startNode(t, "local", culvert(t, "local", "--print-ready", "--log-level", "debug",
		"--key", k.client.file, "--known-remotes", k.known, "--accept-new", "--socks", "none",
		"-L", k.forward+":"+k.target, "ws://"+k.listen+"/"))
}

// Either node is killed while streams run. None of them ends as if it were
// complete, the files of both are whole, and a node that is started again serves the same ports.
func TestKilled(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"local", "remote"} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			k := newKillTunnel(t, who)
			k.startRemote(t)
			k.startLocal(t)
			for range killRounds {
				k.killOnce(t, who)
			}
		})
	}
}

// killOnce kills a node after a random time, and starts it again.
func (k *killTunnel) killOnce(t *testing.T, who string) {
	t.Helper()
	const streams = 3
	ended := make(chan error, streams)
	ends := make(chan error, streams)
	k.mu.Lock()
	k.ends = ends
	k.mu.Unlock()
	for range streams {
		conn := testnet.Dial(t, k.forward, 2*patience)
		go func() {
			var err error
			if who == "remote" {
				_, err = io.Copy(io.Discard, conn)
			} else {
				_, err = io.Copy(conn, zeros{})
			}
			ended <- err
		}()
	}
	timer := time.NewTimer(rand.N(killWithin))
	defer timer.Stop()
	select {
	case err := <-ended:
		t.Fatalf("a stream ended before the kill: %v", err)
	case <-timer.C:
	}
	map[string]*node{"local": k.local, "remote": k.remote}[who].kill()
	others := ended // the system ends the connections of the process itself
	if who == "local" {
		others = ends
	}
	for range streams {
		isCut(t, others)
	}
	k.checkFiles(t)
	if who == "local" {
		k.startLocal(t)
	} else {
		k.startRemote(t)
	}
}

// A command that writes new files is killed at any time before it ends. Whatever it has left is
// whole, and has its final name.
func TestKilledWhileWriting(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	authority := filepath.Join(folder, "ca.json")
	began := time.Now()
	must(t, patience, culvert(t, "cert", "ca", "--name", "a", "--out", authority, "--cert-out",
		authority+".cert"))
	took := time.Since(began)
	key := newIdentity(t).key
	for name, args := range map[string][]string{
		"keygen": {"keygen", "-o", "DIR/new"},
		"a CA":   {"cert", "ca", "--name", "b", "--out", "DIR/new", "--cert-out", "DIR/new.cert"},
		"a certificate": {"cert", "issue", "--ca-key", authority, "--public-key=" + key,
			"--name", "c", "--out", "DIR/new.cert"},
		"a first start": {"remote", "--listen", "127.0.0.1:0", "--allow-anyone"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for range writingRounds {
				dir := t.TempDir()
				cmd := culvert(t)
				for _, arg := range args {
					cmd.Args = append(cmd.Args, strings.Replace(arg, "DIR", dir, 1))
				}
				cmd.Env = append(cmd.Env, "XDG_CONFIG_HOME="+dir)
				p := start(t, name, cmd)
				timer := time.NewTimer(rand.N(2 * took))
				select {
				case <-timer.C:
				case <-p.exited:
				}
				timer.Stop()
				p.killGroup()
				<-p.exited
				checkWhole(t, dir)
			}
		})
	}
}

// checkWhole checks that the files in a folder are whole objects of JSON under their final names.
func checkWhole(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if entry.Name()[0] == '.' || !json.Valid(content) {
			t.Errorf("%s: %q", path, content)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// zeros is an endless content.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// isCut checks that the next connection that ends was reset.
func isCut(t *testing.T, ended <-chan error) {
	t.Helper()
	select {
	case err := <-ended:
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a connection of the other node ended with %v, want a reset", err)
		}
	case <-time.After(2 * patience):
		t.Error("a connection of the other node has not ended")
	}
}

// checkFiles checks the files that the nodes have written.
func (k *killTunnel) checkFiles(t *testing.T) {
	t.Helper()
	known, err := os.ReadFile(k.known)
	if err != nil || strings.Count(string(known), "\n") != 1 ||
		!strings.Contains(string(known), k.server.key) {
		t.Errorf("known remotes: %q, %v", known, err)
	}
	for name, content := range files(t, k.state) {
		whole := strings.HasPrefix(content, "{") && strings.HasSuffix(content, "}")
		if strings.HasSuffix(name, ".json") && !whole {
			t.Errorf("%s: %q", name, content)
		}
	}
}
