package cli

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"culvert/internal/cli/exit"
	"culvert/internal/testnet"

	"github.com/rs/zerolog"
)

// pacHarness evaluates the PAC file on standard input for each host in its argument, with the
// helper functions of browsers.
const pacHarness = `
const file = require('fs').readFileSync(0, 'utf8');
function shExpMatch(text, pattern) {
  pattern = pattern.replace(/[.+^$(){}|[\]\\]/g, '\\$&').replace(/\*/g, '.*').replace(/\?/g, '.');
  return new RegExp('^' + pattern + '$').test(text);
}
function number(address) {
  return address.split('.').reduce((n, part) => n * 256 + Number(part), 0);
}
function isInNet(host, net, mask) {
  if (!/^[0-9.]+$/.test(host)) throw new Error('isInNet resolves ' + host);
  return ((number(host) & number(mask)) >>> 0) === ((number(net) & number(mask)) >>> 0);
}
const evaluate = new Function('shExpMatch', 'isInNet', file + '; return FindProxyForURL;');
const find = evaluate(shExpMatch, isInNet);
const hosts = JSON.parse(process.argv[1]);
console.log(JSON.stringify(hosts.map((host) => find('http://' + host + '/', host))));
`

// decide runs a PAC file.
func decide(t *testing.T, file string, hosts []string) []string {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatalf("%v: install Node 20 or newer", err)
	}
	list, err := json.Marshal(hosts)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), node, "-e", pacHarness, string(list))
	cmd.Stdin = strings.NewReader(file)
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, output, file)
	}
	var decisions []string
	if err := json.Unmarshal(output, &decisions); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	return decisions
}

// TestPACDecides runs the file for all kinds of patterns.
func TestPACDecides(t *testing.T) {
	t.Parallel()
	var direct []string
	for _, pattern := range []string{
		"*.Example.org", "printer", "10.0.0.0/8", "192.0.2.7/32", "198.51.100.1", "2001:DB8::1",
		"cam?.test.", "a.b", "[2001:db8::2]",
	} {
		condition, err := parseDirect(pattern)
		if err != nil {
			t.Fatal(err)
		}
		direct = append(direct, condition)
	}
	const through = "SOCKS5 127.0.0.1:1080"
	hosts, want := []string{}, []string{}
	for host, decision := range map[string]string{
		"www.example.org": "DIRECT", "WWW.EXAMPLE.ORG": "DIRECT", "a.b.example.org": "DIRECT",
		"www.example.org.": "DIRECT", "example.org": through, "wwwexample.org": through,
		"www.example.org.evil.test": through, "www.example.orgx": through,
		"printer": "DIRECT", "printer.test": through, "my-printer": through,
		"10.255.0.1": "DIRECT", "11.0.0.1": through, "10.example.net": through,
		"192.0.2.7": "DIRECT", "192.0.2.8": through,
		"198.51.100.1": "DIRECT", "198.51.100.11": through,
		"2001:db8::1": "DIRECT", "[2001:db8::1]": "DIRECT", "2001:db8::2": "DIRECT",
		"cam1.test": "DIRECT", "cam12.test": through,
		"a.b": "DIRECT", "axb": through, "localhost": through,
	} {
		hosts, want = append(hosts, host), append(want, decision)
	}
	for i, got := range decide(t, pacFile(direct, through), hosts) {
		if got != want[i] {
			t.Errorf("%s: %s, want %s", hosts[i], got, want[i])
		}
	}
	if got := decide(t, pacFile(nil, through), []string{"example.org"}); got[0] != through {
		t.Errorf("without patterns: %q", got)
	}
}

func TestParseDirectRefuses(t *testing.T) {
	for _, bad := range []string{
		"", ".", "10.0.0.0/33", "2001:db8::/32", "name/8",
		"a b", "a\"b", "a'b", "a\\b", "a\nb", "é.test",
		"http://example.org", "example.org:80", "a);alert(1", "<b>", "\u2028",
	} {
		condition, err := parseDirect(bad)
		var failure *exit.Failure
		if !errors.As(err, &failure) || failure.Code != exit.Usage {
			t.Errorf("%q: %q, %v", bad, condition, err)
		}
	}
}

