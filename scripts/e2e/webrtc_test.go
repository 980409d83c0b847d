//go:build linux

package e2e

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"culvert/internal/testnet"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// callPage makes WebRTC query STUN and TURN servers, by address and by name, over UDP and TCP, and
// requests a DNS prefetch. It reports its candidates once there are no more, or after 20 s, or
// immediately if WebRTC is unavailable.
var callPage = template.Must(template.New("call").Parse(`<!DOCTYPE html>
<html><head><meta charset="utf-8"><title>a call</title>
<link rel="dns-prefetch" href="//prefetch.culvert.test"><script>
  'use strict';
  const candidates = [];
  const report = () => fetch('/report', { method: 'POST', body: JSON.stringify(candidates) });
  setTimeout(report, 20_000);
  window.onerror = report;
  const connection = new RTCPeerConnection({ iceServers: [
    { urls: ['stun:{{.}}:3478', 'stun:stun.culvert.test:3478'] },
    { urls: ['turn:{{.}}:3478?transport=tcp', 'turn:turn.culvert.test:3478?transport=udp',
        'turn:turn.culvert.test:3478?transport=tcp'], username: 'alice', credential: 'secret' },
  ] });
  connection.onicecandidate = (event) => {
    if (event.candidate) candidates.push(event.candidate.candidate);
  };
  connection.onicegatheringstatechange = () => {
    if (connection.iceGatheringState === 'complete') report();
  };
  connection.createDataChannel('data');
  connection.createOffer().then((offer) => connection.setLocalDescription(offer));
</script></head></html>
`))

// wire records the traffic of a host that bypasses a proxy: the destinations of STUN messages, and
// the names in DNS queries.
type wire struct {
	mu    sync.Mutex
	stun  []string
	names []string
}

func (w *wire) seen() (stun, names []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.stun), slices.Clone(w.names)
}

// tap captures packets on all interfaces of a host, loopback included, until the test ends.
func tap(t *testing.T, h *host) *wire {
	t.Helper()
	all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
	fd, err := inNamespace(h.name, func() (int, error) {
		return unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(all))
	})
	if err != nil {
		t.Fatal(err)
	}
	// Reading ends with the test.
	timeout := unix.NsecToTimeval(int64(100 * time.Millisecond))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		t.Fatal(err)
	}
	w := &wire{}
	ended := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		packet := make([]byte, 64<<10)
		for {
			select {
			case <-ended:
				return
			default:
			}
			n, from, err := unix.Recvfrom(fd, packet, 0)
			link, ok := from.(*unix.SockaddrLinklayer)
			if err == nil && ok && link.Pkttype == unix.PACKET_OUTGOING {
				w.note(packet[:n])
			}
		}
	})
	t.Cleanup(func() {
		close(ended)
		reading.Wait()
		unix.Close(fd)
	})
	return w
}

// note records an IP packet if it is a STUN message or a DNS query.
func (w *wire) note(p []byte) {
	const udp, tcp = unix.IPPROTO_UDP, unix.IPPROTO_TCP
	var protocol byte
	var to net.IP
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		protocol, to, p = p[9], net.IP(p[16:20]), p[min(len(p), int(p[0]&15)*4):]
	case len(p) >= 40 && p[0]>>4 == 6: // extension headers are not followed
		protocol, to, p = p[6], net.IP(p[24:40]), p[40:]
	}
	if len(p) < 8 || protocol != udp && protocol != tcp {
		return
	}
	port := binary.BigEndian.Uint16(p[2:])
	payload := p[8:]
	if protocol == tcp {
		if len(p) < 20 {
			return
		}
		payload = p[min(len(p), int(p[12]>>4)*4):]
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if protocol == udp && (port == 53 || port == 5353) || protocol == tcp && port == 53 {
		w.names = append(w.names, question(payload, port))
	}
	// The magic cookie of RFC 8489, section 5, or a connection to a TURN server.
	if len(payload) >= 20 && binary.BigEndian.Uint32(payload[4:]) == 0x2112a442 || port == 3478 {
		w.stun = append(w.stun, fmt.Sprintf("%v:%d", to, port))
	}
}

// question returns the name that a DNS query asks for.
func question(p []byte, port uint16) string {
	var m dnsmessage.Message
	if err := m.Unpack(p); err != nil || len(m.Questions) == 0 {
		return fmt.Sprintf("no question, to port %d", port)
	}
	return m.Questions[0].Name.String()
}

