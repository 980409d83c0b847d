//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// oddPage fetches all odd responses, a path that net/url rejects, and one whose upload is refused
// midway, and reports the outcome of each.
var oddPage = template.Must(template.New("odd").Parse(`<!DOCTYPE html>
<html><head><meta charset="utf-8"><title>odd responses</title><script>
  'use strict';
  async function get(path, options) {
    try {
      const response = await fetch(path, { cache: 'no-store', ...options });
      const body = new Uint8Array(await response.arrayBuffer());
      return response.status + ' ' + String.fromCharCode(...body);
    } catch (err) {
      return 'failed';
    }
  }
  (async () => {
    const report = {};
    for (let i = 0; i < {{.}}; i++) report[i] = await get('/odd/' + i);
    report.path = await get('/100%?50%off');
    report.early = await get('/early', { method: 'POST', body: new Uint8Array(8 << 20) });
    await get('/first');
    report.stale = await get('/stale', { method: 'POST', body: 'abc' });
    await fetch('/report', { method: 'POST', body: JSON.stringify(report) });
  })();
</script></head></html>
`))

// oddSite serves the page to browsers.
type oddSite struct {
	t       *testing.T
	reports chan map[string]string
	stale   atomic.Int32 // connections closed as a request arrived
}

func (s *oddSite) answer() func(head string, in *bufio.Reader, conn net.Conn) bool {
	kept := make(chan net.Conn, 1) // the connection that has served /first
	return func(head string, in *bufio.Reader, conn net.Conn) bool {
		req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(strings.Replace(head, "%?50%",
			"%25?50%25", 1))))
		if err != nil {
			s.t.Errorf("%q: %v", head, err)
			return false
		}
		ok := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
		switch path := req.URL.Path; {
		case path == "/":
			var page bytes.Buffer
			if err := oddPage.Execute(&page, len(oddResponses)); err != nil {
				s.t.Error(err)
			}
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s",
				page.Len(), &page)
		case strings.HasPrefix(path, "/odd/"):
			n, _ := strconv.Atoi(path[len("/odd/"):])
			io.WriteString(conn, oddResponses[n].said)
			return false
		case path == "/100%":
			io.WriteString(conn, ok)
		case path == "/early":
			return answerEarly(head, in, conn)
		case path == "/first":
			select {
			case kept <- conn:
			default: // the retry
			}
			io.WriteString(conn, ok)
		case path == "/stale":
			select {
			case first := <-kept:
				if first == conn {
					s.stale.Add(1)
					conn.Close()
					return false
				}
			default:
			}
			io.CopyN(io.Discard, in, req.ContentLength)
			io.WriteString(conn, ok)
		case path == "/report":
			report := make(map[string]string)
			if err := json.NewDecoder(io.LimitReader(in, req.ContentLength)).Decode(&report); err != nil {
				s.t.Errorf("decode the report: %v", err)
			}
			io.WriteString(conn, ok)
			s.reports <- report
		default: // /favicon.ico, for one
			io.WriteString(conn, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
		}
		return true
	}
}

