//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"culvert/internal/testnet"
)

// startObstacles starts nginx, which has something else than a remote at each path, also over TLS,
// and returns both addresses.
func startObstacles(t *testing.T, remote string) (plain, secure string) {
	t.Helper()
	plain, secure = "127.0.0.1:"+testnet.FreePort(t), "127.0.0.1:"+testnet.FreePort(t)
	certFile, keyFile, _ := newWebCA(t).issue(t, "localhost")
	startNginx(t, plain, fmt.Sprintf(`default_type text/html;
    listen %s;
    listen %s ssl;
    ssl_certificate %s;
    ssl_certificate_key %s;
    location /stripped { proxy_pass http://%s/; }
    location /login { return 302 http://portal.example/login; }
    location /moved { return 301 /t; }
    location /secure { return 301 https://$host$uri; }
    location /page { return 200 "<html>log in</html>"; }
    location /portal { return 511; }
    location /proxy { return 407; }
    location /auth { return 401; }`, plain, secure, certFile, keyFile, remote))
	return plain, secure
}

// startTLSServer starts a server of TLS that speaks no HTTP, and returns its address.
func startTLSServer(t *testing.T) string {
	t.Helper()
	port := testnet.FreePort(t)
	certFile, keyFile, _ := newWebCA(t).issue(t, "localhost")
	start(t, "openssl s_server", command(cleanEnv(t), t.TempDir(), needProgram(t, "openssl"),
		"s_server", "-accept", "127.0.0.1:"+port, "-cert", certFile, "-key", keyFile, "-quiet"))
	awaitListener(t, "127.0.0.1:"+port)
	return "127.0.0.1:" + port
}

// What is in the way to a remote is named, in one line, and a second tells what to do: by check,
// also to programs, and by local when it starts.
func TestObstacles(t *testing.T) {
	t.Parallel()
	key := newIdentity(t)
	remote := startNode(t, "remote", culvert(t, remoteArgs(newIdentity(t), "--allow-anyone")...))
	site, secure := startObstacles(t, remote.listen[0])
	strict := startTLSServer(t)
	closedProxy := filepath.Join(t.TempDir(), "tinyproxy.conf")
	port := testnet.FreePort(t)
	if err := os.WriteFile(closedProxy, []byte("Listen 127.0.0.1\nPort "+port+
		"\nTimeout 60\nBasicAuth alice secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, "tinyproxy", command(cleanEnv(t), t.TempDir(), needProgram(t, "tinyproxy"),
		"-d", "-c", closedProxy))
	awaitListener(t, "127.0.0.1:"+port)
	for _, test := range []struct {
		url, flag, obstacle, why, hint string
	}{
		{"ws://" + site + "/stripped", "", "upgrade-removed", "removes the Upgrade header",
			"pass on Upgrade and Connection"},
		{"ws://" + site + "/login", "", "redirect",
			`"302 Moved Temporarily", which points to "http://portal.example/login"`,
			"a network that asks for a login answers like this, so try a page in a browser; " +
				"if the remote has moved, use ws://portal.example/login"},
		{"ws://" + site + "/moved", "", "redirect", `"301 Moved Permanently"`,
			"redirects are not followed: if the remote is there, use ws://" + site + "/t"},
		{"ws://" + site + "/secure", "", "redirect", `"301 Moved Permanently"`,
			"the server wants TLS: use wss://127.0.0.1/secure"},
		{"ws://" + site + "/page", "", "web-page", `answered "200 OK"`, "this is a web page"},
		{"ws://" + site + "/portal", "", "captive-portal", `answered "511`, "log in"},
		{"ws://" + site + "/proxy", "", "proxy-authentication", `answered "407`, "--via http://USER"},
		{"ws://" + site + "/auth", "", "authentication", `answered "401`, "--header"},
		{"ws://" + secure + "/", "", "wants-tls", "the server speaks TLS", "wss://"},
		{"ws://" + strict + "/", "", "wants-tls", "the server speaks TLS", "wss://"},
		{"wss://" + site + "/", "", "no-tls", "the server does not speak TLS", "ws://"},
		{remote.url(), "http://127.0.0.1:" + port, "proxy-authentication", "the proxy answered \"40",
			"give its user and password"},
	} {
		t.Run(test.obstacle+" at "+test.url, func(t *testing.T) {
			for _, command := range [][]string{{"check", "--json"}, {"local", "--socks", "0"}} {
				args := append(command, "--key", key.file, "--accept-new")
				if test.flag != "" {
					args = append(args, "--via", test.flag)
				}
				r := run(t, patience, culvert(t, append(args, test.url)...))
				why, hint, _ := strings.Cut(r.stderr, "\n")
				if r.status != 3 || !strings.Contains(why, test.why) ||
					!strings.Contains(hint, test.hint) || strings.Count(hint, "\n") != 1 {
					t.Errorf("%s: status %d\n%s", command[0], r.status, r.stderr)
				}
				var report struct{ Obstacle, Hint string }
				if command[0] != "check" {
					continue
				}
				if err := json.Unmarshal([]byte(r.stdout), &report); err != nil ||
					report.Obstacle != test.obstacle || report.Hint+"\n" != hint {
					t.Errorf("%v: %s", err, r.stdout)
				}
			}
		})
	}
}
