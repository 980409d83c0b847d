//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"culvert/internal/testnet/link"
)

// speedReport is what culvert speed --json prints.
type speedReport struct {
	Remote   string        `json:"remote"`
	Download speedTransfer `json:"download"`
	Upload   speedTransfer `json:"upload"`
	Error    string        `json:"error"`
	Status   int           `json:"status"`
}

type speedTransfer struct {
	Rate     float64 `json:"bytes_per_second"`
	Segments *int64  `json:"segments"`
	Resent   *int64  `json:"retransmitted"`
	Reason   struct {
		Limit   string `json:"limit"`
		End     string `json:"end"`
		Setting string `json:"setting"`
		Value   int64  `json:"value"`
	} `json:"reason"`
}

// reason returns the reason as "limit", "limit at end" or "limit at end, setting value".
func (t speedTransfer) reason() string {
	text := t.Reason.Limit
	if t.Reason.End != "" {
		text += " at " + t.Reason.End
	}
	if t.Reason.Setting != "" {
		text += fmt.Sprintf(", %s %d", t.Reason.Setting, t.Reason.Value)
	}
	return text
}

// speedLink is a link of which culvert speed has to find the limit.
type speedLink struct {
	link       *link.Config      // nil for loopback
	congestion string            // of both ends
	near, far  map[string]string // settings of the kernel of the local and the remote
	window     time.Duration
	down, up   string  // reasons; "" for any
	rate       float64 // of the link in bytes a second, if that is the limit
}

// smallBuffers is a value of tcp_rmem and tcp_wmem that limits TCP to some MB/s at most.
const smallBuffers = "4096 32768 65536"

var speedLinks = map[string]speedLink{
	"short and fat": {window: time.Second, down: "cpu", up: "cpu"},
	"slow": {
		// The queue takes the bursts of an emulator that waits for processors.
		link: &link.Config{Delay: 15 * time.Millisecond, Rate: 10e6, Queue: 1 << 20}, congestion: "bbr",
		window: 2 * time.Second, down: "link", up: "link", rate: 10e6 / 8,
	},
	"a small receive window at the local": {
		link: &link.Config{Delay: 20 * time.Millisecond, Rate: 30e6}, congestion: "bbr",
		near:   map[string]string{"net.ipv4.tcp_rmem": smallBuffers},
		window: 2 * time.Second, down: "receive-window at local, net.ipv4.tcp_rmem 65536",
	},
	"a small receive window and send buffer at the remote": {
		link: &link.Config{Delay: 20 * time.Millisecond, Rate: 30e6}, congestion: "bbr",
		far: map[string]string{
			"net.ipv4.tcp_rmem": smallBuffers, "net.ipv4.tcp_wmem": smallBuffers,
		},
		window: 2 * time.Second, down: "send-buffer at remote, net.ipv4.tcp_wmem 65536",
		up: "receive-window at remote, net.ipv4.tcp_rmem 65536",
	},
	"lossy": {
		link: &link.Config{Delay: 15 * time.Millisecond, Rate: 30e6, Loss: 0.03, Seed: 1},
		// BBR carries almost as much as without loss.
		congestion: "reno", window: 4 * time.Second, down: "loss", up: "loss",
	},
}

// Each kind of link has its own reason.
func TestSpeedReasons(t *testing.T) {
	t.Parallel()
	needRoot(t, "it makes network namespaces")
	for name, test := range speedLinks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			report := test.measure(t)
			for _, way := range []struct {
				name, want string
				got        speedTransfer
			}{{"download", test.down, report.Download}, {"upload", test.up, report.Upload}} {
				got := way.got.reason()
				if way.want != "" && got != way.want && !strings.HasPrefix(got, way.want+" at ") {
					t.Errorf("%s is limited by %s, want %s: %+v", way.name, got, way.want, way.got)
				}
				if way.got.Rate <= 0 || way.got.Segments == nil || way.got.Resent == nil {
					t.Errorf("%s: %+v", way.name, way.got)
				}
				if r := way.got.Rate; test.rate > 0 && (r < test.rate*0.3 || r > test.rate*1.1) {
					t.Errorf("%s: %.0f bytes a second on a link of %.0f", way.name, r, test.rate)
				}
			}
		})
	}
}

// set sets settings of the host's kernel.
func (h *host) set(t *testing.T, settings map[string]string) {
	t.Helper()
	for name, value := range settings {
		must(t, patience, h.command(t, exec.Command("sysctl", "-qw", name+"="+value)))
	}
}

// measure runs culvert speed.
func (s speedLink) measure(t *testing.T) speedReport {
	t.Helper()
	runNear := func(cmd *exec.Cmd) *exec.Cmd { return cmd }
	runFar, address := runNear, "127.0.0.1:0"
	if s.link != nil {
		l, err := link.New(*s.link)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
		near, far := &host{name: l.A.Namespace}, &host{name: l.B.Namespace}
		address = l.B.Addr.String() + ":0"
		near.set(t, s.near)
		far.set(t, s.far)
		runNear = func(cmd *exec.Cmd) *exec.Cmd { return near.command(t, cmd) }
		runFar = func(cmd *exec.Cmd) *exec.Cmd { return far.command(t, cmd) }
	}
	server, client := newIdentity(t), newIdentity(t)
	remote := remoteArgs(server, "--listen", address, "--allow-anyone")
	local := []string{"speed", "--json", "--duration", s.window.String(), "--key", client.file,
		"--remote-key", server.key}
	if s.congestion != "" {
		remote = append(remote, "--congestion", s.congestion)
		local = append(local, "--congestion", s.congestion)
	}
	node := startNode(t, "remote", runFar(culvert(t, remote...)))
	out := must(t, patience, runNear(culvert(t, append(local, node.url())...)))
	var report speedReport
	if err := json.Unmarshal([]byte(out), &report); err != nil || report.Remote != node.url() {
		t.Fatalf("%v: %s", err, out)
	}
	return report
}

// A remote may refuse speed tests: people are told, and programs.
func TestSpeedRefused(t *testing.T) {
	t.Parallel()
	server, client := newIdentity(t), newIdentity(t)
	off := startNode(t, "remote", culvert(t, remoteArgs(server, "--allow-anyone", "--no-speed")...))
	args := []string{"speed", "--key", client.file, "--remote-key", server.key, "--json", off.url()}
	r := run(t, patience, culvert(t, args...))
	want := "culvert: the speed can't be measured: " +
		"the remote's operator has switched speed tests off\n" +
		"ask for a remote without --no-speed, or measure a download through the tunnel\n"
	if r.status != 1 || r.stderr != want {
		t.Errorf("status %d, %s", r.status, r.stderr)
	}
	var report speedReport
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil || report.Status != 1 ||
		!strings.HasPrefix(report.Error, "the speed can't be measured: ") {
		t.Errorf("%v: %s", err, r.stdout)
	}
}
