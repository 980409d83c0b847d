//go:build linux

package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"culvert/internal/testnet"
	"culvert/internal/testnet/link"

	"golang.org/x/net/dns/dnsmessage"
)

// budget is what an attempt to connect has by default for all of its steps.
const budget = 30 * time.Second

// farRemote is a remote at the other end of a link.
type farRemote struct {
	near, far      *host
	server, client identity
	authorized     string // the file of authorized keys, with the client's
	remote         *node
}

// startFarRemote starts it.
func startFarRemote(t *testing.T, cfg link.Config) *farRemote {
	t.Helper()
	needRoot(t, "it makes network namespaces")
	l, err := link.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	f := &farRemote{
		near: &host{name: l.A.Namespace, addr: l.A.Addr}, far: &host{name: l.B.Namespace, addr: l.B.Addr},
		server: newIdentity(t), client: newIdentity(t),
	}
	f.authorized = writeFile(t, "authorized_keys", f.client.key+"\n")
	f.remote = f.start(t)
	return f
}

// start starts another remote on the far host.
func (f *farRemote) start(t *testing.T) *node {
	t.Helper()
	return startNode(t, "remote", f.far.command(t, culvert(t, remoteArgs(f.server,
		"--listen", f.far.addr.String()+":0", "--authorized-keys", f.authorized)...)))
}

// port is the remote's.
func (f *farRemote) port(t *testing.T) string {
	t.Helper()
	_, port, err := net.SplitHostPort(f.remote.listen[0])
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// check runs culvert check on the near host.
func (f *farRemote) check(t *testing.T, url string) result {
	t.Helper()
	args := []string{"check", "--key", f.client.file, "--remote-key", f.server.key, url}
	return run(t, 3*budget, f.near.command(t, culvert(t, args...)))
}

// badRemotes is the number of remotes at the end of a bad link, each with badAttempts clients: a
// remote bounds the handshakes of an address.
const badRemotes, badAttempts = 3, 20

// Over a satellite, and over a link that loses a third of all packets, an attempt to connect gets
// through within its 30 s: every time over the one, 19 times of 20 over the other, where 60
// attempts may bring two less by chance. With a limit of 10 s for each step, 3 to 4 and 9 to 10
// attempts failed.
func TestBadLinks(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		cfg   link.Config
		least int
	}{
		"satellite": {link.Config{Delay: 750 * time.Millisecond, Rate: 10e6, Loss: 0.02, Seed: 7},
			badRemotes * badAttempts},
		"lossy": {link.Config{Delay: 20 * time.Millisecond, Rate: 10e6, Loss: 0.3, Seed: 7},
			badRemotes*badAttempts*19/20 - 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startFarRemote(t, test.cfg)
			remotes := []*node{f.remote}
			for len(remotes) < badRemotes {
				remotes = append(remotes, f.start(t))
			}
			var trying sync.WaitGroup
			var connected atomic.Int64
			for i := range badRemotes * badAttempts {
				trying.Go(func() {
					r := f.check(t, remotes[i%badRemotes].url())
					if strings.Contains(r.stdout, "the tunnel works") {
						connected.Add(1)
					} else {
						t.Logf("%s%s", r.stdout, r.stderr)
					}
				})
			}
			trying.Wait()
			n := connected.Load()
			t.Logf("%d of %d attempts connected", n, badRemotes*badAttempts)
			if n < int64(test.least) {
				t.Errorf("%d attempts connected, want %d", n, test.least)
			}
		})
	}
}

// etc puts a file into the near host's /etc.
func (h *host) etc(t *testing.T, name, text string) {
	t.Helper()
	folder := filepath.Join("/etc/netns", h.name)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// A name has dead addresses before the one that works, or two name servers are dead before the one
// that answers: the remote is reached all the same. curl is with the name servers; of the addresses
// it gives the first half of its time.
func TestDeadBeforeLiving(t *testing.T) {
	t.Parallel()
	f := startFarRemote(t, link.Config{Delay: 20 * time.Millisecond, Rate: 100e6})
	f.near.ip(t, "route add 10.9.0.0/16 dev link0") // where nobody is, and nothing comes back
	f.near.etc(t, "nsswitch.conf", "hosts: files dns\n")
	url := "ws://remote.culvert.test:" + f.port(t) + "/"
	reach := func(t *testing.T, most time.Duration, curled bool) {
		t.Helper()
		began := time.Now()
		checked(t, f.check(t, url), "the tunnel works", "dns", "tcp", "upgrade", "handshake",
			"identity", "session", "round trip")
		if took := time.Since(began); took > most {
			t.Errorf("after %v", took)
		}
		if !curled {
			return
		}
		peer := run(t, 2*budget, f.near.command(t, command(
			cleanEnv(t), t.TempDir(), needProgram(t, "curl"),
			"-s", "--max-time", "60", "-o", "/dev/null", "-w", "%{http_code}", "http"+url[2:])))
		if peer.stdout != "426" {
			t.Errorf("curl: %q, status %d", peer.stdout, peer.status)
		}
	}
	for _, n := range []int{1, 5, 8} {
		var hosts strings.Builder
		for i := range n {
			fmt.Fprintf(&hosts, "10.9.1.%d remote.culvert.test\n", i+1)
		}
		f.near.etc(t, "hosts", hosts.String()+f.far.addr.String()+" remote.culvert.test\n")
		reach(t, 10*time.Second, false)
	}
	f.near.etc(t, "hosts", "127.0.0.1 localhost\n")
	f.near.etc(t, "resolv.conf", "nameserver 10.9.2.1\nnameserver 10.9.2.2\nnameserver 127.0.0.53\n")
	f.near.serveName(t, "remote.culvert.test.", f.far.addr.As4())
	reach(t, 20*time.Second, true)
}

// serveName answers DNS questions on the host: for the address of a name, and with none for others.
func (h *host) serveName(t *testing.T, name string, address [4]byte) {
	t.Helper()
	h.serveDNS(t, func(answer *dnsmessage.Message) {
		for _, q := range answer.Questions {
			if strings.EqualFold(q.Name.String(), name) && q.Type == dnsmessage.TypeA {
				answer.Answers = append(answer.Answers, dnsmessage.Resource{
					Header: dnsmessage.ResourceHeader{
						Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1,
					},
					Body: &dnsmessage.AResource{A: address},
				})
			}
		}
	})
}

// coldTime is how long a front takes to start: more than the ten seconds that are often a limit.
const coldTime = 11 * time.Second

// The server in front of the remote, or the proxy on the way to it, takes eleven seconds to start.
func TestSlowFront(t *testing.T) {
	t.Parallel()
	tun := startRemoteOnly(t)
	slow := testnet.ServeTCP(t, func(conn *net.TCPConn) {
		waiting := time.NewTimer(coldTime)
		defer waiting.Stop()
		select {
		case <-waiting.C:
		case <-t.Context().Done():
			return
		}
		first := make([]byte, 4096)
		n, err := conn.Read(first)
		if err != nil {
			return
		}
		if strings.HasPrefix(string(first[:n]), "CONNECT ") {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
			n = 0
		}
		testnet.Pass(conn, tun.remote.listen[0], first[:n])
	})
	for name, args := range map[string][]string{
		"front": {"ws://" + slow + "/"},
		"proxy": {"--via", "http://" + slow, tun.remote.url()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := run(t, patience, culvert(t, append([]string{
				"check", "--key", tun.client.file, "--remote-key", tun.server.key}, args...)...))
			if !strings.Contains(r.stdout, "the tunnel works") {
				t.Errorf("status %d: %s%s", r.status, r.stdout, r.stderr)
			}
		})
	}
}

