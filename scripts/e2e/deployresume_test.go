//go:build linux

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"culvert/certs"
	"culvert/internal/testnet"
	"culvert/protocol"
	api "culvert/tunnel" // the tests have a type tunnel
)

// flockTime bounds what a flock of locals does together.
const flockTime = time.Minute

// member is a local within the test's process, with a stream to a server that echoes.
type member struct {
	local  *api.Local
	leave  context.CancelFunc
	stream net.Conn
}

// echo checks that the stream carries data both ways.
func (m *member) echo(what string) error {
	m.stream.SetDeadline(time.Now().Add(flockTime))
	return testnet.CheckEcho(m.stream, what)
}

// flock is locals with one key behind a front.
type flock struct {
	config  api.LocalConfig
	target  string
	running sync.WaitGroup
	members []*member
}

func newFlock(t *testing.T, client identity, ca authority, tlsCA *webCA, url string) *flock {
	t.Helper()
	key, err := certs.ReadKeyPair(client.file)
	if err != nil {
		t.Fatal(err)
	}
	remotes, err := certs.ReadTrustedCertificate(ca.cert)
	if err != nil {
		t.Fatal(err)
	}
	address, err := api.ParseAddress(url)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(tlsCA.cert)
	c := &flock{target: testnet.EchoServer(t), config: api.LocalConfig{
		Address: address, Key: key, CA: remotes, TLS: &tls.Config{RootCAs: roots},
		VerifyRemote: func(protocol.Peer) error { return nil }, // the CA is all that counts
		Wait:         flockTime,
	}}
	t.Cleanup(c.running.Wait)
	return c
}

// join starts n locals, all at once, and waits until each has a stream.
func (c *flock) join(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), flockTime)
	defer cancel()
	joined := make([]*member, n)
	var joining sync.WaitGroup
	for i := range joined {
		running, leave := context.WithCancel(t.Context())
		m := &member{local: api.NewLocal(c.config), leave: leave}
		joined[i] = m
		c.running.Go(func() { m.local.Run(running) })
		joining.Go(func() {
			_, err := m.local.WaitSession(ctx)
			if err == nil {
				m.stream, err = m.local.DialContext(ctx, "tcp", c.target)
			}
			if err == nil {
				err = m.echo("joined")
			}
			if err != nil {
				t.Errorf("local %d: %v", i, err)
			}
		})
	}
	joining.Wait()
	if t.Failed() {
		t.FailNow()
	}
	c.members = append(c.members, joined...)
}

// echo checks that no stream was lost.
func (c *flock) echo(t *testing.T, when string) {
	t.Helper()
	var echoing sync.WaitGroup
	for i, m := range c.members {
		echoing.Go(func() {
			if err := m.echo(when); err != nil {
				t.Errorf("%s: local %d: %v", when, i, err)
			}
		})
	}
	echoing.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// shrink ends all locals but n.
func (c *flock) shrink(n int) {
	for _, m := range c.members[n:] {
		m.stream.Close()
		m.leave()
	}
	c.members = c.members[:n]
}

// logged returns how often the remotes have logged a message together.
func logged(nodes [2]*node, message string) int {
	return strings.Count(nodes[0].stderr.String(), message) +
		strings.Count(nodes[1].stderr.String(), message)
}

// replace kills a front, with all its connections, and starts it again.
func (f *front) replace(t *testing.T, s *deployment, p *process, config string) *process {
	t.Helper()
	p.killGroup()
	p.wait(patience)
	return f.start(t, s, config)
}

// reloaded makes a running front read its configuration again, and waits until another process of
// its has begun to serve, if its processes don't do so themselves.
func (f *front) reloaded(t *testing.T, p *process, config string) {
	t.Helper()
	before := children(t, p)
	if f.reload == nil {
		p.signal(syscall.SIGUSR2)
	} else {
		must(t, patience, f.command(t, f.reload(config)))
	}
	testnet.Poll(t, flockTime, f.name+" has new workers", func() bool {
		for child := range children(t, p) {
			if !before[child] {
				return true
			}
		}
		return len(before) == 0
	})
}

// children returns the processes whose parent is p's main thread.
func children(t *testing.T, p *process) map[string]bool {
	t.Helper()
	pid := p.cmd.Process.Pid
	list, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]bool)
	for _, child := range strings.Fields(string(list)) {
		all[child] = true
	}
	return all
}

// All connections are cut at once, and each session resumes on its own node. The balancer's reload
// loses no stream and no new session. While a node drains, its sessions resume there once more, and
// others begin on the other node.
func TestDeployResumes(t *testing.T) {
	t.Parallel()
	const few = 20 // locals that stay for the drain
	const more = 5 // that come later
	for _, f := range fronts {
		t.Run(f.name, func(t *testing.T) {
			client, tlsCA := newIdentity(t), newWebCA(t)
			nodes, ca, listen, status := startBehind(t, client, "--drain-timeout", "1m")
			s := newDeployment(t, tlsCA, listen, status)
			config := f.configure(t, s)
			p := f.start(t, s, config)
			c := newFlock(t, client, ca, tlsCA, "wss://localhost:"+s.port+"/tunnel")
			c.join(t, f.sessions)
			for i, n := range nodes {
				if !strings.Contains(n.stderr.String(), "session up") {
					t.Errorf("remote %d has no session", i)
				}
			}

			p = f.replace(t, s, p, config)
			c.echo(t, "cut")
			if got := logged(nodes, "session resumed"); got < f.sessions {
				t.Errorf("%d sessions resumed, want %d", got, f.sessions)
			}
			if got := logged(nodes, "session up"); got != f.sessions {
				t.Errorf("after the cut, there were %d sessions, want %d", got, f.sessions)
			}

			f.reloaded(t, p, config)
			c.join(t, more)
			c.echo(t, "reloaded")
			c.shrink(few)

			nodes[0].signal(syscall.SIGTERM)
			nodes[0].stderr.waitLine(t, nodes[0].process, "stopping", patience)
			if f.retries {
				c.join(t, more)
			}
			f.replace(t, s, p, config)
			c.echo(t, "cut during the drain")
			c.shrink(0)
			if status := nodes[0].wait(flockTime); status != 0 {
				t.Errorf("the node that drains: status %d", status)
			}
		})
	}
}
