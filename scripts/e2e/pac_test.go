//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"testing"
	"time"
)

// deadPage requests a target that doesn't answer, over both schemes, and reports how many seconds
// each request took to fail.
var deadPage = template.Must(template.New("dead").Parse(`<!DOCTYPE html>
<html><head><meta charset="utf-8"><title>a dead target</title><script>
  'use strict';
  async function seconds(url) {
    const began = performance.now();
    try { await fetch(url, { mode: 'no-cors', cache: 'no-store' }); } catch {}
    return (performance.now() - began) / 1000;
  }
  Promise.all([seconds('http://{{.}}/'), seconds('https://{{.}}/')]).then((times) =>
    fetch('/report', { method: 'POST', body: JSON.stringify(times) }));
</script></head></html>
`))

// deadHost resolves to loopback on the remote's host.
const deadHost = "silent.culvert.test"

const (
	targetTime = 20 * time.Second // how long a remote tries a target
	remoteTime = 10 * time.Second // how long a new connection waits for a remote
)

// deadWorld is a host for browsers, a tunnel, and a target that doesn't answer.
type deadWorld struct {
	near   *host
	tunnel *tunnel
	target string
}

func newDeadWorld(t *testing.T) *deadWorld {
	t.Helper()
	near, far := newHost(t, ""), newHost(t, "127.0.0.1 "+deadHost+"\n")
	_, port, err := net.SplitHostPort(far.silentPort(t))
	if err != nil {
		t.Fatal(err)
	}
	address := near.nearAddr.String()
	return &deadWorld{near, startFarTunnel(t, far, "--socks", address+":0", "--pac", address+":0",
		"--pac-direct", address+"/32"), net.JoinHostPort(deadHost, port)}
}

// wait opens deadPage in a browser on the host, and returns how long each of its requests took. The
// PAC file is the local's if proxies is empty, and otherwise returns proxies.
func (w *deadWorld) wait(
	t *testing.T, open func(t *testing.T, h *host, pac, page string), proxies string,
) (times []time.Duration) {
	t.Helper()
	ln, err := net.Listen("tcp", w.near.nearAddr.String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	site, reports := http.NewServeMux(), make(chan []float64, 1)
	site.HandleFunc("GET /{$}", func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		deadPage.Execute(rw, w.target)
	})
	site.HandleFunc("GET /proxy.pac", func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "application/x-ns-proxy-autoconfig")
		fmt.Fprintf(rw, "function FindProxyForURL(url, host) { return host === %q ? %q : %q; }",
			w.near.nearAddr, "DIRECT", proxies)
	})
	site.HandleFunc("POST /report", func(rw http.ResponseWriter, r *http.Request) {
		var seconds []float64
		if err := json.NewDecoder(r.Body).Decode(&seconds); err != nil {
			t.Error(err)
		}
		reports <- seconds
	})
	serveOn(t, ln, site.ServeHTTP)
	page, pac := "http://"+ln.Addr().String()+"/", w.tunnel.local.pac
	if proxies != "" {
		pac = page + "proxy.pac"
	}
	open(t, w.near, pac, page)
	select {
	case seconds := <-reports:
		for _, n := range seconds {
			times = append(times, time.Duration(n*float64(time.Second)))
		}
	case <-time.After(pageTime):
		t.Fatalf("no report within %v", pageTime)
	}
	return times
}

// pacBrowsers open a page using a PAC file.
var pacBrowsers = map[string]func(t *testing.T, h *host, pac, page string){
	"chromium": func(t *testing.T, h *host, pac, page string) {
		startChromium(t, h, "--proxy-pac-url="+pac, page)
	},
	"firefox": func(t *testing.T, h *host, pac, page string) {
		prefs := map[string]any{
			"network.proxy.type": 2, "network.proxy.autoconfig_url": pac,
			// The addresses of a new host change for some seconds, and Firefox then closes connections
			// on which nothing comes for this time, 5 s by default.
			"network.http.network-changed.timeout": 2 * int(pageTime/time.Second),
		}
		startFirefox(t, h, prefs, page)
	},
}

// With the PAC file, browsers wait once for a target that doesn't answer, and once for a remote
// that can't be reached. If the file named SOCKS5 first, they would wait twice for the target.
func TestPACWaitsOnce(t *testing.T) {
	t.Parallel()
	for name, open := range pacBrowsers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newDeadWorld(t)
			x := w.tunnel.local.socks
			times := w.wait(t, open, "SOCKS5 "+x+"; PROXY "+x)
			if min(times[0], times[1]) < 2*targetTime-time.Second {
				t.Errorf("with SOCKS5 first: %v, want two attempts of %v", times, targetTime)
			}
			once := func(attempt time.Duration) {
				times := w.wait(t, open, "")
				if min(times[0], times[1]) < attempt-time.Second ||
					max(times[0], times[1]) > attempt*3/2 {
					t.Errorf("%v, want one attempt of %v", times, attempt)
				}
			}
			once(targetTime)
			w.tunnel.remote.stop()
			once(remoteTime)
		})
	}
}
