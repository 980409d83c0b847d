//go:build linux

package e2e

import (
	"net"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"culvert/internal/testnet"
)

// atOnce bounds what should happen immediately, on a busy machine.
const atOnce = 3 * time.Second

// checkGone checks that no process and no listener of a node is left.
func checkGone(t *testing.T, n *node) {
	t.Helper()
	testnet.Poll(t, patience, n.name+"'s processes have ended", n.groupGone)
	addresses := append(append([]string{}, n.listen...), n.forwards...)
	if n.socks != "" {
		addresses = append(addresses, n.socks)
	}
	for _, address := range addresses {
		ln, err := net.Listen("tcp", address)
		if err != nil {
			t.Errorf("%s is not free after %s stopped: %v", address, n.name, err)
			continue
		}
		ln.Close()
	}
}

// Idle nodes stop at once.
func TestSignalStopsIdle(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]syscall.Signal{"SIGTERM": syscall.SIGTERM,
		"SIGINT": syscall.SIGINT} {
		t.Run(name, func(t *testing.T) {
			web := startSite(t)
			tun := startTunnel(t, "-L", "127.0.0.1:0:"+web.Listener.Addr().String())
			must(t, patience, curl(t, tun.local.socks, patience, web.URL+"/random/1000"))
			for _, n := range []*node{tun.local, tun.remote} {
				n.signal(s)
				if status := n.wait(atOnce); status != 0 {
					t.Errorf("%s: status %d", n.name, status)
				}
				checkGone(t, n)
				if out := n.stdout.String(); strings.Count(out, "\n") != 1 {
					t.Errorf("%s printed more than its ready line: %q", n.name, out)
				}
			}
		})
	}
}

// A remote that stops ends its clients' sessions, and the clients keep trying to reconnect.
func TestSignalStopsRemoteFirst(t *testing.T) {
	t.Parallel()
	tun := startTunnel(t)
	tun.remote.signal(syscall.SIGTERM)
	if status := tun.remote.wait(atOnce); status != 0 {
		t.Errorf("remote: status %d", status)
	}
	checkGone(t, tun.remote)
	tun.local.stderr.waitLine(t, tun.local.process, "remote can't be reached", patience)
	tun.local.signal(syscall.SIGTERM)
	if status := tun.local.wait(atOnce); status != 0 {
		t.Errorf("local, while it reconnects: status %d", status)
	}
	checkGone(t, tun.local)
}

// bothNodes runs a test with each node as the one that gets the signal.
func bothNodes(t *testing.T,
	test func(t *testing.T, tun *tunnel, web *httptest.Server, stopping *node)) {
	t.Parallel()
	for _, name := range []string{"local", "remote"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tun, web := startTunnel(t), startSite(t)
			test(t, tun, web, map[string]*node{"local": tun.local, "remote": tun.remote}[name])
		})
	}
}

// A node that stops lets a short download finish.
func TestSignalLetsDownloadFinish(t *testing.T) {
	bothNodes(t, func(t *testing.T, tun *tunnel, web *httptest.Server, stopping *node) {
		download := startDrip(t, tun, web, "short")
		stopping.signal(syscall.SIGTERM)
		stopping.stderr.waitLine(t, stopping.process, "stopping", patience)
		if status, got := download.wait(patience), len(download.stdout.String()); status != 0 ||
			got != drips*dripSize {
			t.Errorf("curl: status %d, %d bytes of %d", status, got, drips*dripSize)
		}
		if status := stopping.wait(atOnce); status != 0 {
			t.Errorf("%s: status %d", stopping.name, status)
		}
		checkGone(t, stopping)
	})
}

// A node that stops serves no new streams, and resets a download that hasn't ended after
// drainTime, so that it doesn't look complete.
func TestSignalCutsEndlessDownload(t *testing.T) {
	const drainTime = remoteDrainTime // that of a local is the same
	bothNodes(t, func(t *testing.T, tun *tunnel, web *httptest.Server, stopping *node) {
		download := startDrip(t, tun, web, "endless")
		began := time.Now()
		stopping.signal(syscall.SIGTERM)
		stopping.stderr.waitLine(t, stopping.process, "stopping", patience)
		testnet.Poll(t, drainTime, "a new stream is not served", func() bool {
			download := curl(t, tun.local.socks, time.Second, web.URL+"/random/1000")
			return run(t, patience, download).status != 0
		})
		if !download.running() || !stopping.running() {
			t.Errorf("the download runs: %v, %s runs: %v", download.running(), stopping.name,
				stopping.running())
		}
		status := stopping.wait(stopTime)
		if took := time.Since(began); status != 0 || took < drainTime {
			t.Errorf("%s: status %d after %v", stopping.name, status, took)
		}
		checkGone(t, stopping)
		if status := download.wait(patience); status != curlRecvError {
			t.Errorf("curl: status %d, want %d", status, curlRecvError)
		}
	})
}

// A second signal ends the node immediately.
func TestSecondSignal(t *testing.T) {
	bothNodes(t, func(t *testing.T, tun *tunnel, web *httptest.Server, stopping *node) {
		download := startDrip(t, tun, web, "endless")
		stopping.signal(syscall.SIGTERM)
		stopping.stderr.waitLine(t, stopping.process, "stopping", patience)
		stopping.signal(syscall.SIGTERM)
		if status := stopping.wait(atOnce); status != exitFailed {
			t.Errorf("%s: status %d, want %d", stopping.name, status, exitFailed)
		}
		checkGone(t, stopping)
		wasCut(t, download)
	})
}
