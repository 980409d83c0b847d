//go:build linux

package e2e

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// bareCurl returns a command that runs curl with a timeout and with only these arguments: without a
// configuration file or proxy exceptions.
func bareCurl(t *testing.T, timeout time.Duration, args ...string) *exec.Cmd {
	t.Helper()
	return command(cleanEnv(t), t.TempDir(), needProgram(t, "curl"), append([]string{
		"-q", "--silent", "--show-error", "--noproxy", "",
		"--max-time", strconv.Itoa(int(timeout / time.Second)),
	}, args...)...)
}

// listeners returns the flags that make curl use the proxy at address, by protocol.
func listeners(address string) map[string][]string {
	return map[string][]string{
		"socks5":   {"--socks5-hostname", address},
		"socks4a":  {"--socks4a", address},
		"http":     {"-x", "http://" + address},
		"http 1.0": {"-x", "http://" + address, "--http1.0"},
		"connect":  {"-p", "-x", "http://" + address},
	}
}

// Every proxy protocol reaches names that resolve only on the remote's host.
func TestListeners(t *testing.T) {
	t.Parallel()
	h := newHost(t, "127.0.1.1 only.culvert.test\n")
	serveOn(t, h.listen(t, "127.0.1.1:80"), func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s\n", r.Host, r.URL.Path)
	})
	socket := filepath.Join(t.TempDir(), "listener")
	for _, listen := range []string{"127.0.0.1:0", "unix:" + socket} {
		tun := startFarTunnel(t, h, "--socks", listen)
		proxies := listeners(tun.local.socks)
		if listen != "127.0.0.1:0" {
			proxies = map[string][]string{
				"socks5 on a unix socket":  {"-x", "socks5h://localhost" + socket},
				"socks4a on a unix socket": {"-x", "socks4a://localhost" + socket},
				"http on a unix socket": {"--unix-socket", socket, "--request-target",
					"http://only.culvert.test/x"},
			}
		}
		for name, flags := range proxies {
			t.Run(name, func(t *testing.T) {
				got := must(t, patience, bareCurl(t, patience, append(flags, "http://only.culvert.test/x")...))
				if want := "only.culvert.test /x\n"; got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			})
		}
	}
}

// serveOn serves HTTP until the test ends.
func serveOn(t *testing.T, ln net.Listener, handler http.HandlerFunc) {
	server := httptest.NewUnstartedServer(handler)
	server.Listener.Close()
	server.Listener = ln
	server.Start()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
}

// With SOCKS4 curl resolves names itself, so this test uses an address.
func TestSOCKS4Listener(t *testing.T) {
	t.Parallel()
	tun, web := startTunnel(t), startSite(t)
	got := must(t, patience,
		bareCurl(t, patience, "--socks4", tun.local.socks, web.URL+"/random/1000"))
	if sum(t, strings.NewReader(got)) != sum(t, randomBytes(1000)) {
		t.Errorf("got %d bytes, want 1000 others", len(got))
	}
}

// Every proxy protocol reports each cause of failure, whether it comes from the remote's rules, its
// kernel or its resolver.
func TestListenersReportCause(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	server, client := newIdentity(t), newIdentity(t)
	authorized := writeFile(t, "authorized_keys", client.key+"\n")
	remote := startNode(t, "remote",
		h.command(t, culvert(t, remoteArgs(server, "--listen", h.addr.String()+":0",
			"--authorized-keys", authorized, "--deny", "forbidden.culvert.test")...)))
	local := startNode(t, "local", culvert(t, localArgs(client, server, remote.url())...))
	check := func(t *testing.T, target, socks5 string, status int, text string) {
		url := "http://" + target + "/"
		for name, want := range map[string]struct {
			flags  []string
			status int
			stdout string
			stderr string
		}{
			"socks5":  {nil, 97, "", socks5},
			"socks4a": {nil, 97, "", "(91)"},
			"http": {[]string{"--write-out", "%{http_code}"}, 0,
				fmt.Sprintf("%s: %s\n%d", target, text, status), ""},
			"connect": {[]string{"--write-out", "%{http_connect}"}, 56, strconv.Itoa(status), ""},
		} {
			t.Run(name+" to "+target, func(t *testing.T) {
				t.Parallel()
				flags := append(append(listeners(local.socks)[name], want.flags...), url)
				r := run(t, patience, bareCurl(t, patience, flags...))
				if r.status != want.status || r.stdout != want.stdout ||
					!strings.Contains(r.stderr, want.stderr) {
					t.Errorf("status %d, %q, %q; want %+v", r.status, r.stdout, r.stderr, want)
				}
			})
		}
	}
	t.Run("reached", func(t *testing.T) {
		check(t, "127.0.0.1:1", "(5)", http.StatusBadGateway, "connection refused")
		check(t, "unknown.culvert.test:80", "(4)", http.StatusBadGateway, "name not found")
		check(t, brokenName+":80", "(1)", http.StatusBadGateway, "name can't be looked up")
		check(t, noHost+":80", "(4)", http.StatusBadGateway, "host unreachable")
		check(t, noRoute+":80", "(3)", http.StatusBadGateway, "network unreachable")
		check(t, "forbidden.culvert.test:80", "(2)", http.StatusForbidden, "not allowed")
		check(t, "169.254.169.254:80", "(2)", http.StatusForbidden, "not allowed")
	})
	remote.stop()
	t.Run("without a session", func(t *testing.T) {
		check(t, "127.0.0.1:1", "(1)", http.StatusServiceUnavailable, "no connection to the remote")
		// wget shows the reason phrase of the response to CONNECT.
		cmd := command(append(cleanEnv(t), "https_proxy=http://"+local.socks), t.TempDir(),
			needProgram(t, "wget"), "--tries=1", "https://"+pageHost+"/")
		if r := run(t, patience, cmd); r.status == 0 ||
			!strings.Contains(r.stderr, "Proxy tunneling failed: no connection to the remote") {
			t.Errorf("wget: status %d, %s", r.status, r.stderr)
		}
	})
}

