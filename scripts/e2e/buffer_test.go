//go:build linux

package e2e

import (
	"net"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"

	"culvert/internal/testnet"
	"culvert/internal/testnet/link"
)

// TestSendBuffer: on a path that holds more than a send buffer as the system makes it, a carrier
// gets a larger one at the end that sends, which the system grants to programs.
func TestSendBuffer(t *testing.T) {
	t.Parallel()
	const largest = 128 << 10 // a tenth of what the path holds
	f := startFarRemote(t, link.Config{Delay: 50 * time.Millisecond, Rate: 100e6})
	for _, h := range []*host{f.near, f.far} {
		h.set(t, map[string]string{"net.ipv4.tcp_wmem": "4096 16384 " + strconv.Itoa(largest)})
	}
	server := testnet.StartTransferServer(t, f.far.listen(t, "127.0.0.1:0")).Address
	local := startNode(t, "local", f.near.command(t, culvert(t, localArgs(f.client, f.server,
		f.remote.url(), "-L", "127.0.0.1:0:"+server)...)))
	for _, way := range []struct {
		up     bool
		sender *host
	}{{false, f.far}, {true, f.near}} {
		if size := way.sender.sendBuffer(t, f.port(t)); size > largest {
			t.Errorf("up %v: a buffer of %d bytes before there is something to send", way.up, size)
		}
		x := testnet.Transfer{Up: way.up, Seed: 1, Size: 4 << 20}
		dial := func() (net.Conn, error) { return f.near.dial(local.forwards[0]) }
		if err := x.Run(dial, patience); err != nil {
			t.Fatal(err)
		}
		if size := way.sender.sendBuffer(t, f.port(t)); size <= largest {
			t.Errorf("up %v: a buffer of %d bytes after a transfer", way.up, size)
		}
	}
}

// sendBufferSize finds the size of a send buffer in what ss prints of a socket's memory (ss(8)).
var sendBufferSize = regexp.MustCompile(`\btb(\d+)`)

// sendBuffer returns the size of the send buffer of the host's connection with a remote's port, in
// bytes.
func (h *host) sendBuffer(t *testing.T, port string) (size int) {
	t.Helper()
	list := exec.Command(needProgram(t, "ss"), "-tmnH", "state", "established",
		"sport = "+port+" or dport = "+port)
	out := must(t, patience, h.command(t, list))
	found := sendBufferSize.FindAllStringSubmatch(out, -1)
	if len(found) != 1 {
		t.Fatalf("%d connections: %s", len(found), out)
	}
	size, err := strconv.Atoi(found[0][1])
	if err != nil {
		t.Fatal(err)
	}
	return size
}
