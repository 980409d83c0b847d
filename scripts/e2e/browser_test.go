package e2e

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// pageTime bounds the start of the browser and the loading of the page.
const pageTime = 2 * time.Minute

// A browser loads a page of 200 resources, the names of which mean something on the remote's host alone. The browser has a
// host of its own, which reaches nothing but the local's port: whatever does not go through the tunnel fails. That also
// keeps the machine's other cables, which come and go with other tests, out of its sight.
func TestBrowser(t *testing.T) {
	t.Parallel()
	near, far := newHost(t, ""), newHost(t, pageHosts)
	server := startPage(t, far)
	tun := startFarTunnel(t, far, "--socks", near.nearAddr.String()+":0")

	if addrs, err := net.DefaultResolver.LookupHost(t.Context(), pageHost); err == nil {
		t.Fatalf("%s resolves on this side too, to %v", pageHost, addrs)
	}
	startChromium(t, near, "socks5://"+tun.local.socks, "http://"+pageHost+"/")
	var report pageReport
	select {
	case report = <-server.reports:
	case <-time.After(pageTime):
		once, _ := server.servedOnce()
		t.Fatalf("the page did not load within %v; %d of %d resources were served", pageTime, once, pageResources)
	}
	if report.Images != pageImages || report.Scripts != pageScripts || report.Styles != pageStyles ||
		report.Fetches != pageFetches || len(report.Bad) > 0 {
		t.Errorf("the page got %+v", report)
	}
	if once, more := server.servedOnce(); once != pageResources || len(more) > 0 {
		t.Errorf("the server served %d resources once, want %d; others %v", once, pageResources, more)
	}
}

// startChromium opens a page in a browser on a host, with a profile of its own, through a proxy, until the test ends.
func startChromium(t *testing.T, h *host, proxy, page string) {
	t.Helper()
	profile := filepath.Join(t.TempDir(), "profile")
	browser := start(t, "chromium", h.command(t, command(cleanEnv(t), t.TempDir(), needProgram(t, "chromium"),
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--user-data-dir="+profile, "--proxy-server="+proxy, page)))
	t.Cleanup(func() {
		if browser.running() {
			browser.signal(syscall.SIGTERM)
		}
		select {
		case <-browser.exited:
		case <-time.After(patience):
			t.Error("chromium did not stop")
		}
		// Its children leave its process group, and go on writing to the profile until they notice its end.
		poll(t, patience, "chromium's processes have ended", func() bool { return !anyProcess(profile) })
	})
}

// anyProcess says that a process was started with text in its arguments.
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
