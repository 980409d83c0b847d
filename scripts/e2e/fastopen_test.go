//go:build linux

package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"culvert/internal/testnet/link"
)

const (
	// farTrip is the round trip to the remote. It is long, so that it shows on a busy machine as
	// well.
	farTrip = 300 * time.Millisecond

	// busyTime is the delay that a busy machine may add. The fastest of several tries must be below
	// it.
	busyTime = 250 * time.Millisecond
	tries    = 20
)

// curlSendError is curl's exit status when it could not send.
const curlSendError = 55

// fetch is one run of curl on the near host.
type fetch struct {
	status    int           // curl's
	code      string        // HTTP's
	firstByte time.Duration // from the start to the response's first byte
	stderr    string
}

// fetchFrom fetches a page with curl.
func fetchFrom(t *testing.T, near *host, args ...string) fetch {
	t.Helper()
	r := run(t, patience, near.command(t, bareCurl(t, patience,
		append([]string{"--output", "/dev/null", "--write-out", "%{http_code} %{time_starttransfer}"},
			args...)...)))
	code, seconds, _ := strings.Cut(r.stdout, " ")
	took, err := strconv.ParseFloat(seconds, 64)
	if err != nil {
		t.Fatalf("curl printed %q, %s", r.stdout, r.stderr)
	}
	return fetch{r.status, code, time.Duration(took * float64(time.Second)), r.stderr}
}

// The first request to a target takes two round trips: one for the outcome of the dial and one for
// the page. Later requests take one. Once the target is gone, the next client is reset, and the one
// after it gets the cause.
func TestFastOpen(t *testing.T) {
	t.Parallel()
	needRoot(t, "it makes network namespaces")
	l, err := link.New(link.Config{Delay: farTrip / 2, Rate: 100e6})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	near, far := &host{name: l.A.Namespace, addr: l.A.Addr}, &host{name: l.B.Namespace, addr: l.B.Addr}
	for i, mode := range []string{"auto", "always", "never"} {
		tun := &tunnel{server: newIdentity(t), client: newIdentity(t)}
		tun.authorized = writeFile(t, "authorized_keys", tun.client.key+"\n")
		tun.remote = startNode(t, "remote", far.command(t, culvert(t,
			remoteArgs(tun.server, "--listen", far.addr.String()+":0", "--authorized-keys",
				tun.authorized)...)))
		forwarded := fmt.Sprintf("127.0.1.%d:80", i+1)
		tun.local = startNode(t, "local", near.command(t, culvert(t,
			localArgs(tun.client, tun.server, tun.remote.url(), "--fast-open", mode, "-L",
				"127.0.0.1:0:"+forwarded)...)))
		for name, flags := range map[string][]string{
			"socks5":  {"--socks5-hostname", tun.local.socks},
			"socks4a": {"--socks4a", tun.local.socks},
			"connect": {"-p", "-x", "http://" + tun.local.socks},
			"http":    {"-x", "http://" + tun.local.socks},
			"forward": {"--connect-to", "::" + tun.local.forwards[0]},
		} {
			t.Run(mode+"/"+name,
				func(t *testing.T) { checkFastOpen(t, near, far, mode, name, forwarded, flags) })
		}
	}
}

// checkFastOpen opens connections of one kind to a target of its own.
func checkFastOpen(
	t *testing.T, near, far *host, mode, protocol, forwarded string, flags []string,
) {
	listen := "127.0.0.1:0"
	if protocol == "forward" {
		listen = forwarded
	}
	ln := far.listen(t, listen)
	serveOn(t, ln, func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "a page") })
	args := append(flags, "http://"+ln.Addr().String()+"/")
	get := func() fetch { return fetchFrom(t, near, args...) }
	// checkTime checks the time to the first byte: at least this number of round trips, and less
	// than one more.
	checkTime := func(when string, trips time.Duration) {
		t.Helper()
		var fastest time.Duration
		for n := range tries {
			f := get()
			if f.status != 0 || f.code != "200" {
				t.Fatalf("%s: status %d, %s, %s", when, f.status, f.code, f.stderr)
			}
			if fastest == 0 || f.firstByte < fastest {
				fastest = f.firstByte
			}
			if fastest < trips*farTrip+busyTime || when == "first" || n == tries-1 {
				break
			}
		}
		t.Logf("%s: first byte after %v", when, fastest)
		if fastest < trips*farTrip || (when != "first" && fastest >= trips*farTrip+busyTime) {
			t.Errorf("%s: first byte after %v, want %d round trips of %v", when, fastest, trips, farTrip)
		}
	}
	first, later := time.Duration(2), time.Duration(1)
	switch mode {
	case "always":
		first = 1
	case "never":
		later = 2
	}
	checkTime("first", first)
	checkTime("later", later)
	ln.Close()
	if mode != "never" {
		checkTargetGone(t, protocol, get(), false)
	}
	checkTargetGone(t, protocol, get(), mode != "always")
}

// checkTargetGone checks how a client learned that its target is gone: by its protocol's reply, or
// by a reset.
func checkTargetGone(t *testing.T, protocol string, f fetch, replied bool) {
	t.Helper()
	cut := []int{curlSendError, curlRecvError}
	ok := slices.Contains(cut, f.status)
	switch {
	case protocol == "http": // no response had begun
		ok = f.status == 0 && f.code == "502"
	case protocol == "connect" && replied:
		ok = ok && strings.Contains(f.stderr, "502")
	case protocol == "connect":
		ok = ok && !strings.Contains(f.stderr, "502")
	case protocol == "socks5" && replied:
		ok = f.status == 97 && strings.Contains(f.stderr, "(5)")
	case protocol == "socks4a" && replied:
		ok = f.status == 97 && strings.Contains(f.stderr, "(91)")
	}
	if !ok {
		t.Errorf("gone, replied %v: status %d, %s, %s", replied, f.status, f.code, f.stderr)
	}
}
