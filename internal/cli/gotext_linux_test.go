package cli

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"culvert/internal/testnet"
)

// goWords is what Go's packages say that means nothing to a user.
var goWords = regexp.MustCompile(`parse error|deadline exceeded|context canceled|i/o timeout|` +
	`dial (tcp|udp|unix)|lookup |\bEOF\b|strconv\.|use of closed|invalid character|` +
	`unexpected end of JSON|malformed HTTP|net/http|websocket:|` +
	`tls: [a-z]+ (a|to|key|error)|x509: |asn1: |flag provided|unmarshal|%!|` +
	`0x[0-9a-f]{6}|\*[a-z]+\.[A-Z]`)

// serveBadly serves connections with act, until the test ends, and returns the address.
func serveBadly(t *testing.T, act func(net.Conn)) string {
	t.Helper()
	ln := testnet.Listen(t)
	testnet.Serve(t, ln, act)
	return ln.Addr().String()
}

// answer returns an act that answers a request's first bytes with a text.
func answer(text string) func(net.Conn) {
	return func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 4096))
		_, _ = io.WriteString(conn, text)
	}
}

// hang is an act that never answers.
func hang(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

// TestNoGoText makes commands fail in many ways: what they print is for people.
func TestNoGoText(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	env := append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME=", "GORACE=atexit_sleep_ms=0")
	for name, text := range map[string]string{
		"bad.json": "{", "bad.pem": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		"bad.toml": "a = = b\n", "worse.toml": "[local\n", "type.toml": "[local]\nkeepalive = 5\n",
		"empty": "", "list": "nonsense\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	createKey(t, dir, env)
	peers := map[string]string{
		"closes": serveBadly(t, func(net.Conn) {}),
		"hangs":  serveBadly(t, hang),
		"noise":  serveBadly(t, answer("SSH-2.0-OpenSSH_9.2\r\n")),
		"half":   serveBadly(t, answer("HTTP/1.1 101 Switching Protocols\r\nUpgr")),
		"status": serveBadly(t, answer("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")),
		"socks":  serveBadly(t, answer("\x05\xff")),
	}
	var lines []string
	for _, name := range []string{"closes", "hangs", "noise", "half", "status"} {
		for _, scheme := range []string{"ws://", "wss://"} {
			lines = append(lines, "check --connect-timeout 500ms "+scheme+peers[name]+"/")
		}
	}
	for _, name := range []string{"closes", "hangs", "noise", "half", "status", "socks"} {
		for _, scheme := range []string{"http://", "socks5://"} {
			lines = append(lines, "local -D0 --connect-timeout 500ms --via "+scheme+peers[name]+
				" ws://exit.example.org/")
		}
	}
	lines = append(lines, strings.Split(strings.TrimSpace(`
check ws://nobody.invalid/
local -D0 --via http://nobody.invalid:80 ws://exit.example.org/
check ws://[::1
check ws://localhost:99999/
check ws://localhost/%zz
check ws://exit.example.org:http/
check --keepalive soon ws://localhost/
check --keepalive= ws://localhost/
check --via ://x ws://localhost/
check --header x ws://localhost/
check --tls-ca bad.pem wss://localhost/
check --tls-ca empty wss://localhost/
check --key bad.json ws://localhost/
check --key empty ws://localhost/
check --ca bad.json ws://localhost/
check --remote-key x ws://localhost/
check --known-remotes list ws://localhost/
check --config bad.toml ws://localhost/
check --config worse.toml ws://localhost/
check --config type.toml ws://localhost/
check --config . ws://localhost/
check --congestion none ws://localhost/
local -D 10x80 ws://localhost/
local -L 1:2 ws://localhost/
local -L 99999:h:1 ws://localhost/
local -R 1:h:x ws://localhost/
local --memory x ws://localhost/
local --wait=x ws://localhost/
local --status x ws://localhost/
remote --allow-anyone --listen x
remote --allow-anyone --listen 192.0.2.1:80
remote --allow-anyone --max-streams x
remote --allow-anyone --allow 1/2/3
remote --allow-anyone --client-rate x
remote --allow-anyone --client-quota x
remote --allow-anyone --fallback :
remote --allow-anyone --tls-cert bad.pem --tls-key bad.pem
remote --allow-anyone --trusted-proxy x
remote --authorized-keys list
remote --authorized-keys none
authorize x
cert show bad.json
cert show empty
cert verify --ca bad.json bad.json
cert ca --name x --days x --out a --cert-out b
cert issue --ca-key bad.json --public-key x --out y
keygen -o bad.json
status nobody
stop nobody`), "\n")...)
	for _, line := range lines {
		t.Run(strings.ReplaceAll(line, "/", "|"), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			args := strings.Fields(line)
			if !strings.Contains(line, "--key") && (args[0] == "check" || args[0] == "local") {
				args = append(args, "--key", "client.json")
			}
			cmd := exec.CommandContext(ctx, "culvert", args...)
			cmd.Dir, cmd.Env = dir, env
			output, err := cmd.CombinedOutput()
			if err == nil {
				t.Errorf("it succeeds:\n%s", output)
			}
			if found := goWords.Find(output); found != nil {
				t.Errorf("it prints %q:\n%s", found, output)
			}
			if text := string(output); !strings.Contains("\n"+text, "\nculvert: ") {
				t.Errorf("no error is printed: %s", fmt.Sprintf("%q", text))
			}
		})
	}
}
