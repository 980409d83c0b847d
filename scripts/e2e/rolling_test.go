//go:build linux

package e2e

import (
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"culvert/internal/testnet"
	"culvert/tunnel/mux"
)

var rollingFull = flag.Bool("rolling", false,
	"TestRollingRestart has 100 locals with downloads of 20 s; make rolling")

// rollingSize is the extent of a rolling restart.
type rollingSize struct {
	locals int
	pieces int           // of a download; one is sent every dripPause
	pause  time.Duration // of a local between two new connections
	drain  string        // --drain-timeout
	last   string        // the same of the node that cuts a stream
}

const (
	// slowPiece is the size in bytes of a piece of a download.
	slowPiece = 4 << 10

	// rollingTime bounds each step that all locals take together, and each of their connections.
	rollingTime = 2 * time.Minute
)

// rolling is two remotes behind a front, locals that are under load, and what was counted.
type rolling struct {
	rollingSize
	*behind
	front    *front
	config   string
	balancer *process
	relay    *testnet.Relay // between the locals and the front
	web      *httptest.Server
	reverse  string // the address of -R, of the first local
	locals   []*rollingLocal

	connections, downloads, bytes, kept, cuts atomic.Int64
	slowest                                   atomic.Int64 // new connection, ns
}

// rollingLocal is a local, and the stream that it keeps while a node drains.
type rollingLocal struct {
	*node
	http *http.Client // each request has a connection of its own through the SOCKS port
	idle *net.TCPConn
}

// A rolling restart of both nodes behind a balancer costs nothing: downloads and idle streams go on
// where they are, also over other carriers and through a balancer that was reloaded meanwhile, new
// streams go to the other node, and -R moves there. A stream that is longer than the drain ends
// with its code.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	size := rollingSize{locals: 8, pieces: 60, pause: 400 * time.Millisecond,
		drain: "60s", last: "10s"}
	if *rollingFull {
		size = rollingSize{locals: 100, pieces: 200, pause: 500 * time.Millisecond,
			drain: "60s", last: "60s"}
	}
	for _, f := range fronts[:2] { // HAProxy and nginx
		t.Run(f.name, func(t *testing.T) {
			if !*rollingFull {
				t.Parallel()
			}
			began := time.Now()
			r := startRolling(t, f, size)
			stop := r.connectAlways(t)
			for i := range r.nodes {
				r.restart(t, i)
			}
			r.cutLong(t)
			stop()
			r.check(t)
			r.summarize(t, time.Since(began))
		})
	}
}

func startRolling(t *testing.T, f *front, size rollingSize) *rolling {
	t.Helper()
	client, tlsCA := newIdentity(t), newWebCA(t)
	r := &rolling{rollingSize: size, front: f, reverse: "127.0.0.1:" + testnet.FreePort(t)}
	r.behind = newBehind(t, client, "--drain-timeout", size.drain, "--reverse", r.reverse)
	s := newDeployment(t, tlsCA, r.listen, r.status)
	r.config = f.configure(t, s)
	r.balancer = f.start(t, s, r.config)
	r.relay = testnet.RelayTo(t, "127.0.0.1:"+s.port, testnet.RelayConfig{})
	site := http.NewServeMux()
	site.HandleFunc("GET /slow/{seed}", r.serveSlow)
	site.HandleFunc("GET /random/{size}", serveRandom)
	site.HandleFunc("GET /drip/{length}", serveDrip)
	r.web = httptest.NewServer(site)
	t.Cleanup(r.web.Close)
	echo := testnet.EchoServer(t)
	for i := range size.locals {
		args := frontArgs(client, r.ca, tlsCA, portOf(r.relay.Address()), "-L", "0:"+echo)
		if i == 0 {
			args = append(args, "-R", r.reverse+":"+echo, "--log-level", "debug",
				"--status", "127.0.0.1:0")
		}
		l := &rollingLocal{node: startNode(t, fmt.Sprint("local ", i), culvert(t, args...))}
		proxy := &url.URL{Scheme: "socks5h", Host: l.socks}
		l.http = &http.Client{Timeout: rollingTime, Transport: &http.Transport{
			Proxy: http.ProxyURL(proxy), DisableKeepAlives: true}}
		r.locals = append(r.locals, l)
	}
	return r
}

// slowContent returns the content of a download.
func (r *rolling) slowContent(seed string) io.Reader {
	content := rand.NewChaCha8(sha256.Sum256([]byte(seed)))
	return io.LimitReader(content, int64(r.pieces)*slowPiece)
}

// serveSlow serves a download.
func (r *rolling) serveSlow(w http.ResponseWriter, request *http.Request) {
	tick := time.NewTicker(dripPause)
	defer tick.Stop()
	w.Header().Set("Content-Length", strconv.Itoa(r.pieces*slowPiece))
	content := r.slowContent(request.PathValue("seed"))
	for range r.pieces {
		if _, err := io.CopyN(w, content, slowPiece); err != nil ||
			http.NewResponseController(w).Flush() != nil {
			return
		}
		select {
		case <-tick.C:
		case <-request.Context().Done():
			return
		}
	}
}

