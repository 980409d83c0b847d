//go:build linux

package e2e

import (
	"encoding/json"
	"io"
	"maps"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"culvert/internal/testnet"
)

// sources is what socks-udp.py prints.
type sources map[string]any

// askFrom runs socks-udp.py, which uses Python's standard library and PySocks.
func askFrom(t *testing.T, h *host, args ...string) sources {
	t.Helper()
	folder := filepath.Join("..", "interop")
	cmd := command(cleanEnv(t), folder, "/usr/bin/python3",
		append([]string{"socks-udp.py"}, args...)...)
	if h != nil {
		cmd = h.command(t, cmd)
	}
	got := sources{}
	if err := json.Unmarshal([]byte(must(t, patience, cmd)), &got); err != nil {
		t.Fatal(err)
	}
	return got
}

// A client may send from any port of its address: one other than it named, a second one, one opened
// later. Datagrams from another address and fragments get no answer and are logged.
func TestAssociateSources(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	echo := startUDPEcho(t, h, "127.0.0.1:0")
	tun := startFarTunnel(t, h)
	want := sources{
		"named port": true, "second socket": true, "named port again": true,
		"other address": false, "named port after all": true,
		"another port than named": true,
		"reply to port 0":         0., "first socket": true, "reopened": true,
		"fragment": false, "after the fragment": true,
		"pysocks": true,
	}
	if got := askFrom(t, nil, tun.local.socks, echo.String()); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, reason := range []string{"address", "fragment"} {
		line := "reason=" + reason
		if text := tun.local.stderr.String(); !strings.Contains(text, line) {
			t.Errorf("the log has no line with %s", line)
		}
	}
}

// Dante handles other addresses and fragments as TestAssociateSources expects. It connects its
// socket to a client's first port, and so fails for other ports.
func TestAssociateSourcesDante(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	echo := startUDPEcho(t, h, "127.0.0.1:0")
	proxy := "127.0.0.1:1080"
	config := writeFile(t, "danted.conf", `logoutput: stderr
internal: 127.0.0.1 port = 1080
external: 127.0.0.1
clientmethod: none
socksmethod: none
user.privileged: root
user.unprivileged: nobody
client pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }
socks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }
`)
	start(t, "danted", h.command(t,
		command(cleanEnv(t), t.TempDir(), needProgram(t, "danted"), "-f", config)))
	testnet.Poll(t, patience, "danted accepts connections", func() bool {
		conn, err := inNamespace(h.name, func() (net.Conn, error) { return net.Dial("tcp", proxy) })
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	got := askFrom(t, h, proxy, echo.String())
	for name, want := range (sources{
		"named port": true, "named port again": true, "other address": false,
		"named port after all": true, "reply to port 0": 0., "first socket": true, "fragment": false,
		"pysocks": true,
	}) {
		if got[name] != want {
			t.Errorf("%s: %v, want %v", name, got[name], want)
		}
	}
}

// With a password, a client must name the port that it sends from, and no other user of its machine
// can use its association.
func TestAssociatePassword(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	echo := startUDPEcho(t, h, "127.0.0.1:0")
	const login = "alice:secret"
	tun := startFarTunnel(t, h, "--socks-auth", login)
	want := sources{
		"named port": true, "second socket": false, "named port again": true,
		"other address": false, "named port after all": true,
		"another port than named": false,
		"reply to port 0":         2., // "connection not allowed by ruleset"
		"pysocks":                 true,
	}
	if got := askFrom(t, nil, tun.local.socks, echo.String(), login); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	text := tun.local.stderr.String()
	for _, line := range []string{
		"reason=port", "UDP ASSOCIATE with a password must name the client's port",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("the log has no %s", line)
		}
	}
	c := startUDPClient(t, tun.local.socks, login)
	if d := c.ask(t, echo.Addr().String(), echo.Port(), []byte("npm")); string(d.Data) != "npm" {
		t.Errorf("the npm package received %q", d.Data)
	}
}

// A proxy on a port of the remote and one on a Unix socket don't support UDP: they refuse the
// request rather than leave it unanswered.
func TestAssociateUnsupported(t *testing.T) {
	t.Parallel()
	back := startReverse(t, "localhost", "-R", "0:socks")
	socket := filepath.Join(t.TempDir(), "socks")
	startTunnel(t, "--socks", "unix:"+socket)
	for network, address := range map[string]string{"tcp": back.local.reverse[0], "unix": socket} {
		conn, err := net.Dial(network, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(patience))
		// A greeting, and a request that names neither address nor port (RFC 1928 section 4).
		io.WriteString(conn, "\x05\x01\x00\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00")
		answer := make([]byte, 2+10)
		_, err = io.ReadFull(conn, answer)
		if err != nil || answer[3] != commandNotSupported {
			t.Errorf("%s: %v, %v; want reply %d", network, answer, err, commandNotSupported)
		}
	}
}

// commandNotSupported is a reply of RFC 1928 section 6.
const commandNotSupported = 7
