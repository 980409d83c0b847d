//go:build linux

package e2e

import (
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"syscall"
	"testing"

	"culvert/internal/testnet"
)

// twoRemotes are remotes with a key each behind HAProxy, which keeps a session on its node by a
// cookie and asks each node whether it takes new ones.
type twoRemotes struct {
	ca         authority
	authorized string
	keys       [2]identity
	certs      [2]string
	addresses  [2]string
	nodes      [2]*node
	front      string
}

func startTwoRemotes(t *testing.T, client identity) *twoRemotes {
	t.Helper()
	r := &twoRemotes{ca: newAuthority(t), authorized: writeFile(t, "authorized_keys", client.key+"\n")}
	for i := range r.nodes {
		r.keys[i] = newIdentity(t)
		r.certs[i] = r.ca.issue(t, r.keys[i], "--ip", "127.0.0.1")
		r.addresses[i] = "127.0.0.1:0"
		r.start(t, i)
		r.addresses[i] = r.nodes[i].listen[0]
	}
	first := r.addresses[0] + " cookie a check inter 100"
	r.front = startHAProxy(t, "http", "option http-keep-alive", first, fmt.Sprintf(`
  server other %s cookie b check inter 100
  cookie NODE insert indirect nocache
  option persist
  option redispatch
  option httpchk GET /
  http-check expect status 426`, r.addresses[1]))
	return r
}

// start starts a node, or another in its place.
func (r *twoRemotes) start(t *testing.T, i int) {
	t.Helper()
	r.nodes[i] = startNode(t, fmt.Sprint("remote ", i), culvert(t, remoteArgs(r.keys[i],
		"--listen", r.addresses[i], "--authorized-keys", r.authorized, "--cert", r.certs[i],
		"--drain-timeout", "60s")...))
}

// A rolling restart of both nodes behind a balancer costs nothing: downloads end where they are,
// and new streams go to the other node.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	client := newIdentity(t)
	r := startTwoRemotes(t, client)
	web := startSite(t)
	local := startNode(t, "local", culvert(t, "local", "--print-ready", "--log-level", "debug",
		"--key", client.file, "--ca", r.ca.cert, "--socks", "127.0.0.1:0", "ws://"+r.front+"/"))
	tun := &tunnel{local: local}
	for range 2 {
		r.restart(t, tun, web, r.holder(t))
	}
}

// holder returns the node with the local's session. The local may know of it before the node does.
func (r *twoRemotes) holder(t *testing.T) (holder int) {
	t.Helper()
	testnet.Poll(t, patience, "a node has a session", func() bool {
		holder = slices.IndexFunc(r.nodes[:], func(n *node) bool {
			return strings.Contains(n.stderr.String(), "session up")
		})
		return holder >= 0
	})
	return holder
}

// restart stops the node while there is a download and new streams begin, and starts it again.
func (r *twoRemotes) restart(t *testing.T, tun *tunnel, web *httptest.Server, i int) {
	t.Helper()
	download := startDrip(t, tun, web, "short")
	stopping := r.nodes[i]
	stopping.signal(syscall.SIGTERM)
	for n := 0; n < 3 || download.running(); n++ {
		must(t, patience, curl(t, tun.local.socks, patience, web.URL+"/random/1000"))
	}
	if status, got := download.wait(patience), len(download.stdout.String()); status != 0 ||
		got != drips*dripSize {
		t.Errorf("curl: status %d, %d bytes of %d", status, got, drips*dripSize)
	}
	if status := stopping.wait(stopTime); status != 0 {
		t.Errorf("%s: status %d", stopping.name, status)
	}
	r.start(t, i)
	must(t, patience, curl(t, tun.local.socks, patience, web.URL+"/random/1000"))
}
