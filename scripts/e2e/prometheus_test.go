//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"culvert/internal/testnet"
)

// labelNames are all labels of culvert's metrics: each has few values.
var labelNames = []string{"version", "goversion", "state", "reason", "result", "suite", "kind",
	"direction", "use", "bound", "le"}

// startObserved starts a remote and a local, both with --status.
func startObserved(t *testing.T) (remote, local *node) {
	t.Helper()
	server, client := newIdentity(t), newIdentity(t)
	authorized := writeFile(t, "authorized_keys", client.key+"\n")
	remote = startNode(t, "remote", culvert(t, remoteArgs(server,
		"--authorized-keys", authorized, "--status", "127.0.0.1:0")...))
	local = startNode(t, "local", culvert(t,
		localArgs(client, server, remote.url(), "--status", "127.0.0.1:0")...))
	return remote, local
}

// Prometheus scrapes both nodes, whose metrics promtool finds nothing to say about, and a remote
// that drains isn't ready while it still serves its metrics.
func TestPrometheus(t *testing.T) {
	t.Parallel()
	remote, local := startObserved(t)
	web := startSite(t)
	must(t, patience, curl(t, local.socks, patience, "--output", "/dev/null",
		web.URL+"/random/100000"))

	targets := make([]string, 2)
	for i, node := range []*node{remote, local} {
		base, _, _ := strings.Cut(node.statusURL, "/?")
		text := getURL(t, base+"/metrics")
		check := command(cleanEnv(t), t.TempDir(), needProgram(t, "promtool"), "check", "metrics")
		check.Stdin = strings.NewReader(text)
		if r := run(t, patience, check); r.status != 0 || r.stdout+r.stderr != "" {
			t.Errorf("promtool: status %d\n%s%s", r.status, r.stdout, r.stderr)
		}
		for _, m := range regexp.MustCompile(`(?m)^culvert_\w+\{(.*)\} `).FindAllStringSubmatch(
			text, -1) {
			for _, label := range regexp.MustCompile(`(\w+)="[^"]*"`).FindAllStringSubmatch(m[1], -1) {
				if !slices.Contains(labelNames, label[1]) {
					t.Errorf("the label %s is unknown: %s", label[1], m[0])
				}
			}
		}
		if health := getURL(t, base+"/healthz"); health != "ok\n" {
			t.Errorf("health: %q", health)
		}
		if ready := getURL(t, base+"/readyz"); ready != "ready\n" {
			t.Errorf("readiness: %q", ready)
		}
		targets[i] = strings.TrimPrefix(base, "http://")
	}

	address := "127.0.0.1:" + testnet.FreePort(t)
	config := writeFile(t, "prometheus.yml", fmt.Sprintf(`global: {scrape_interval: 1s}
scrape_configs:
- job_name: culvert
  static_configs: [{targets: [%q, %q]}]
`, targets[0], targets[1]))
	start(t, "prometheus", command(cleanEnv(t), t.TempDir(), needProgram(t, "prometheus"),
		"--config.file="+config, "--storage.tsdb.path="+filepath.Join(t.TempDir(), "data"),
		"--web.listen-address="+address))
	for query, want := range map[string]string{
		`sum(up)`:                           "2",
		`culvert_session_up`:                "1",
		`culvert_sessions{state="carried"}`: "1",
		`count(culvert_streams_total{kind="tcp",result="ok"}>0)`: "2",
		`count(culvert_bytes_total > 100000)`:                    "2",
		`count(culvert_handshakes_total{result="admitted"}==1)`:  "2",
		`culvert_dial_seconds_count{result="ok"}`:                "1",
	} {
		testnet.Poll(t, pageTime, "Prometheus knows "+query, func() bool {
			return queryPrometheus(address, query) == want
		})
	}

	// The remote drains for as long as the stream is open.
	drip := startDrip(t, &tunnel{local: local}, web, "endless")
	remote.signal(syscall.SIGTERM)
	testnet.Poll(t, patience, "the remote isn't ready", func() bool {
		response, err := http.Get("http://" + targets[0] + "/readyz")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		text, _ := io.ReadAll(response.Body)
		return response.StatusCode == http.StatusServiceUnavailable &&
			string(text) == "not ready: shutting down\n"
	})
	drip.kill()
}

// Another user of the machine learns nothing about who goes where: a port needs the token, and a
// unix socket its permissions.
func TestStatusOfAnotherUser(t *testing.T) {
	t.Parallel()
	needRoot(t, "it runs curl as another user")
	folder := t.TempDir()
	// It is the socket that keeps others out.
	for _, path := range []string{filepath.Dir(folder), folder} {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	socket := filepath.Join(folder, "status")
	tun := startTunnel(t, "--status", "unix:"+socket)
	remote := startNode(t, "remote", culvert(t, remoteArgs(tun.server,
		"--authorized-keys", tun.authorized, "--status", "127.0.0.1:0")...))
	base, query, _ := strings.Cut(remote.statusURL, "/?")
	asNobody := func(args ...string) result {
		cmd := command([]string{"PATH=/usr/bin:/bin"}, "/", needProgram(t, "curl"),
			append([]string{"-q", "--silent", "--max-time", "20", "--write-out", "%{http_code}"},
				args...)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		return run(t, patience, cmd)
	}
	for _, path := range []string{"/", "/api/state", "/api/events"} {
		if r := asNobody(base + path); !strings.HasSuffix(r.stdout, "403") ||
			strings.Contains(r.stdout, tun.server.key) {
			t.Errorf("%s as another user: %s", path, r.stdout)
		}
		if r := asNobody("--unix-socket", socket, "http://localhost"+path); r.status != curlConnect {
			t.Errorf("the socket as another user: status %d: %s", r.status, r.stdout)
		}
	}
	if r := asNobody(base + "/api/state?" + query); !strings.HasSuffix(r.stdout, "200") {
		t.Errorf("with the token: %s", r.stdout)
	}
}

// getURL returns what a server answers with status 200.
func getURL(t *testing.T, url string) string {
	t.Helper()
	response, err := (&http.Client{Timeout: patience}).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", url, response.Status, err)
	}
	return string(text)
}

// queryPrometheus returns the first value of a query, "" while there is none.
func queryPrometheus(address, query string) string {
	response, err := http.Get("http://" + address + "/api/v1/query?query=" + url.QueryEscape(query))
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	var answer struct {
		Data struct {
			Result []struct {
				Value []any `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if json.NewDecoder(response.Body).Decode(&answer) != nil || len(answer.Data.Result) == 0 {
		return ""
	}
	return fmt.Sprint(answer.Data.Result[0].Value[1])
}