// connectAlways opens new connections in all locals until stop is called. None may fail.
func (r *rolling) connectAlways(t *testing.T) (stop func()) {
	var stops []func()
	for i, l := range r.locals {
		stops = append(stops, always(t, r.pause, func() {
			began := time.Now()
			if err := l.get(r.web.URL+"/random/1000", randomBytes(1000)); err != nil {
				t.Errorf("local %d, a new connection, after %v: %v", i, time.Since(began), err)
			}
			r.connections.Add(1)
			r.noteSlowest(time.Since(began))
		}))
	}
	return func() {
		for _, stop := range stops {
			stop()
		}
	}
}

func (r *rolling) noteSlowest(took time.Duration) {
	for {
		most := r.slowest.Load()
		if int64(took) <= most || r.slowest.CompareAndSwap(most, int64(took)) {
			return
		}
	}
}

// get fetches a page, and compares its content.
func (l *rollingLocal) get(url string, want io.Reader) error {
	response, err := l.http.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	return sameContent(response, want)
}

// sameContent returns an error unless a response has a content.
func sameContent(response *http.Response, want io.Reader) error {
	got, n, err := digest(response.Body)
	if err != nil {
		return fmt.Errorf("%s, after %d bytes: %w", response.Status, n, err)
	}
	if content, size, _ := digest(want); got != content {
		return fmt.Errorf("%s: %d bytes of %d, or others", response.Status, n, size)
	}
	return nil
}

func digest(from io.Reader) (hash [sha256.Size]byte, n int64, err error) {
	h := sha256.New()
	n, err = io.Copy(h, from)
	return [sha256.Size]byte(h.Sum(nil)), n, err
}

// restart stops a node under load and starts it again. All carriers are cut while it drains, after
// the balancer was reloaded.
func (r *rolling) restart(t *testing.T, i int) {
	t.Helper()
	stopping := r.nodes[i]
	finished := r.startStreams(t, i)
	curled := startDrip(t, &tunnel{local: r.locals[0].node}, r.web, "short")
	held := r.held(t, i)
	if held == 0 {
		t.Errorf("%s has no session", stopping.name)
	}
	up := r.logged("session up")
	returned := r.cut(t, len(r.locals))
	stopping.signal(syscall.SIGTERM)
	returned()
	testnet.Poll(t, rollingTime, "its locals have sessions with the other node", func() bool {
		return r.logged("session up") >= up+held
	})
	told := r.metric(t, "http://"+r.status[i]+"/", `culvert_session_moves_total{reason="shutdown"}`)
	if told != held {
		t.Errorf("%s has told %d sessions, want %d", stopping.name, told, held)
	}
	r.front.reloaded(t, r.balancer, r.config)
	r.cut(t, len(r.locals)+held)()
	must(t, patience, curl(t, r.locals[0].socks, patience, r.web.URL+"/random/1000"))
	testnet.Poll(t, rollingTime, "-R serves on the other node", func() bool {
		return strings.Contains(r.nodes[1-i].stderr.String(), "reverse forward up") &&
			echoOnce(r.reverse, patience) == nil
	})
	if status, got := curled.wait(rollingTime), len(curled.stdout.String()); status != 0 ||
		got != drips*dripSize {
		t.Errorf("curl: status %d, %d bytes of %d", status, got, drips*dripSize)
	}
	finished()
	if !stopping.running() {
		t.Errorf("%s has ended, and streams with it", stopping.name)
	}
	r.closeIdle(t)
	if status := stopping.wait(rollingTime); status != 0 {
		t.Errorf("%s: status %d", stopping.name, status)
	}
	if strings.Contains(stopping.stderr.String(), "streams cut short") {
		t.Errorf("%s has cut streams", stopping.name)
	}
	if up := r.logged("session up") - up; up != held {
		t.Errorf("%d sessions began, want %d", up, held)
	}
	if i == 0 {
		r.args[i][slices.Index(r.args[i], r.drain)] = r.last
	}
	r.start(t, i)
}

// cut cuts all carriers, of which there are as many as sessions. returned waits until all sessions
// have others.
func (r *rolling) cut(t *testing.T, sessions int) (returned func()) {
	t.Helper()
	resumed := r.logged("session resumed")
	n := r.relay.Cut()
	if n < sessions {
		t.Errorf("%d carriers were cut, want %d", n, sessions)
	}
	r.cuts.Add(int64(n))
	return func() {
		t.Helper()
		testnet.Poll(t, rollingTime, "all sessions have other carriers", func() bool {
			return r.logged("session resumed") >= resumed+sessions
		})
	}
}

