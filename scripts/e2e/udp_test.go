//go:build linux

package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"culvert/internal/testnet"

	"golang.org/x/net/dns/dnsmessage"
)

// startDNS starts dnsmasq on port 53 of a host. It resolves known.culvert.test, and
// many.culvert.test, whose TXT records take some 3,000 bytes.
func startDNS(t *testing.T, h *host) {
	t.Helper()
	args := []string{"--keep-in-foreground", "--log-facility=-", "--conf-file=/dev/null", "--pid-file",
		"--user=root", "--no-resolv",
		"--no-hosts", "--listen-address=127.0.0.1", "--bind-interfaces", "--edns-packet-max=4096",
		"--address=/known.culvert.test/192.0.2.53"}
	for i := range 15 {
		args = append(args, "--txt-record=many.culvert.test,"+strings.Repeat(string(rune('a'+i)), 200))
	}
	p := start(t, "dnsmasq",
		h.command(t, command(cleanEnv(t), t.TempDir(), needProgram(t, "dnsmasq"), args...)))
	p.stderr.waitLine(t, p, "started", patience)
}

// startUDPEcho starts a UDP echo server on a host, until the test ends.
func startUDPEcho(t *testing.T, h *host, address string) netip.AddrPort {
	t.Helper()
	conn, err := inNamespace(h.name, func() (*net.UDPConn, error) {
		return net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(address)))
	})
	if err != nil {
		t.Fatal(err)
	}
	return testnet.ServeUDPConn(t, conn, testnet.EchoUDP)
}

// dig queries a DNS server through a UDP port of -L or -R.
func dig(t *testing.T, forward string, args ...string) string {
	t.Helper()
	address, ok := strings.CutSuffix(forward, "/udp")
	if !ok {
		t.Fatalf("%s is not the address of a UDP forward", forward)
	}
	at := netip.MustParseAddrPort(address)
	args = append([]string{"-r", "@" + at.Addr().String(), "-p", strconv.Itoa(int(at.Port()))},
		args...)
	return must(t, patience, command(cleanEnv(t), t.TempDir(), needProgram(t, "dig"), args...))
}

// dig gets small and large responses from a DNS server on the remote's loopback.
func TestDigThroughForward(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	startDNS(t, h)
	tun := startFarTunnel(t, h, "-L", "127.0.0.1:0:127.0.0.1:53/udp")
	forward := tun.local.forwards[0]
	if got := dig(t, forward, "+short", "known.culvert.test"); got != "192.0.2.53\n" {
		t.Errorf("dig printed %q", got)
	}
	if got := dig(t, forward, "unknown.culvert.test"); !strings.Contains(got, "status: REFUSED") {
		t.Errorf("dig printed %s", got)
	}
	got := dig(t, forward, "+short", "+notcp", "+ignore", "+bufsize=4096", "many.culvert.test", "TXT")
	if n := strings.Count(got, "\n"); n != 15 || len(got) != 15*203 {
		t.Errorf("dig printed %d texts of %d bytes", n, len(got))
	}
}

// sizes are those of datagrams that keep their boundaries.
var sizes = []int{0, 1, 512, 1472, 9000}