// Chromium and Firefox handle odd responses, a response during an upload, and a connection that
// closes under a request the same through the HTTP proxy as directly on the site's own host.
func TestHTTPProxyBrowsers(t *testing.T) {
	t.Parallel()
	near, far := newHost(t, ""), newHost(t, pageHosts)
	site := &oddSite{t: t, reports: make(chan map[string]string, 1)}
	serveRaw(t, far.listen(t, "127.0.1.1:80"), site.answer())
	tun := startFarTunnel(t, far, "--socks", near.nearAddr.String()+":0")
	page := "http://" + pageHost + "/"
	for name, open := range map[string]func(t *testing.T, h *host, proxy string){
		"chromium": func(t *testing.T, h *host, proxy string) {
			flag := "--no-proxy-server"
			if proxy != "" {
				flag = "--proxy-server=http://" + proxy
			}
			startChromium(t, h, flag, page)
		},
		"firefox": func(t *testing.T, h *host, proxy string) {
			startFirefox(t, h, httpProxy(t, proxy), page)
		},
	} {
		load := func(t *testing.T, h *host, proxy string) (report map[string]string) {
			how := "direct"
			if proxy != "" {
				how = "proxy"
			}
			t.Run(name+" "+how, func(t *testing.T) {
				open(t, h, proxy)
				select {
				case report = <-site.reports:
				case <-time.After(pageTime):
					t.Fatalf("no report within %v", pageTime)
				}
			})
			return report
		}
		direct := load(t, far, "")
		site.stale.Store(0)
		through := load(t, near, tun.local.socks)
		for _, key := range slices.Sorted(maps.Keys(direct)) {
			if direct[key] == through[key] {
				continue
			}
			// Firefox takes a status line in lower case for the beginning of the page.
			if n, err := strconv.Atoi(key); name == "firefox" && err == nil &&
				oddResponses[n].name == "lower case" {
				continue
			}
			t.Errorf("%s: %s is %q, and %q through the proxy", name, key, direct[key], through[key])
		}
		for key, want := range map[string]string{"0": "200 ok", "path": "200 ok", "early": "413 big\n",
			"stale": "200 ok"} {
			if through[key] != want {
				t.Errorf("%s: %s is %q, want %q", name, key, through[key], want)
			}
		}
		if n := site.stale.Load(); n == 0 {
			t.Errorf("%s: no connection was closed under a request", name)
		}
		for i, tt := range oddResponses {
			if got := through[strconv.Itoa(i)]; name == "chromium" && got != "200 ok" &&
				!strings.HasPrefix(tt.want, "18 ") { // these are truncated
				t.Errorf("%s: %s is %q", name, tt.name, got)
			}
		}
	}
}

// httpProxy returns Firefox's preferences for an HTTP proxy, or for none if address is empty.
func httpProxy(t *testing.T, address string) map[string]any {
	t.Helper()
	if address == "" {
		return map[string]any{"network.proxy.type": 0}
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]any{
		"network.proxy.type": 1,
		"network.proxy.http": host, "network.proxy.http_port": number,
		"network.proxy.ssl": host, "network.proxy.ssl_port": number,
	}
}

// firefoxProfile makes a profile with the preferences of a proxy, and more in the form of user.js,
// in which Firefox generates no traffic of its own.
func firefoxProfile(t *testing.T, proxy map[string]any, more string) (folder string) {
	t.Helper()
	prefs := map[string]any{
		"network.captive-portal-service.enabled":     false,
		"network.connectivity-service.enabled":       false,
		"browser.shell.checkDefaultBrowser":          false,
		"browser.safebrowsing.downloads.enabled":     false,
		"browser.aboutwelcome.enabled":               false,
		"browser.newtabpage.enabled":                 false,
		"browser.startup.homepage_override.mstone":   "ignore",
		"datareporting.policy.dataSubmissionEnabled": false,
		"toolkit.telemetry.reportingpolicy.firstRun": false,
		"app.normandy.enabled":                       false,
		"dom.security.https_first":                   false,
	}
	maps.Copy(prefs, proxy)
	var text strings.Builder
	for name, value := range prefs {
		b, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, "user_pref(%q, %s);\n", name, b)
	}
	return filepath.Dir(writeFile(t, "user.js", text.String()+more))
}

// startFirefox opens a page in Firefox on a host, with a profile of its own, until the test ends.
func startFirefox(t *testing.T, h *host, proxy map[string]any, page string) {
	t.Helper()
	profile := firefoxProfile(t, proxy, "")
	browser := start(t, "firefox", h.command(t, command(append(cleanEnv(t),
		"MOZ_CRASHREPORTER_DISABLE=1"), t.TempDir(),
		needProgram(t, "firefox-esr"), "--headless", "--no-remote", "--profile", profile, page)))
	t.Cleanup(func() { stopBrowser(t, browser, profile) })
}