// browserRun is a browser that `culvert run` starts on a host that reaches only the remote and its
// own machine. The remote's host serves the page, and has names that resolve only there.
type browserRun struct {
	near, far *host
	command   func(t *testing.T, url string) *exec.Cmd
	profile   string // of the browser, which is in the arguments of its processes
}

// newBrowserRun prepares a run of a shell script. Its arguments are the page's URL and flags that a
// browser needs in a test.
func newBrowserRun(t *testing.T, script string, args ...string) *browserRun {
	t.Helper()
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	near := newHost(t, "127.0.1.1 "+name+"\n") // Firefox looks it up
	// Firefox looks up its address towards the Internet.
	must(t, patience, exec.Command(needProgram(t, "ip"), "-n", near.name, "route", "add", "default",
		"via", near.nearAddr.String()))
	far := newHost(t, "127.0.1.1 "+pageHost+"\n127.0.1.5 stun.culvert.test turn.culvert.test "+
		"prefetch.culvert.test\n")
	server, client := newIdentity(t), newIdentity(t)
	authorized := writeFile(t, "authorized_keys", client.key+"\n")
	remote := startNode(t, "remote", far.command(t, culvert(t,
		remoteArgs(server, "--listen", far.addr.String()+":0", "--authorized-keys", authorized)...)))
	ln, err := net.Listen("tcp", near.nearAddr.String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	dial := func() (net.Conn, error) { return net.Dial("tcp", remote.listen[0]) }
	testnet.StartRelay(t, ln, dial, testnet.RelayConfig{})
	command := func(t *testing.T, url string) *exec.Cmd {
		run := []string{
			"run", "--key", client.file, "--remote-key", server.key, "--open-proxy", "127.0.0.1:1080",
			"ws://" + ln.Addr().String() + "/", "--", "sh", "-c", script + ` "$@"`, "sh",
		}
		return near.command(t, culvert(t, append(append(run, args...), url)...))
	}
	return &browserRun{near: near, far: far, command: command}
}

// open opens a page until the test ends.
func (b *browserRun) open(t *testing.T, url string) {
	t.Helper()
	browser := start(t, "culvert run", b.command(t, url))
	t.Cleanup(func() {
		if browser.running() {
			browser.signal(syscall.SIGTERM)
		}
		browser.wait(patience)
		testnet.Poll(t, patience, "the browser's processes have ended", func() bool {
			return !anyProcess(b.profile)
		})
	})
}

// newChromiumRun prepares a Chromium with the flags in the script.
func newChromiumRun(t *testing.T, script string) *browserRun {
	t.Helper()
	needProgram(t, "chromium")
	profile := filepath.Join(t.TempDir(), "profile")
	b := newBrowserRun(t, script, chromiumFlags(profile)...)
	b.profile = profile
	return b
}

// newFirefoxRun prepares a Firefox that uses the proxy, with additional preferences in the form of
// user.js.
func newFirefoxRun(t *testing.T, prefs string) *browserRun {
	t.Helper()
	profile := firefoxProfile(t, httpProxy(t, "127.0.0.1:1080"), prefs)
	b := newBrowserRun(t, "MOZ_CRASHREPORTER_DISABLE=1 exec "+needProgram(t, "firefox-esr"),
		"--headless", "--no-remote", "--profile", profile)
	b.profile = profile
	return b
}

// browserTutorial holds the commands that the tests below run.
const browserTutorial = "../../docs/tutorial-browser.md"

// documented returns what the expression's group matches in the tutorial.
func documented(t *testing.T, expression string) string {
	t.Helper()
	text, err := os.ReadFile(browserTutorial)
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(expression).FindSubmatch(text)
	if found == nil {
		t.Fatalf("%s has no %s", browserTutorial, expression)
	}
	return string(found[1])
}

// documentedChromium is the tutorial's command, documentedFirefox its user.js.
func documentedChromium(t *testing.T) string {
	t.Helper()
	return "exec " + documented(t,
		"(?s)```text\nculvert run --open-proxy 127.0.0.1:1080 [^ ]* -- (.*?)\n```")
}

func documentedFirefox(t *testing.T) string {
	t.Helper()
	return documented(t, "(?s)```text\n(user_pref.*?)```")
}

const plainChromium = "exec chromium --proxy-server=127.0.0.1:1080"

// WebRTC bypasses a proxy with STUN messages and DNS queries. With the documented settings neither
// leaves the browser's host. Without them, both do.
func TestBrowserWebRTC(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		newRun func(t *testing.T) *browserRun
		leaks  bool
	}{
		"chromium alone": {func(t *testing.T) *browserRun {
			return newChromiumRun(t, plainChromium)
		}, true},
		"chromium": {func(t *testing.T) *browserRun {
			return newChromiumRun(t, documentedChromium(t))
		}, false},
		"chromium with the policy": {func(t *testing.T) *browserRun {
			b := newChromiumRun(t, plainChromium+
				" --host-resolver-rules='MAP * ~NOTFOUND, EXCLUDE 127.0.0.1'")
			setChromiumPolicy(t, b.near, `{"WebRtcIPHandling": "disable_non_proxied_udp"}`)
			return b
		}, false},
		"firefox alone": {func(t *testing.T) *browserRun { return newFirefoxRun(t, "") }, true},
		"firefox": {func(t *testing.T) *browserRun {
			return newFirefoxRun(t, documentedFirefox(t))
		}, false},
		"firefox with proxied calls": {func(t *testing.T) *browserRun {
			const off, proxied = `("media.peerconnection.enabled", false)`,
				`("media.peerconnection.ice.proxy_only", true)`
			prefs := strings.Replace(documentedFirefox(t), off, proxied, 1)
			if !strings.Contains(prefs, proxied) {
				t.Errorf("no %s in the documented preferences", off)
			}
			return newFirefoxRun(t, prefs)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := test.newRun(t)
			w := tap(t, b.near)
			reports := serveCalls(t, b)
			b.open(t, "http://"+pageHost+"/")
			if test.leaks {
				testnet.Poll(t, pageTime, "STUN and questions for names go around the proxy", func() bool {
					stun, names := w.seen()
					return len(stun) > 0 && slices.Contains(names, "stun.culvert.test.") &&
						slices.Contains(names, "turn.culvert.test.")
				})
				return
			}
			select {
			case candidates := <-reports:
				stun, names := w.seen()
				if len(stun)+len(names)+len(candidates) > 0 {
					t.Errorf("STUN to %q, questions for %q, candidates %q", stun, names, candidates)
				}
			case <-time.After(pageTime):
				t.Fatalf("no report within %v", pageTime)
			}
		})
	}
}

