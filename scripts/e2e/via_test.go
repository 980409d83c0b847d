//go:build linux

package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"culvert/internal/testnet"
)

// The proxies' user.
const (
	proxyUser     = "alice"
	proxyPassword = "tellnobody"
)

// passwd and shadow contain the SOCKS proxy's user: danted(8) authenticates system users. The
// password is proxyPassword, hashed by `openssl passwd -6`.
const (
	passwdLine = "alice:x:4242:65534::/nonexistent:/usr/sbin/nologin\n"
	shadowLine = "alice:$6$culvertsalt$A4GA06dxCDS1c9grv5yduxj/Jo/q/d53J1IdyifBCd.oHIatQ." +
		"43IBOC2mKJ4zUwKpVNvGhT2.danP5J3vkB00:20000:0:99999:7:::\n"
)

// freePort returns a port of the host that is free at the moment.
func (h *host) freePort(t *testing.T) string {
	t.Helper()
	ln := h.listen(t, h.addr.String()+":0")
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// awaitListener waits until a server accepts connections at an address.
func awaitListener(t *testing.T, address string) {
	t.Helper()
	testnet.Poll(t, patience, address+" accepts connections", func() bool {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
}

// startTinyproxy starts an HTTP proxy with a password on the host, for clients on this machine, and
// returns its address.
func startTinyproxy(t *testing.T, h *host, connectPort string) (*process, string) {
	t.Helper()
	port := h.freePort(t)
	config := writeFile(t, "tinyproxy.conf", fmt.Sprintf(
		"Listen %s\nPort %s\nAllow %s\nTimeout 60\nMaxClients 20\nConnectPort %s\nConnectPort "+
			"1\nBasicAuth %s %s\nLogLevel Info\n",
		h.addr, port, h.nearAddr, connectPort, proxyUser, proxyPassword))
	p := start(t, "tinyproxy",
		h.command(t, command(cleanEnv(t), t.TempDir(), needProgram(t, "tinyproxy"), "-d", "-c", config)))
	address := net.JoinHostPort(h.addr.String(), port)
	awaitListener(t, address)
	return p, address
}

// startDante starts a SOCKS5 proxy on the host, with a password, and returns its address.
func startDante(t *testing.T, h *host) (*process, string) {
	t.Helper()
	for file, line := range map[string]string{"passwd": passwdLine, "shadow": shadowLine} {
		own, err := os.ReadFile(filepath.Join("/etc", file))
		if err != nil {
			t.Fatal(err)
		}
		// As with newHost's hosts file, ip netns exec mounts these over the machine's own.
		if err := os.WriteFile(filepath.Join("/etc/netns", h.name, file), append(own, line...),
			0o600); err != nil {
			t.Fatal(err)
		}
	}
	port := h.freePort(t)
	config := writeFile(t, "danted.conf", fmt.Sprintf(`logoutput: stderr
internal: %s port = %s
external: 127.0.0.1
clientmethod: none
socksmethod: username
user.privileged: root
user.unprivileged: nobody
client pass { from: %s/32 to: 0.0.0.0/0 }
socks pass { from: %s/32 to: 0.0.0.0/0 }
`, h.addr, port, h.nearAddr, h.nearAddr))
	p := start(t, "danted",
		h.command(t, command(cleanEnv(t), t.TempDir(), needProgram(t, "danted"), "-f", config)))
	address := net.JoinHostPort(h.addr.String(), port)
	awaitListener(t, address)
	return p, address
}

// A remote that only the proxy's host can reach, under a name that only it resolves, is reached
// through the proxy with the right password. The password appears nowhere else.
func TestVia(t *testing.T) {
	t.Parallel()
	h := newHost(t, "127.0.0.1 remote.culvert.test\n")
	server, client := newIdentity(t), newIdentity(t)
	authorized := writeFile(t, "authorized_keys", client.key+"\n")
	remote := startNode(t, "remote",
		h.command(t, culvert(t, remoteArgs(server, "--authorized-keys", authorized)...)))
	_, port, err := net.SplitHostPort(remote.listen[0])
	if err != nil {
		t.Fatal(err)
	}
	_, httpAddress := startTinyproxy(t, h, port)
	_, socksAddress := startDante(t, h)
	url := "ws://remote.culvert.test:" + port + "/"
	for name, test := range map[string]struct{ scheme, address, question, refusal string }{
		"http": {"http", httpAddress, "407 Proxy Authentication Required", "401 Unauthorized"},
		"socks5": {"socks5", socksAddress, "no acceptable authentication methods",
			"username/password authentication failed"},
	} {
		t.Run(name, func(t *testing.T) {
			via := fmt.Sprintf("%s://%s:%s@%s", test.scheme, proxyUser, proxyPassword, test.address)
			cmd := culvert(t, "check", "--key", client.file, "--remote-key", server.key, url)
			cmd.Env = append(cmd.Env, "CULVERT_VIA="+via)
			r := run(t, patience, cmd)
			checked(t, r, "the tunnel works", "tcp", "proxy", "upgrade", "handshake", "identity", "session",
				"round trip")
			if want := fmt.Sprintf("remote.culvert.test:%s through %s://%s\n", port, test.scheme,
				test.address); !strings.Contains(r.stdout, want) {
				t.Errorf("%q is not in\n%s", want, r.stdout)
			}

			local := startNode(t, "local", culvert(t, localArgs(client, server, url, "--via", via)...))
			if _, got := socksConnect(t, local.socks, remote.listen[0]); got != replyOK {
				t.Errorf("reply %d, want %d", got, replyOK)
			}
			if out := local.stderr.String(); strings.Contains(out, proxyPassword) {
				t.Errorf("the log contains the password:\n%s", out)
			}

			for what, bad := range map[string]struct{ via, url, want string }{
				"wrong password": {fmt.Sprintf("%s://%s:guess@%s", test.scheme, proxyUser, test.address), url,
					test.refusal},
				"no password":  {fmt.Sprintf("%s://%s", test.scheme, test.address), url, test.question},
				"no remote":    {via, "ws://127.0.0.1:1/", ""},
				"no such name": {via, "ws://unknown.culvert.test:" + port + "/", ""},
			} {
				cmd := culvert(t, "check", "--key", client.file, "--remote-key", server.key, bad.url)
				cmd.Env = append(cmd.Env, "CULVERT_VIA="+bad.via)
				r := run(t, patience, cmd)
				if r.status != 3 || !strings.Contains(r.stderr, bad.want) ||
					!strings.Contains(r.stderr, ": proxy: ") ||
					strings.Contains(r.stderr+r.stdout, "guess") ||
					strings.Contains(r.stderr+r.stdout, proxyPassword) {
					t.Errorf("%s: status %d, %q\n%s", what, r.status, r.stderr, r.stdout)
				}
			}
		})
	}
}