// Datagrams of all sizes pass through a forward, and no client gets another's answers.
func TestForwardDatagrams(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	echo := startUDPEcho(t, h, "127.0.0.1:0")
	tun := startFarTunnel(t, h, "-L", "127.0.0.1:0:"+echo.String()+"/udp")
	var clients []net.Conn
	for range 3 {
		clients = append(clients, dialDatagrams(t, strings.TrimSuffix(tun.local.forwards[0], "/udp")))
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

// readAgain reads the answer to p. It retransmits p when none comes, as UDP clients must.
func readAgain(t *testing.T, conn net.Conn, p []byte) []byte {
	t.Helper()
	got := make([]byte, 64<<10)
	for range 10 {
		conn.SetReadDeadline(time.Now().Add(2 * time.Second))
		n, err := conn.Read(got)
		if err == nil {
			return got[:n]
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		conn.Write(p)
	}
	t.Fatalf("no answer to %d bytes", len(p))
	return nil
}

// datagram is a line of socks-udp.js.
type datagram struct {
	Event string `json:"event,omitempty"`
	Host  string `json:"host"`
	Port  uint16 `json:"port"`
	Data  []byte `json:"data"`
}

// udpClient is the npm package socks with a UDP association.
type udpClient struct {
	*process
	stdin io.WriteCloser
	lines int // of its output read so far
}

// startUDPClient starts a client of a SOCKS server. The login is empty or USER:PASSWORD.
func startUDPClient(t *testing.T, socks string, login ...string) *udpClient {
	t.Helper()
	folder := filepath.Join("..", "interop")
	if _, err := os.Stat(filepath.Join(folder, "node_modules", "socks")); err != nil {
		t.Fatal("the npm package socks is missing from scripts/interop/node_modules: make test-deps " +
			"installs it")
	}
	cmd := command(cleanEnv(t), folder, needProgram(t, "node"),
		append([]string{"socks-udp.js", socks}, login...)...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	c := &udpClient{start(t, "the SOCKS client", cmd), stdin, 0}
	c.stdout.waitLine(t, c.process, `"event":"associated"`, patience)
	c.lines = 1
	return c
}

func (c *udpClient) send(t *testing.T, host string, port uint16, p []byte) {
	t.Helper()
	line, err := json.Marshal(datagram{Host: host, Port: port, Data: p})
	if err == nil {
		_, err = c.stdin.Write(append(line, '\n'))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// next returns the next datagram that arrives within timeout, or false if none does.
func (c *udpClient) next(t *testing.T, timeout time.Duration) (d datagram, ok bool) {
	t.Helper()
	deadline := time.After(timeout)
	for {
		kept, changed := c.stdout.get()
		if lines := strings.SplitAfter(kept, "\n"); len(lines) > c.lines+1 {
			line := lines[c.lines]
			c.lines++
			if err := json.Unmarshal([]byte(line), &d); err != nil || d.Event != "datagram" {
				t.Fatalf("%q: %v", line, err)
			}
			return d, true
		}
		select {
		case <-changed:
		case <-deadline:
			return d, false
		}
	}
}

// ask sends a datagram, repeatedly, until an answer comes.
func (c *udpClient) ask(t *testing.T, host string, port uint16, p []byte) datagram {
	t.Helper()
	for range 10 {
		c.send(t, host, port, p)
		if d, ok := c.next(t, 2*time.Second); ok {
			return d
		}
	}
	t.Fatalf("no answer from %s to %d bytes", host, len(p))
	return datagram{}
}

// The npm package socks exchanges datagrams with a DNS server and an echo server on the remote's
// loopback, by address and by a name that only the remote's host resolves.
func TestAssociate(t *testing.T) {
	t.Parallel()
	h := newHost(t, "127.0.0.1 echo.culvert.test\n")
	startDNS(t, h)
	echo := startUDPEcho(t, h, "127.0.0.1:0")
	tun := startFarTunnel(t, h)
	c := startUDPClient(t, tun.local.socks)

	question := dnsmessage.Message{
		Header: dnsmessage.Header{ID: 4242, RecursionDesired: true},
		Questions: []dnsmessage.Question{{
			Name: dnsmessage.MustNewName("known.culvert.test."), Type: dnsmessage.TypeA,
			Class: dnsmessage.ClassINET,
		}},
	}
	packed, err := question.Pack()
	if err != nil {
		t.Fatal(err)
	}
	answer := c.ask(t, "127.0.0.1", 53, packed)
	var m dnsmessage.Message
	if err := m.Unpack(answer.Data); err != nil || answer.Host != "127.0.0.1" || answer.Port != 53 {
		t.Fatalf("%+v: %v", answer, err)
	}
	if len(m.Answers) != 1 || m.ID != 4242 ||
		*m.Answers[0].Body.(*dnsmessage.AResource) != (dnsmessage.AResource{A: [4]byte{192, 0, 2, 53}}) {
		t.Errorf("the DNS server answered %+v", m)
	}

	const header = 10 // of a SOCKS datagram from IPv4
	for _, size := range append(slices.Clone(sizes), 65507-header) {
		p := make([]byte, size)
		rand.Read(p)
		d := c.ask(t, "127.0.0.1", echo.Port(), p)
		if !bytes.Equal(d.Data, p) || d.Host != "127.0.0.1" || d.Port != echo.Port() {
			t.Errorf("%d bytes came back as %d from %s:%d", size, len(d.Data), d.Host, d.Port)
		}
	}
	if d := c.ask(t, "echo.culvert.test", echo.Port(),
		[]byte("by name")); string(d.Data) != "by name" {
		t.Errorf("by name: %+v", d)
	}

	// The association ends with its connection, whichever side closes it.
	c.stdin.Close()
	c.stdout.waitLine(t, c.process, `"event":"closed"`, patience)
	other := startUDPClient(t, tun.local.socks)
	tun.local.stop()
	other.stdout.waitLine(t, other.process, `"event":"closed"`, patience)
}

// A flood beyond any link's capacity leaves the program's memory bounded and doesn't stop other
// traffic.
func TestDatagramFlood(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	echo := startUDPEcho(t, h, "127.0.0.1:0")
	tun := startFarTunnel(t, h, "-L", "127.0.0.1:0:"+echo.String()+"/udp")
	tun.flood(t, strings.TrimSuffix(tun.local.forwards[0], "/udp"))
}

// flood sends far more than the tunnel can carry to a port of an echo server.
func (tun *tunnel) flood(t *testing.T, address string) {
	t.Helper()
	flood, quiet := dialDatagrams(t, address), dialDatagrams(t, address)
	before := residentMemory(t, tun.local.cmd) + residentMemory(t, tun.remote.cmd)
	p := make([]byte, 60000)
	for range 20_000 { // 1.2 GB
		flood.Write(p)
	}
	quiet.Write([]byte("quiet"))
	if got := readAgain(t, quiet, []byte("quiet")); string(got) != "quiet" {
		t.Errorf("received %q", got)
	}
	after := residentMemory(t, tun.local.cmd) + residentMemory(t, tun.remote.cmd)
	if grown := after - before; grown > 256<<20 {
		t.Errorf("memory grew by %d MiB", grown>>20)
	}
}

// dialDatagrams returns a client of a UDP port, until the test ends.
func dialDatagrams(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.(*net.UDPConn).SetReadBuffer(1 << 20) // bytes; large datagrams count for more than they hold
	return conn
}

// residentMemory returns a process's resident memory in bytes.
func residentMemory(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	status, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/statm")
	if err != nil {
		t.Error(err)
		return 0
	}
	pages, err := strconv.Atoi(strings.Fields(string(status))[1])
	if err != nil {
		t.Error(err)
	}
	return pages * os.Getpagesize()
}