// setChromiumPolicy sets a host's Chromium policies in /etc/chromium, over which ip netns exec
// mounts the host's own files.
func setChromiumPolicy(t *testing.T, h *host, text string) {
	t.Helper()
	folder := filepath.Join("/etc/netns", h.name, "chromium", "policies", "managed")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "test.json"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// serveCalls serves callPage on the remote's host, and returns the first report.
func serveCalls(t *testing.T, b *browserRun) <-chan []string {
	t.Helper()
	reports := make(chan []string, 1)
	site := http.NewServeMux()
	site.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		callPage.Execute(w, b.near.nearAddr.String())
	})
	site.HandleFunc("POST /report", func(w http.ResponseWriter, r *http.Request) {
		var candidates []string
		if err := json.NewDecoder(r.Body).Decode(&candidates); err != nil {
			t.Error(err)
		}
		select {
		case reports <- candidates:
		default:
		}
	})
	serveOn(t, b.far.listen(t, "127.0.1.1:80"), site.ServeHTTP)
	return reports
}

// Browsers reach localhost without the proxy, and through it with the documented settings.
func TestBrowserLocalhost(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		newRun func(t *testing.T) *browserRun
		want   string
	}{
		"chromium alone": {func(t *testing.T) *browserRun {
			return newChromiumRun(t, plainChromium)
		}, "near"},
		"chromium": {func(t *testing.T) *browserRun {
			return newChromiumRun(t, documentedChromium(t))
		}, "far"},
		"firefox alone": {func(t *testing.T) *browserRun { return newFirefoxRun(t, "") }, "near"},
		"firefox": {func(t *testing.T) *browserRun {
			return newFirefoxRun(t, documentedFirefox(t))
		}, "far"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := test.newRun(t)
			got := make(chan string, 1)
			for side, h := range map[string]*host{"near": b.near, "far": b.far} {
				ln := h.listen(t, "127.0.0.1:8099")
				serveOn(t, ln, func(w http.ResponseWriter, r *http.Request) {
					select {
					case got <- side:
					default:
					}
				})
			}
			b.open(t, "http://localhost:8099/")
			select {
			case side := <-got:
				if side != test.want {
					t.Errorf("loaded from the %s side, want the %s side", side, test.want)
				}
			case <-time.After(pageTime):
				t.Fatalf("not loaded within %v", pageTime)
			}
		})
	}
}
