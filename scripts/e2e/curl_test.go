//go:build linux

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http/httptest"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	// bulk is the size of the large transfers in bytes.
	bulk = 256 << 20

	// bulkTime bounds each of them. One takes about 4 s with the race detector on an idle machine.
	bulkTime = 2 * time.Minute
)

// Exit statuses of curl(1) without a connection and after a truncated transfer.
const (
	curlConnect   = 7
	curlPartial   = 18 // less than Content-Length
	curlRecvError = 56 // the connection broke
)

// curl returns a command that runs curl through a SOCKS5 port, which also resolves names.
func curl(t *testing.T, socks string, timeout time.Duration, args ...string) *exec.Cmd {
	t.Helper()
	return command(cleanEnv(t), t.TempDir(), needProgram(t, "curl"), append([]string{
		"-q", "--silent", "--show-error", "--fail",
		"--max-time", strconv.Itoa(int(timeout / time.Second)), "--socks5-hostname", socks,
	}, args...)...)
}

// startDrip starts a slow download, and waits until some of it has arrived.
func startDrip(t *testing.T, tun *tunnel, web *httptest.Server, length string) *process {
	t.Helper()
	download := start(t, "curl",
		curl(t, tun.local.socks, bulkTime, "--no-buffer", web.URL+"/drip/"+length))
	download.stdout.waitLine(t, download, "", patience)
	return download
}

// wasCut checks that a download reported that it was truncated: by a reset or, if the process that
// would have sent it is gone, by HTTP framing.
func wasCut(t *testing.T, download *process) {
	t.Helper()
	if status := download.wait(patience); status != curlRecvError && status != curlPartial {
		t.Errorf("curl: status %d, want %d or %d", status, curlRecvError, curlPartial)
	}
}

func TestCurlDownload(t *testing.T) {
	t.Parallel()
	tun, web := startTunnel(t), startSite(t)
	got := sha256.New()
	cmd := curl(t, tun.local.socks, bulkTime, web.URL+"/random/"+strconv.Itoa(bulk))
	cmd.Stdout = got
	must(t, bulkTime, cmd)
	if got, want := hex.EncodeToString(got.Sum(nil)), sum(t, randomBytes(bulk)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestCurlUpload(t *testing.T) {
	t.Parallel()
	tun, web := startTunnel(t), startSite(t)
	cmd := curl(t, tun.local.socks, bulkTime, "--upload-file", "-", web.URL+"/sum")
	cmd.Stdin = randomBytes(bulk)
	if got, want := must(t, bulkTime, cmd), sum(t, randomBytes(bulk)); got != want {
		t.Errorf("the server got %s, want %s", got, want)
	}
}

// A truncated download is never taken for a complete one. Without a length, only the reset shows
// it.
func TestCurlBrokenDownload(t *testing.T) {
	t.Parallel()
	tun, web := startTunnel(t), startSite(t)
	for how, want := range map[string][]int{
		"reset-length": {curlPartial, curlRecvError},
		"reset-open":   {curlRecvError},
		"end-length":   {curlPartial},
	} {
		t.Run(how, func(t *testing.T) {
			r := run(t, bulkTime,
				curl(t, tun.local.socks, bulkTime, "--output", "/dev/null", web.URL+"/cut/"+how))
			for _, status := range want {
				if r.status == status {
					return
				}
			}
			t.Errorf("curl: status %d, want one of %v; %s", r.status, want, r.stderr)
		})
	}
	// A body that ends without a length and without a reset is complete.
	r := run(t, bulkTime, curl(t, tun.local.socks, bulkTime, web.URL+"/cut/end-open"))
	if got, want := sum(t, strings.NewReader(r.stdout)), sum(t, randomBytes(cutSize)); r.status != 0 ||
		got != want {
		t.Errorf("status %d and %s, want %s; %s", r.status, got, want, r.stderr)
	}
}