// flapTime is how long attempts to reconnect are counted.
const flapTime = 12 * time.Second

// Each connection is cut once the session is resumed on it: the attempts become ever fewer, rather
// than to go on at eight a second.
func TestFlappingLink(t *testing.T) {
	t.Parallel()
	tun := startRemoteOnly(t)
	resumed := func() (n int, changed <-chan struct{}) {
		text, changed := tun.remote.stderr.get()
		return strings.Count(text, "session resumed"), changed
	}
	var accepted atomic.Int64
	first := make(chan *net.TCPConn, 1) // lasts until the local is up, however long that takes
	relay := testnet.ServeTCP(t, func(conn *net.TCPConn) {
		if accepted.Add(1) == 1 {
			first <- conn
			testnet.Pass(conn, tun.remote.listen[0], nil)
			return
		}
		before, _ := resumed()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			testnet.Pass(conn, tun.remote.listen[0], nil)
		}()
		for n, changed := resumed(); n == before; n, changed = resumed() {
			select {
			case <-changed:
			case <-ended:
				return
			}
		}
		conn.Close()
		<-ended
	})
	args := localArgs(tun.client, tun.server, "ws://"+relay+"/")
	tun.local = startNode(t, "local", culvert(t, args...))
	(<-first).Close()
	counting := time.NewTimer(flapTime)
	defer counting.Stop()
	<-counting.C // measures how often it tries
	n, _ := resumed()
	t.Logf("%d attempts in %v, %d resumptions", accepted.Load(), flapTime, n)
	if all := accepted.Load(); n < 2 || all > 12 {
		t.Errorf("%d attempts in %v, %d resumptions", all, flapTime, n)
	}
}

// noticeInterval is the time between two changes of the network.
const noticeInterval = 150 * time.Millisecond

// While the remote can't be reached, the network of this machine changes 45 times, elsewhere than
// on the way to the remote: few attempts come of it.
func TestNetworkNotices(t *testing.T) {
	t.Parallel()
	f := startFarRemote(t, link.Config{Delay: 20 * time.Millisecond, Rate: 100e6})
	var accepted atomic.Int64
	var down atomic.Bool
	ln := f.far.listen(t, f.far.addr.String()+":0")
	testnet.Serve(t, ln, func(conn net.Conn) {
		accepted.Add(1)
		if !down.Load() {
			stop := time.AfterFunc(2*time.Second, func() { conn.Close() })
			defer stop.Stop()
			far, err := inNamespace(f.far.name, func() (net.Conn, error) {
				return net.Dial("tcp", f.remote.listen[0])
			})
			if err != nil {
				return
			}
			defer far.Close()
			go io.Copy(far, conn)
			io.Copy(conn, far)
		}
	})
	local := startNode(t, "local", f.near.command(t, culvert(t,
		localArgs(f.client, f.server, "ws://"+ln.Addr().String()+"/")...)))
	down.Store(true)
	local.stderr.waitLine(t, local.process, "remote can't be reached", patience)
	before, began := accepted.Load(), time.Now()
	changing := time.NewTicker(noticeInterval)
	defer changing.Stop()
	for n := 1; n <= 45; <-changing.C {
		f.near.ip(t, fmt.Sprintf("addr add 10.88.0.%d/32 dev lo", n))
		n++
	}
	took := time.Since(began)
	n := accepted.Load() - before
	t.Logf("%d attempts during %v", n, took)
	if most := int64(took/time.Second) + 4; n > most {
		t.Errorf("%d attempts during %v, want %d at most", n, took, most)
	}
}
