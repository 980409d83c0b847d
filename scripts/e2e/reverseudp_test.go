//go:build linux

package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/internal/testnet"
)

// startBackTunnel starts a remote on this machine with rule as its --reverse, and a local on a host
// whose loopback is reachable only through the tunnel. The flags are the local's.
func startBackTunnel(t *testing.T, h *host, rule string, flags ...string) *tunnel {
	t.Helper()
	tun := &tunnel{server: newIdentity(t), client: newIdentity(t)}
	tun.authorized = writeFile(t, "authorized_keys", tun.client.key+"\n")
	tun.remote = tun.startReverseRemote(t, h.nearAddr.String()+":0", rule)
	args := localArgs(tun.client, tun.server, tun.remote.url(), flags...)
	tun.local = startNode(t, "local", h.command(t, culvert(t, args...)))
	return tun
}

// udpPort returns the address of a UDP -R as this machine reaches it.
func (n *node) udpPort(t *testing.T, i int) string {
	t.Helper()
	address, ok := strings.CutSuffix(n.reverse[i], "/udp")
	if !ok {
		t.Fatalf("%s is not the address of a UDP port", n.reverse[i])
	}
	return address
}

// dig queries the remote's port, and a DNS server on the local's loopback answers, with small and
// large responses.
func TestDigThroughReverse(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	startDNS(t, h)
	tun := startBackTunnel(t, h, "localhost", "-R", "0:127.0.0.1:53/udp", "-R",
		"[::1]:0:127.0.0.1:53/udp")
	for _, port := range tun.local.reverse {
		if got := dig(t, port, "+short", "known.culvert.test"); got != "192.0.2.53\n" {
			t.Errorf("%s: dig printed %q", port, got)
		}
	}
	got := dig(t, tun.local.reverse[0], "+short", "+notcp", "+ignore", "+bufsize=4096",
		"many.culvert.test", "TXT")
	if n := strings.Count(got, "\n"); n != 15 || len(got) != 15*203 {
		t.Errorf("dig printed %d texts of %d bytes", n, len(got))
	}
}

// Datagrams of all sizes pass through a remote's port, and no client gets another's answers.
func TestReverseDatagrams(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	echo := startUDPEcho(t, h, "127.0.0.1:0")
	tun := startBackTunnel(t, h, "localhost", "-R", "0:"+echo.String()+"/udp")
	var clients []net.Conn
	for range 3 {
		clients = append(clients, dialDatagrams(t, tun.local.udpPort(t, 0)))
	}
	for _, size := range append(slices.Clone(sizes), 65507) {
		var sent [][]byte
		for _, client := range clients {
			p := make([]byte, size)
			rand.Read(p)
			sent = append(sent, p)
			client.Write(p)
		}
		for i, client := range clients {
			if got := readAgain(t, client, sent[i]); !bytes.Equal(got, sent[i]) {
				t.Errorf("client %d: %d bytes came back as %d others", i, size, len(got))
			}
		}
	}
}

// iperf3 measures UDP to the local's host through the remote's port. Its control connection uses
// the TCP port of the same number.
func TestIperfUDPThroughReverse(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	program := needProgram(t, "iperf3")
	server := start(t, "iperf3 server",
		h.command(t, command(cleanEnv(t), t.TempDir(), program, "--server", "--forceflush",
			"--bind", "127.0.0.1", "--port", "5201")))
	server.stdout.waitLine(t, server, "Server listening", patience)
	port := testnet.FreePort(t)
	startBackTunnel(t, h, "localhost:"+port, "-R", port+":127.0.0.1:5201", "-R",
		port+":127.0.0.1:5201/udp")
	for _, way := range [][]string{nil, {"--reverse"}} {
		out := must(t, time.Minute, command(cleanEnv(t), t.TempDir(), program,
			append([]string{"--client", "127.0.0.1", "--port", port,
				"--udp", "--bitrate", "10M", "--length", "1200", "--bytes", "2M", "--json"}, way...)...))
		var report struct {
			End struct {
				Sum struct {
					Packets int
					Lost    int `json:"lost_packets"`
				}
			} `json:"end"`
		}
		if err := json.Unmarshal([]byte(out), &report); err != nil {
			t.Fatal(err)
		}
		if sum := report.End.Sum; sum.Packets < 1000 || sum.Lost > sum.Packets/2 {
			t.Errorf("%v: %d of %d datagrams were lost", way, sum.Lost, sum.Packets)
		}
	}
}

// A UDP port belongs to one client at a time. It is opened again after the remote restarts, and is
// free for the next client as soon as its owner stops.
func TestReverseUDPComesBack(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	echo := startUDPEcho(t, h, "127.0.0.1:0")
	tun := startBackTunnel(t, h, "localhost", "-R", "0:"+echo.String()+"/udp")
	address := tun.local.udpPort(t, 0)
	client := dialDatagrams(t, address)
	if got := readAgain(t, client, []byte("first")); string(got) != "first" {
		t.Errorf("received %q", got)
	}

	claim := address + ":" + echo.String() + "/udp"
	r := run(t, patience, h.command(t,
		culvert(t, "local", "--key", tun.client.file, "--remote-key", tun.server.key, "--socks", "none",
			"--log-level", "error", "-R", claim, tun.remote.url())))
	if r.status != exitCannotListen || !strings.HasPrefix(r.stderr,
		"culvert: can't listen on "+address+"/udp at the remote: address in use\n") {
		t.Errorf("a second claim: status %d, %s", r.status, r.stderr)
	}

	listen := tun.remote.listen[0]
	tun.remote.kill()
	tun.remote = tun.startReverseRemote(t, listen, "localhost")
	testnet.Poll(t, patience, "the port answers again", func() bool {
		client.Write([]byte("again"))
		client.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		got := make([]byte, 100)
		n, err := client.Read(got)
		return err == nil && string(got[:n]) == "again"
	})

	tun.local.stop()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(address)))
	if err != nil {
		t.Fatalf("the port after its owner stopped: %v", err)
	}
	conn.Close()
	next := startNode(t, "next local",
		h.command(t, culvert(t, localArgs(tun.client, tun.server, tun.remote.url(), "-R", claim)...)))
	if got := next.udpPort(t, 0); got != address {
		t.Errorf("the next has %s, want %s", got, address)
	}
}

// A flood beyond any link's capacity leaves both ends' memory bounded and doesn't stop other
// traffic.
func TestReverseDatagramFlood(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	echo := startUDPEcho(t, h, "127.0.0.1:0")
	tun := startBackTunnel(t, h, "localhost", "-R", "0:"+echo.String()+"/udp")
	tun.flood(t, tun.local.udpPort(t, 0))
}
