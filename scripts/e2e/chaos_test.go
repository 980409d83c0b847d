//go:build linux

package e2e

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"culvert/internal/testnet"
	"culvert/internal/testnet/link"
)

// Parameters of the run over bad links. Each link has its own tunnel, with its share of the
// transfers and of the cuts.
const (
	chaosLinks     = 5
	chaosTransfers = 20 // in each direction
	chaosSize      = 16 << 20
	chaosCuts      = 100
	chaosTime      = 5 * time.Minute // for the whole run; a minute suffices on idle cores

	// chaosRate, in bit/s, makes the transfers last longer than the cuts.
	chaosRate = 50e6
)

// useBBR makes the connections of a host use BBR, which doesn't slow down at each lost packet. With
// CUBIC, which takes every loss for congestion, one connection over the links of this test reaches
// some 0.2 MB/s.
func useBBR(t *testing.T, h *link.Host) {
	t.Helper()
	if err := setCongestion(h.Namespace, "bbr"); err != nil {
		t.Fatalf("the congestion control BBR is missing: modprobe tcp_bbr loads it: %v", err)
	}
}

// setCongestion sets the congestion control that the system of a namespace has.
func setCongestion(namespace, name string) error {
	_, err := inNamespace(namespace, func() (struct{}, error) {
		const setting = "/proc/sys/net/ipv4/tcp_congestion_control"
		return struct{}{}, os.WriteFile(setting, []byte(name), 0)
	})
	return err
}

// badLink is a tunnel over a bad link, whose carrier can be cut, and a server at its far end.
type badLink struct {
	*link.Link
	tunnel
	between *testnet.Relay // on the local's host
	server  *testnet.TransferServer
}

// startBadLink starts a badLink with a round trip of 80 ms and 1% packet loss each way.
func startBadLink(t *testing.T, seed uint64) *badLink {
	t.Helper()
	l, err := link.New(link.Config{
		Delay: 40 * time.Millisecond, Rate: chaosRate, Loss: 0.01, Seed: seed,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	useBBR(t, l.A)
	useBBR(t, l.B)
	near, far := hostOf(l.A), hostOf(l.B)
	b := &badLink{Link: l, tunnel: tunnel{server: newIdentity(t), client: newIdentity(t)}}
	b.server = testnet.StartTransferServer(t, far.listen(t, "127.0.0.1:0"))
	b.authorized = writeFile(t, "authorized_keys", b.client.key+"\n")
	b.remote = startNode(t, "remote", far.command(t, culvert(t, remoteArgs(b.tunnel.server,
		"--listen", far.addr.String()+":0", "--authorized-keys", b.authorized)...)))
	b.between = testnet.StartRelay(t, near.listen(t, "127.0.0.1:0"), func() (net.Conn, error) {
		return near.dial(b.remote.listen[0])
	}, testnet.RelayConfig{})
	b.local = startNode(t, "local", near.command(t, culvert(t, localArgs(b.client, b.tunnel.server,
		"ws://"+b.between.Address()+"/", "-L", "127.0.0.1:0:"+b.server.Address)...)))
	return b
}

// hostOf returns an end of an emulated link as a host.
func hostOf(h *link.Host) *host { return &host{name: h.Namespace, addr: h.Addr} }

// cutUntil cuts the carrier the given number of times, 0.05 to 2 seconds apart. Attempts without a
// carrier to cut don't count. All cuts must come before done is closed.
func (b *badLink) cutUntil(times int, done <-chan struct{}) error {
	for n := 0; n < times; {
		pause := time.Duration(0.05 * math.Pow(40, rand.Float64()) * float64(time.Second))
		select {
		case <-time.After(pause):
			if b.between.Cut() > 0 {
				n++
			}
		case <-done:
			return fmt.Errorf("the transfers ended after %d of %d cuts", n, times)
		}
	}
	return nil
}

// chaos runs one link's share: transfers through the tunnel while its carrier is cut.
func (b *badLink) chaos(t *testing.T) {
	dial := func() (net.Conn, error) { return hostOf(b.A).dial(b.local.forwards[0]) }
	began := time.Now()
	var transfers sync.WaitGroup
	for i := range uint64(chaosTransfers / chaosLinks) {
		for _, up := range []bool{false, true} {
			transfers.Go(func() {
				x := testnet.Transfer{Up: up, Seed: i, Size: chaosSize}
				if err := x.Run(dial, chaosTime); err != nil {
					t.Error(err)
				}
			})
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		transfers.Wait()
	}()
	if err := b.cutUntil(chaosCuts/chaosLinks, done); err != nil {
		t.Error(err)
	}
	cutFor := time.Since(began)
	<-done
	b.server.CheckServedOnce(t, 2*chaosTransfers/chaosLinks)
	log := b.local.stderr.String()
	if strings.Contains(log, "session lost") {
		t.Error("a session was lost")
	}
	up, down := b.Stats()
	t.Logf("%d carriers, %d resumed, cuts for %v, %v in total; up %+v, down %+v",
		b.between.Accepted(), strings.Count(log, "session resumed"), cutFor, time.Since(began), up, down)
}

// Repeated cuts of a carrier over a bad link break no stream, and no stream is opened twice. The
// test is not parallel: it uses all cores, and other tests are sensitive to timing.
func TestChaosOverBadLink(t *testing.T) {
	needRoot(t, "it makes network namespaces")
	needProgram(t, "ip")
	var links sync.WaitGroup
	for seed := range uint64(chaosLinks) {
		b := startBadLink(t, seed+1)
		links.Go(func() { b.chaos(t) })
	}
	links.Wait()
}