// TestQuoteJS shows that even a string that passed the checks by mistake can't end its literal.
func TestQuoteJS(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		`"`, `\`, "\n\r\x00", "\u2028\u2029", "</script>", "`${1}`", "é\U0001F600",
	} {
		file := "function FindProxyForURL() { return " + quoteJS(s) + "; }"
		if got := decide(t, file, []string{""}); got[0] != s {
			t.Errorf("%q became %q as %s", s, got[0], quoteJS(s))
		}
	}
}

// servePAC serves a PAC file for a SOCKS port until the test ends, and returns its URL.
func servePAC(t *testing.T, socks *net.TCPAddr) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &pac{listener: ln, socks: socks, log: zerolog.Nop()}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.serve(ctx) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return p.url()
}

func get(t *testing.T, method, url string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return testnet.Fetch(t, http.DefaultClient, request)
}

func TestPACServed(t *testing.T) {
	url := servePAC(t, &net.TCPAddr{IP: net.IPv6loopback, Port: 1080})
	response, body := get(t, http.MethodGet, url)
	kind := response.Header.Get("Content-Type")
	if response.StatusCode != http.StatusOK || kind != "application/x-ns-proxy-autoconfig" {
		t.Errorf("status %d, type %q", response.StatusCode, kind)
	}
	const want = "function FindProxyForURL(url, host) {\n" +
		"  return \"PROXY [::1]:1080; SOCKS5 [::1]:1080\";\n}\n"
	if body != want {
		t.Errorf("got %s", body)
	}
	response, body = get(t, http.MethodHead, url)
	if response.StatusCode != http.StatusOK || body != "" {
		t.Errorf("HEAD: status %d, %q", response.StatusCode, body)
	}
	response, _ = get(t, http.MethodPost, url)
	if response.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: status %d", response.StatusCode)
	}
	response, _ = get(t, http.MethodGet, strings.TrimSuffix(url, pacPath)+"/")
	if response.StatusCode != http.StatusNotFound {
		t.Errorf("another path: status %d", response.StatusCode)
	}
}

// TestPACOfAllAddresses serves the file for a SOCKS port on all addresses: it names the one that
// the browser connected to.
func TestPACOfAllAddresses(t *testing.T) {
	_, body := get(t, http.MethodGet, servePAC(t, &net.TCPAddr{IP: net.IPv6unspecified, Port: 1080}))
	if !strings.Contains(body, `"PROXY 127.0.0.1:1080; SOCKS5 127.0.0.1:1080"`) {
		t.Errorf("got %s", body)
	}
}

// TestPACOfIPv4: a SOCKS port on all addresses of IPv4 is named to browsers that come over IPv4.
// Others don't get the file.
func TestPACOfIPv4(t *testing.T) {
	socks, err := listen("0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socks.Close()
	for address, served := range map[string]bool{
		"*:0": true, ":0": true, "0.0.0.0:0": true, "127.0.0.1:0": true, "localhost:0": true,
		"[::]:0": false, "[::1]:0": false,
	} {
		p, err := openPAC(address, nil, socks, false, zerolog.Nop())
		var failure *exit.Failure
		switch {
		case err == nil:
			if !served || p.listener.Addr().(*net.TCPAddr).IP.To4() == nil {
				t.Errorf("%s is served at %s", address, p.listener.Addr())
			}
			p.listener.Close()
		case served, !errors.As(err, &failure), failure.Code != exit.Usage:
			t.Errorf("%s: %v", address, err)
		}
	}
	all, err := listen(":0")
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	p, err := openPAC("[::1]:0", nil, all, false, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	p.listener.Close()
}

// A page whose name leads here (DNS rebinding) doesn't get the file.
func TestPACHost(t *testing.T) {
	machine, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	p := &pac{socks: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1080},
		names: ownNames("proxy.Example.org.:8090")}
	for host, served := range map[string]bool{
		"127.0.0.1:8090": true, "127.0.0.1": true, "192.0.2.1:8090": true, "[::1]:8090": true,
		"[2001:db8::1]": true, "localhost": true, "LOCALHOST.:8090": true, machine: true,
		"proxy.example.org:8090": true, "PROXY.example.org": true, "": true,
		"rebound.example.net": false, "rebound.example.net:8090": false, "127.0.0.1.example": false,
		"localhost.example.net": false, "a.localhost.example.net:1": false, "evil-localhost": false,
		"sub.proxy.example.org": false, "0x7f000001": false,
	} {
		r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1/proxy.pac", nil)
		r.Host = host
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		if got := w.Code == http.StatusOK; got != served ||
			!served && w.Code != http.StatusMisdirectedRequest {
			t.Errorf("Host %q: status %d", host, w.Code)
		}
	}
}