// A target that never answers has a reply of its own, once the remote has given up. The protocols
// wait concurrently.
func TestListenersReportSilence(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	target := h.silentPort(t)
	tun := startFarTunnel(t, h)
	type want struct {
		status         int
		stdout, stderr string
	}
	wants := map[string]want{
		"socks5":  {97, "", "(6)"},
		"socks4a": {97, "", "(91)"},
		"http":    {0, target + ": timed out\n504", ""},
		"connect": {56, "504", ""},
	}
	waiting := map[string]*process{}
	for name := range wants {
		flags := append(listeners(tun.local.socks)[name], "http://"+target+"/")
		switch name {
		case "http":
			flags = append(flags, "--write-out", "%{http_code}")
		case "connect":
			flags = append(flags, "--write-out", "%{http_connect}")
		}
		waiting[name] = start(t, name, bareCurl(t, patience, flags...))
	}
	for name, want := range wants {
		p := waiting[name]
		status := p.wait(patience)
		if out, err := p.stdout.String(), p.stderr.String(); status != want.status ||
			out != want.stdout || !strings.Contains(err, want.stderr) {
			t.Errorf("%s: status %d, %q, %q; want %+v", name, status, out, err, want)
		}
	}
}

// With --socks-auth, every protocol that can carry a password requires it, and the others are
// refused.
func TestListenersWithPassword(t *testing.T) {
	t.Parallel()
	tun, web := startTunnel(t, "--socks-auth", "alice:secret"), startSite(t)
	page := web.URL + "/random/1000"
	for name, refusal := range map[string]int{"socks5": 97, "http": 22, "connect": 22, "socks4a": 97} {
		right := run(t, patience, bareCurl(t, patience,
			append(listeners(tun.local.socks)[name], "--proxy-user", "alice:secret", "--fail", page)...))
		if name == "socks4a" {
			if right.status != refusal {
				t.Errorf("%s: status %d", name, right.status)
			}
		} else if right.status != 0 ||
			sum(t, strings.NewReader(right.stdout)) != sum(t, randomBytes(1000)) {
			t.Errorf("%s: status %d, %d bytes; %s", name, right.status, len(right.stdout), right.stderr)
		}
		for _, user := range []string{"alice:wrong", "bob:secret"} {
			wrong := run(t, patience, bareCurl(t, patience,
				append(listeners(tun.local.socks)[name], "--proxy-user", user, "--fail", page)...))
			if wrong.status != refusal || wrong.stdout != "" {
				t.Errorf("%s as %s: status %d, %d bytes", name, user, wrong.status, len(wrong.stdout))
			}
		}
	}
}

// Large bodies pass through plain HTTP requests, both ways, and one connection to the proxy serves
// several.
func TestHTTPListenerBulk(t *testing.T) {
	t.Parallel()
	tun, web := startTunnel(t), startSite(t)
	const size = 64 << 20
	proxy := listeners(tun.local.socks)["http"]
	for _, extra := range [][]string{nil, {"-H", "Expect: 100-continue"}} {
		upload := bareCurl(t, bulkTime,
			append(append(proxy, extra...), "--upload-file", "-", web.URL+"/sum")...)
		upload.Stdin = randomBytes(size)
		if got, want := must(t, bulkTime, upload), sum(t, randomBytes(size)); got != want {
			t.Errorf("%q: the server got %s, want %s", extra, got, want)
		}
	}
	page := web.URL + "/random/" + strconv.Itoa(size)
	r := run(t, bulkTime,
		bareCurl(t, bulkTime, append(proxy, "--output", "/dev/null", "--output", "/dev/null",
			"--write-out", "%{size_download} %{num_connects}\n", page, page)...))
	if want := fmt.Sprintf("%d 1\n%d 0\n", size, size); r.status != 0 || r.stdout != want {
		t.Errorf("status %d, %q, want %q; %s", r.status, r.stdout, want, r.stderr)
	}
}

// A truncated response never looks complete.
func TestListenersTruncatedDownload(t *testing.T) {
	t.Parallel()
	tun, web := startTunnel(t), startSite(t)
	for _, how := range []string{"reset-length", "reset-open", "end-length"} {
		for _, name := range []string{"http", "http 1.0", "connect", "socks4a"} {
			r := run(t, bulkTime, bareCurl(t, bulkTime,
				append(listeners(tun.local.socks)[name], "--output", "/dev/null", web.URL+"/cut/"+how)...))
			if r.status != curlPartial && r.status != curlRecvError {
				t.Errorf("%s, %s: status %d; %s", how, name, r.status, r.stderr)
			}
		}
	}
}