// startStreams starts a download in each local, and an idle stream. finished waits until the
// downloads are complete.
func (r *rolling) startStreams(t *testing.T, round int) (finished func()) {
	t.Helper()
	var starting, running sync.WaitGroup
	for i, l := range r.locals {
		seed := fmt.Sprint(round, "-", i)
		l.idle = testnet.Dial(t, l.forwards[0], 2*rollingTime)
		starting.Go(func() {
			if err := testnet.CheckEcho(l.idle, "before"); err != nil {
				t.Errorf("local %d, an idle stream: %v", i, err)
			}
			response, err := l.http.Get(r.web.URL + "/slow/" + seed)
			if err != nil {
				t.Errorf("local %d, a download: %v", i, err)
				return
			}
			running.Go(func() {
				defer response.Body.Close()
				if err := sameContent(response, r.slowContent(seed)); err != nil {
					t.Errorf("local %d, a download: %v", i, err)
				}
				r.downloads.Add(1)
				r.bytes.Add(int64(r.pieces) * slowPiece)
			})
		})
	}
	starting.Wait()
	return running.Wait
}

// closeIdle checks that the idle streams still work, and ends them.
func (r *rolling) closeIdle(t *testing.T) {
	t.Helper()
	for i, l := range r.locals {
		if err := testnet.CheckEcho(l.idle, "after"); err != nil {
			t.Errorf("local %d, an idle stream: %v", i, err)
		}
		l.idle.Close()
		r.kept.Add(1)
	}
}

// held returns how many sessions a node has.
func (r *rolling) held(t *testing.T, i int) int {
	t.Helper()
	return r.metric(t, "http://"+r.status[i]+"/", `culvert_sessions{state="carried"}`)
}

// metric returns a metric of a node, whose --status has a URL.
func (r *rolling) metric(t *testing.T, status, name string) int {
	t.Helper()
	base, _, _ := strings.Cut(status, "?")
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\d+)$`).FindStringSubmatch(
		getURL(t, base+"metrics"))
	if found == nil {
		t.Fatalf("no metric %s", name)
	}
	n, _ := strconv.Atoi(found[1])
	return n
}

// logged returns how often all locals have logged a message.
func (r *rolling) logged(message string) int {
	n := 0
	for _, l := range r.locals {
		n += strings.Count(l.stderr.String(), message)
	}
	return n
}

// cutLong stops a node that has a stream which is longer than the drain.
func (r *rolling) cutLong(t *testing.T) {
	t.Helper()
	const reset = `culvert_streams_total{kind="tcp",result="reset"}`
	l := r.locals[0]
	if held := r.held(t, 0); held != len(r.locals) {
		t.Errorf("%d sessions have come back, want %d", held, len(r.locals))
	}
	before := r.metric(t, l.statusURL, reset)
	long := testnet.Dial(t, l.forwards[0], rollingTime)
	if err := testnet.CheckEcho(long, "before"); err != nil {
		t.Fatal(err)
	}
	stopping := r.nodes[0]
	stopping.signal(syscall.SIGTERM)
	if n, err := long.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the long stream: %d bytes, %v", n, err)
	}
	line := l.stderr.waitLine(t, l.process, "forward ended error=", patience)
	if !strings.Contains(line, mux.CodeDraining.String()) {
		t.Errorf("the long stream ended otherwise: %s", line)
	}
	if status := stopping.wait(rollingTime); status != 0 {
		t.Errorf("%s: status %d", stopping.name, status)
	}
	if !strings.Contains(stopping.stderr.String(), "streams cut short") {
		t.Errorf("%s doesn't tell that it has cut a stream", stopping.name)
	}
	testnet.Poll(t, patience, "the local counts the stream", func() bool {
		return r.metric(t, l.statusURL, reset) == before+1
	})
}

// check checks what may not have happened in the locals.
func (r *rolling) check(t *testing.T) {
	t.Helper()
	for _, l := range r.locals {
		if strings.Contains(l.stderr.String(), "WRN session lost") {
			t.Errorf("%s has lost a session", l.name)
		}
	}
}

func (r *rolling) summarize(t *testing.T, took time.Duration) {
	resident := 0
	for _, l := range r.locals {
		resident += residentMemory(t, l.cmd)
	}
	t.Logf(`%s, in %v:
| what | number |
|---|---|
| locals | %d |
| sessions | %d |
| new connections | %d |
| slowest of them, ms | %d |
| downloads | %d |
| MB of them | %d |
| idle streams kept | %d |
| carriers cut | %d |
| memory of a local, MiB | %d |`, r.front.name, took.Round(time.Second), len(r.locals),
		r.logged("session up"), r.connections.Load(), r.slowest.Load()/1e6, r.downloads.Load(),
		r.bytes.Load()/1e6, r.kept.Load(), r.cuts.Load(), resident/len(r.locals)>>20)
}
