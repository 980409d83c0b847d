//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"culvert/internal/testnet"
)

// pageTime bounds the start of the browser and the loading of the page.
const pageTime = 2 * time.Minute

// A browser loads a page of 200 resources, whose names resolve only on the remote's host. The
// browser runs on a host of its own that can reach only the local's port, so whatever bypasses the
// tunnel fails. The browser also doesn't see the network interfaces that other tests add and
// remove.
func TestBrowser(t *testing.T) {
	t.Parallel()
	near, far := newHost(t, ""), newHost(t, pageHosts)
	server := startPage(t, far)
	tun := startFarTunnel(t, far, "--socks", near.nearAddr.String()+":0")

	if addrs, err := net.DefaultResolver.LookupHost(t.Context(), pageHost); err == nil {
		t.Fatalf("%s resolves on this side too, to %v", pageHost, addrs)
	}
	startChromium(t, near, "--proxy-server=socks5://"+tun.local.socks, "http://"+pageHost+"/")
	var report pageReport
	select {
	case report = <-server.reports:
	case <-time.After(pageTime):
		once, _ := server.servedOnce()
		t.Fatalf("the page did not load within %v; %d of %d resources were served", pageTime, once,
			pageResources)
	}
	if report.Images != pageImages || report.Scripts != pageScripts || report.Styles != pageStyles ||
		report.Fetches != pageFetches || len(report.Bad) > 0 {
		t.Errorf("the page got %+v", report)
	}
	if once, more := server.servedOnce(); once != pageResources || len(more) > 0 {
		t.Errorf("%d resources served once, want %d; more often: %v", once, pageResources, more)
	}
}

// pacPage has an image from each side of the tunnel.
const pacPage = `<!DOCTYPE html><title>two pictures</title><img src="http://` + imageHost +
	`/picture"><img src="http://%s/picture">`

// A browser configured with the URL of a PAC file loads a page through the tunnel. It loads
// directly from a --pac-direct host, which the remote can't reach.
func TestBrowserPAC(t *testing.T) {
	t.Parallel()
	near, far := newHost(t, ""), newHost(t, pageHosts)
	address := near.nearAddr.String()
	tun := startFarTunnel(t, far, "--socks", address+":0", "--pac", address+":0", "--pac-direct",
		address+"/32")

	direct, err := net.Listen("tcp", address+":0")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 4)
	serve := func(ln net.Listener, side string) {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(
			w http.ResponseWriter, r *http.Request,
		) {
			from, _, _ := net.SplitHostPort(r.RemoteAddr)
			switch r.URL.Path {
			case "/":
				w.Header().Set("Content-Type", "text/html")
				fmt.Fprintf(w, pacPage, direct.Addr())
			case "/picture":
				got <- side + " for " + r.Host + " from " + from
			default:
				http.NotFound(w, r)
			}
		}))
		server.Listener.Close()
		server.Listener = ln
		server.Start()
		t.Cleanup(func() {
			server.CloseClientConnections()
			server.Close()
		})
	}
	serve(direct, "direct")
	serve(far.listen(t, "127.0.1.1:80"), "page")
	serve(far.listen(t, "127.0.1.3:80"), "tunnel")

	startChromium(t, near, "--proxy-pac-url="+tun.local.pac, "http://"+pageHost+"/")
	want := []string{
		fmt.Sprintf("direct for %s from %s", direct.Addr(), near.addr),
		"tunnel for " + imageHost + " from 127.0.0.1",
	}
	var pictures []string
	for range want {
		select {
		case picture := <-got:
			pictures = append(pictures, picture)
		case <-time.After(pageTime):
			t.Fatalf("the page did not load within %v; so far %q", pageTime, pictures)
		}
	}
	if slices.Sort(pictures); !slices.Equal(pictures, want) {
		t.Errorf("the pictures loaded %q, want %q", pictures, want)
	}
}

// startChromium opens a page in Chromium on a host until the test ends, with a profile of its own.
// proxyFlag selects the proxy.
func startChromium(t *testing.T, h *host, proxyFlag, page string) {
	t.Helper()
	profile := filepath.Join(t.TempDir(), "profile")
	browser := start(t, "chromium",
		h.command(t, command(cleanEnv(t), t.TempDir(), needProgram(t, "chromium"),
			append(chromiumFlags(profile), proxyFlag, page)...)))
	t.Cleanup(func() { stopBrowser(t, browser, profile) })
}

// stopBrowser stops a browser. Its children leave its process group, and keep writing to the
// profile until they notice that it has ended.
func stopBrowser(t *testing.T, browser *process, profile string) {
	if browser.running() {
		browser.signal(syscall.SIGTERM)
	}
	select {
	case <-browser.exited:
	case <-time.After(patience):
		t.Errorf("%s did not stop", browser.name)
	}
	testnet.Poll(t, patience, browser.name+"'s processes have ended",
		func() bool { return !anyProcess(profile) })
}

// chromiumFlags returns Chromium's flags for tests: without a display, without the sandbox, which
// root can't use, and without traffic of its own.
func chromiumFlags(profile string) []string {
	return []string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--user-data-dir=" + profile,
	}
}

// anyProcess reports whether a process has text in its arguments.
func anyProcess(text string) bool {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return false
	}
	for _, file := range files {
		if line, err := os.ReadFile(file); err == nil && bytes.Contains(line, []byte(text)) {
			return true
		}
	}
	return false
}
