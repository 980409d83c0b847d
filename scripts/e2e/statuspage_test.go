//go:build linux

package e2e

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"culvert/internal/testnet"
)

// screenshots is where the pictures in docs/ come from.
var screenshots = flag.String("screenshots", "",
	"the folder to which TestStatusPage writes screenshots (make screenshots: docs/status-page)")

// statusTunnel is a tunnel both ends of which serve their status. The local is on a host, and
// reaches the remote through a relay.
type statusTunnel struct {
	*host
	remote, local *node
	relay         *testnet.Relay
}

func startStatusTunnel(t *testing.T, localFlags ...string) *statusTunnel {
	t.Helper()
	h := newHost(t, "")
	server, client := newIdentity(t), newIdentity(t)
	authorized := writeFile(t, "authorized_keys", client.key+" laptop of Ada\n")
	remote := startNode(t, "remote", culvert(t, remoteArgs(server,
		"--authorized-keys", authorized, "--status", "127.0.0.1:0")...))
	ln, err := net.Listen("tcp", h.nearAddr.String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	relay := testnet.StartRelay(t, ln, func() (net.Conn, error) {
		return net.Dial("tcp", remote.listen[0])
	}, testnet.RelayConfig{})
	flags := append([]string{"--status", "127.0.0.1:0", "--keepalive", "1s"}, localFlags...)
	local := startNode(t, "local", h.command(t, culvert(t,
		localArgs(client, server, "ws://"+relay.Address()+"/", flags...)...)))
	return &statusTunnel{h, remote, local, relay}
}

// get makes a request to the local's status as a program on its host does.
func (tun *statusTunnel) get(t *testing.T, path string) (status int, body string) {
	t.Helper()
	base, _, _ := strings.Cut(tun.local.statusURL, "/?")
	client := &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(_ context.Context, _, address string) (net.Conn, error) {
			return tun.dial(address)
		},
	}}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, body := testnet.Fetch(t, client, request)
	return response.StatusCode, body
}

// The status page shows a download as it runs, and that the connection is lost and the session
// resumed, without an error of the browser's, and without the token nothing.
func TestStatusPage(t *testing.T) {
	t.Parallel()
	tun := startStatusTunnel(t)
	web := httptest.NewServer(http.HandlerFunc(serveWaves))
	t.Cleanup(func() {
		web.CloseClientConnections()
		web.Close()
	})
	for _, path := range []string{"/", "/?token=guess", "/api/state", "/api/events"} {
		if status, body := tun.get(t, path); status != http.StatusForbidden ||
			strings.Contains(body, tun.relay.Address()) {
			t.Errorf("%s without the token: %d: %s", path, status, body)
		}
	}
	page := startDevtools(t, tun.host)
	page.resize(1200, 1000, "light")
	page.call("Page.enable", nil)
	page.call("Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": keepEventSource})
	page.call("Page.navigate", map[string]any{"url": tun.local.statusURL})
	page.await("the page shows that the local is connected",
		"document.getElementById('status')?.textContent", "connected")

	start(t, "curl", tun.command(t, curl(t, tun.local.socks, bulkTime, "--output", "/dev/null",
		web.URL)))
	target := strings.TrimPrefix(web.URL, "http://")
	const row = "document.querySelector('#streams tbody tr')"
	page.await("the download's stream is shown", row+"?.cells[1]?.textContent", target)
	page.changes("what the stream has received", row+".cells[7].textContent")
	page.changes("the rate", "document.getElementById('received').textContent")
	for _, plot := range []string{"throughput", "round-trip"} {
		page.changes(plot, "document.querySelector('#"+plot+" canvas').toDataURL()")
	}

	tun.relay.SetDown(true)
	tun.relay.Cut()
	page.await("the page shows that the connection is lost",
		"document.getElementById('status').textContent", "connection lost")
	tun.relay.SetDown(false)
	page.await("the page shows that it is back",
		"document.getElementById('status').textContent", "connected")
	const events = "[...document.querySelectorAll('#events b')].map((b) => b.textContent)"
	for _, event := range []string{"connection lost", "session resumed"} {
		page.await("the event is shown: "+event, events+".includes('"+event+"')", "true")
	}
	page.changes("what the stream has received", row+".cells[7].textContent")
	checkLateEvents(t, page)

	page.eval("document.querySelector('#sessions th button').click()")
	page.await("the sessions are sorted by their names",
		"document.querySelector('#sessions th').ariaSort", "ascending")
	page.resize(360, 1900, "light")
	page.await("the page is as narrow as a phone", "document.documentElement.scrollWidth", "360")
	for _, complaint := range page.complained() {
		t.Errorf("the page complains: %s", complaint)
	}
	if *screenshots != "" {
		tun.takeScreenshots(t, page)
	}
}

// keepEventSource makes the source of a page's events a global variable.
const keepEventSource = `window.EventSource = class extends EventSource {
	constructor(url) { super(url); window.source = this; }
}`

// checkLateEvents checks that events are in order, and shown once, however they come.
func checkLateEvents(t *testing.T, page *devtools) {
	t.Helper()
	for _, seq := range []int{1_000_005, 1_000_003, 1_000_005, 1_000_004, 1_000_003} {
		page.eval(fmt.Sprintf(`window.source.dispatchEvent(new MessageEvent('message', {data:
			JSON.stringify({seq: %d, time: new Date(), kind: 'resumed'})}))`, seq))
	}
	const shown = "[...document.querySelectorAll('#events li')].map((li) => li.value)"
	got := page.eval(shown)
	if !strings.HasPrefix(got, "1000005,1000004,1000003,") || strings.Count(got, "100000") != 3 {
		t.Errorf("the events are shown in the order %s", got)
	}
}

// serveWaves serves a download whose rate is never the same for long, until the client disconnects.
func serveWaves(w http.ResponseWriter, r *http.Request) {
	tick := time.NewTicker(dripPause)
	defer tick.Stop()
	for i := 0; ; i++ {
		piece := bytes.Repeat([]byte("."), (20+i%30)<<10)
		if _, err := w.Write(piece); err != nil || http.NewResponseController(w).Flush() != nil {
			return
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}

// takeScreenshots takes those in docs/, once the plots have something to show.
func (tun *statusTunnel) takeScreenshots(t *testing.T, page *devtools) {
	for range 40 {
		page.changes("throughput", "document.querySelector('#throughput canvas').toDataURL()")
	}
	for _, picture := range []struct {
		name, scheme  string
		width, height int
	}{{"light", "light", 1200, 1060}, {"dark", "dark", 1200, 1060}, {"narrow", "light", 360, 1700}} {
		page.resize(picture.width, picture.height, picture.scheme)
		page.changes("throughput", "document.querySelector('#throughput canvas').toDataURL()")
		page.screenshot(filepath.Join(*screenshots, picture.name+".png"))
	}
}
