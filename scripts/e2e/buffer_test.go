//go:build linux

package e2e

import (
	"net"
	"testing"
	"time"

	"culvert/internal/testnet"
	"culvert/internal/testnet/link"
)

// TestSendBuffer: on a path that holds more than a send buffer as the system makes it, a tunnel is
// faster than a connection without one: the system grants programs a larger one.
func TestSendBuffer(t *testing.T) {
	t.Parallel()
	f := startFarRemote(t, link.Config{Delay: 50 * time.Millisecond, Rate: 100e6})
	for _, h := range []*host{f.near, f.far} {
		h.set(t, map[string]string{
			"net.ipv4.tcp_wmem": "4096 16384 131072", "net.ipv4.tcp_congestion_control": "bbr",
		})
	}
	server := testnet.StartTransferServer(t, f.far.listen(t, f.far.addr.String()+":0")).Address
	local := startNode(t, "local", f.near.command(t, culvert(t, localArgs(f.client, f.server,
		f.remote.url(), "-L", "127.0.0.1:0:"+server)...)))
	transfer := func(address string, up bool) time.Duration {
		x := testnet.Transfer{Up: up, Seed: 1, Size: 4 << 20}
		began := time.Now()
		if err := x.Run(func() (net.Conn, error) { return f.near.dial(address) }, patience); err != nil {
			t.Fatal(err)
		}
		return time.Since(began)
	}
	for _, up := range []bool{false, true} {
		plain, tunneled := transfer(server, up), transfer(local.forwards[0], up)
		t.Logf("up %v: %v without a tunnel, %v with one", up, plain, tunneled)
		if tunneled > plain*3/4 {
			t.Errorf("up %v: %v without a tunnel, %v with one", up, plain, tunneled)
		}
	}
}
