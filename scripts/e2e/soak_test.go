//go:build linux

package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"culvert/internal/testnet"
)

var (
	soakTime = flag.Duration("soak", 20*time.Second, "how long TestSoak runs; make soak: 30m")

	soakSummary = flag.String("soak-summary", "", "the file to which TestSoak writes its summary")
)

const (
	soakSize    = 4 << 20                // bytes of a transfer
	soakLimit   = 2 * time.Minute        // for one piece of work, disturbances included
	soakFreeze  = 2 * time.Second        // of a process or the network
	soakSettle  = 60 * time.Second       // until all that the load took has been given back
	soakPause   = 500 * time.Millisecond // between two pieces of work
	soakSamples = 60

	// soakSpread is by how many goroutines or descriptors an idle process may differ from one that
	// has just started: UDP flows, of four goroutines each, end minutes later, and there are timers
	// that run and idle connections.
	soakSpread = 16

	// soakGrowth bounds the resident memory of the last quarter, as a factor of the second's.
	// Shorter runs than soakTelling tell nothing about it.
	soakGrowth  = 1.25
	soakTelling = 5 * time.Minute
)

// soak is a tunnel under load, and what was counted.
type soak struct {
	*tunnel
	between *testnet.Relay
	far     string // the address of a TransferServer
	site    string // the URL of a web server
	udp     string // the address of a UDP echo server

	mu      sync.Mutex
	counts  map[string]int // pieces of work and disturbances, by kind
	bytes   atomic.Int64
	samples []soakSample
}

// soakSample is what two processes took at a moment: the remote and the local.
type soakSample struct{ resident, descriptors [2]int }

// Under mixed load with cuts, silences, freezes and reloads nothing fails, and what both ends hold
// does not grow: memory, descriptors and goroutines. By default the run is short; make soak runs it
// for half an hour.
func TestSoak(t *testing.T) {
	t.Parallel()
	fresh := startSoak(t).dump(t)
	s := startSoak(t)
	before := s.sample(t)
	ctx, cancel := context.WithTimeout(t.Context(), *soakTime)
	defer cancel()
	var working sync.WaitGroup
	for name, work := range s.work() {
		for range 2 {
			working.Go(func() { s.repeat(ctx, t, name, work) })
		}
	}
	working.Go(func() { s.disturb(ctx, t) })
	working.Go(func() { s.watch(ctx, t) })
	working.Wait()
	s.checkDescriptors(t, before)
	if *soakTime >= soakTelling {
		s.checkMemory(t)
	}
	for i, name := range []string{"remote", "local"} {
		if [2]*node{s.remote, s.local}[i].stderr.hasLost() {
			t.Errorf("%s: a session was lost", name)
		}
	}
	after := s.dump(t)
	for i, name := range []string{"remote", "local"} {
		if after[i] > fresh[i]+soakSpread {
			t.Errorf("%s: %d goroutines, %d in a fresh process", name, after[i], fresh[i])
		}
	}
	s.summarize(t, fresh, after)
}

// startSoak starts the tunnel and its servers.
func startSoak(t *testing.T) *soak {
	t.Helper()
	s := &soak{tunnel: &tunnel{server: newIdentity(t), client: newIdentity(t)},
		counts: make(map[string]int)}
	s.far = testnet.StartTransferServer(t, testnet.Listen(t)).Address
	s.site = startSite(t).URL
	s.udp = testnet.EchoUDPServer(t, "127.0.0.1:0").String()
	s.authorized = writeFile(t, "authorized_keys", s.client.key+"\n")
	s.remote = s.startReverseRemote(t, "127.0.0.1:0", "localhost")
	s.between = testnet.RelayTo(t, s.remote.listen[0], testnet.RelayConfig{})
	s.local = startNode(t, "local", culvert(t, localArgs(s.client, s.server,
		"ws://"+s.between.Address()+"/", "-L", "0:"+s.far, "-L", "0:"+s.udp+"/udp",
		"-L", "0:"+testnet.EchoServer(t), "-R", "0:"+s.far)...))
	return s
}

// work returns what the load consists of. Each piece fails unless it gets all that it should.
func (s *soak) work() map[string]func(ctx context.Context) error {
	transfer := func(address string, up bool) func(context.Context) error {
		return func(context.Context) error {
			x := testnet.Transfer{Up: up, Seed: mathrand.Uint64(), Size: soakSize}
			s.bytes.Add(x.Size)
			return x.Run(func() (net.Conn, error) { return net.Dial("tcp", address) }, soakLimit)
		}
	}
	return map[string]func(ctx context.Context) error{
		"downloads by -L":  transfer(s.local.forwards[0], false),
		"uploads by -L":    transfer(s.local.forwards[0], true),
		"downloads by -R":  transfer(s.local.reverse[0], false),
		"uploads by -R":    transfer(s.local.reverse[0], true),
		"pages by SOCKS":   s.page("socks5h"),
		"pages by HTTP":    s.page("http"),
		"UDP clients kept": s.datagrams,
		"streams kept":     s.keep,
		"clients gone":     s.abandon,
		"targets refusing": s.refused,
	}
}

// repeat does a piece of work again and again until ctx is done.
func (s *soak) repeat(
	ctx context.Context, t *testing.T, name string, work func(ctx context.Context) error,
) {
	for ctx.Err() == nil && !t.Failed() {
		if err := work(ctx); err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		s.count(name)
		select {
		case <-time.After(soakPause):
		case <-ctx.Done():
		}
	}
}

func (s *soak) count(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[name]++
}

// page fetches a page of random size through the proxy of a scheme.
func (s *soak) page(scheme string) func(ctx context.Context) error {
	transport := &http.Transport{
		Proxy: http.ProxyURL(&url.URL{Scheme: scheme, Host: s.local.socks}),
	}
	client := &http.Client{Transport: transport, Timeout: soakLimit}
	return func(context.Context) error {
		defer transport.CloseIdleConnections() // the next page has a connection of its own
		body := make([]byte, mathrand.IntN(256<<10))
		rand.Read(body)
		s.bytes.Add(int64(len(body)))
		request, err := http.NewRequest(http.MethodPut, s.site+"/sum", bytes.NewReader(body))
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		got, err := io.ReadAll(response.Body)
		if err != nil {
			return err
		}
		if want := fmt.Sprintf("%x", sha256.Sum256(body)); string(got) != want {
			return fmt.Errorf("%s: %q, want %q", response.Status, got, want)
		}
		return nil
	}
}

// datagrams sends datagrams of one client for the whole run, each until its echo is there. A client
// more would be a descriptor more, for as long as the remote waits for answers.
func (s *soak) datagrams(ctx context.Context) error {
	conn, err := net.Dial("udp", strings.TrimSuffix(s.local.forwards[1], "/udp"))
	if err != nil {
		return err
	}
	defer conn.Close()
	sent, got := make([]byte, 1000), make([]byte, 2000)
	for end := time.Now().Add(soakLimit); time.Now().Before(end); {
		conn.Write(sent) // an error, as of a full buffer, is a lost datagram
		conn.SetReadDeadline(time.Now().Add(time.Second))
		n, err := conn.Read(got)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil && bytes.Equal(got[:n], sent):
			s.count("datagrams by -L")
			s.bytes.Add(int64(n))
			rand.Read(sent) // so that a late copy of the one before is none of this
			end = time.Now().Add(soakLimit)
		}
	}
	return errors.New("no echo")
}

// keep holds a stream for the whole run, which says something now and then.
func (s *soak) keep(ctx context.Context) error {
	conn, err := net.Dial("tcp", s.local.forwards[2])
	if err != nil {
		return err
	}
	defer conn.Close()
	ticker := time.NewTicker(3 * time.Second)
	defer ticker.Stop()
	for {
		conn.SetDeadline(time.Now().Add(soakLimit))
		if err := testnet.CheckEcho(conn, "still here"); err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// abandon resets a download in its middle.
func (s *soak) abandon(context.Context) error {
	conn, err := net.Dial("tcp", s.local.socks)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(soakLimit))
	fmt.Fprintf(conn, "GET %s/random/%d HTTP/1.1\r\nHost: site.test\r\n\r\n", s.site, 64<<20)
	n, err := io.CopyN(io.Discard, conn, 256<<10)
	if err != nil {
		return fmt.Errorf("after %d bytes: %w", n, err)
	}
	return conn.(*net.TCPConn).SetLinger(0)
}

// refused asks for a target that refuses.
func (s *soak) refused(context.Context) error {
	proxy := &url.URL{Scheme: "http", Host: s.local.socks}
	transport := &http.Transport{Proxy: http.ProxyURL(proxy), DisableKeepAlives: true}
	client := &http.Client{Transport: transport, Timeout: soakLimit}
	response, err := client.Get("http://127.0.0.1:1/")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	io.Copy(io.Discard, response.Body)
	if response.StatusCode != http.StatusBadGateway {
		return fmt.Errorf("status %s", response.Status)
	}
	return nil
}

// disturb does something to the tunnel every few seconds until ctx is done.
func (s *soak) disturb(ctx context.Context, t *testing.T) {
	frozen := func(freeze func() (thaw func())) func() {
		return func() {
			thaw := freeze()
			defer thaw()
			select {
			case <-time.After(soakFreeze):
			case <-ctx.Done():
			}
		}
	}
	stopped := func(n *node) func() {
		return frozen(func() func() {
			n.signal(syscall.SIGSTOP)
			return func() { n.signal(syscall.SIGCONT) }
		})
	}
	disturbances := map[string]func(){
		"cuts":                   func() { s.between.Cut() },
		"silences":               func() { s.between.Silence() },
		"freezes of connections": frozen(s.between.FreezeConnections),
		"freezes of the network": frozen(s.between.Freeze),
		"freezes of the local":   stopped(s.local),
		"freezes of the remote":  stopped(s.remote),
		"reloads": func() {
			rewrite(t, s.authorized, s.client.key+" "+rand.Text()+"\n")
			s.remote.signal(syscall.SIGUSR1)
		},
		"reconnects": func() { s.local.signal(syscall.SIGUSR1) },
	}
	names := slices.Sorted(maps.Keys(disturbances))
	for {
		select {
		case <-time.After(time.Second + mathrand.N(3*time.Second)):
		case <-ctx.Done():
			return
		}
		name := names[mathrand.IntN(len(names))]
		disturbances[name]()
		s.count(name)
	}
}

// watch takes the samples until ctx is done.
func (s *soak) watch(ctx context.Context, t *testing.T) {
	ticker := time.NewTicker(*soakTime / soakSamples)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.samples = append(s.samples, s.sample(t))
		case <-ctx.Done():
			return
		}
	}
}

func (s *soak) sample(t *testing.T) (x soakSample) {
	t.Helper()
	for i, n := range []*node{s.remote, s.local} {
		x.resident[i], x.descriptors[i] = residentMemory(t, n.cmd), openFiles(t, n.process)
	}
	return x
}

// checkDescriptors waits until both processes hold no more descriptors than before the load.
func (s *soak) checkDescriptors(t *testing.T, before soakSample) {
	t.Helper()
	testnet.Poll(t, soakSettle, "the descriptors of the load have been closed", func() bool {
		now := s.sample(t)
		return now.descriptors[0] <= before.descriptors[0]+soakSpread &&
			now.descriptors[1] <= before.descriptors[1]+soakSpread
	})
}

// quarter returns the median resident memory of both ends in a quarter of the run, in bytes.
func (s *soak) quarter(n int) (resident [2]int) {
	part := s.samples[n*len(s.samples)/4 : (n+1)*len(s.samples)/4]
	for i := range resident {
		var all []int
		for _, x := range part {
			all = append(all, x.resident[i])
		}
		slices.Sort(all)
		resident[i] = all[len(all)/2]
	}
	return resident
}

func (s *soak) checkMemory(t *testing.T) {
	t.Helper()
	early, late := s.quarter(1), s.quarter(3)
	for i, name := range []string{"remote", "local"} {
		if float64(late[i]) > soakGrowth*float64(early[i]) {
			t.Errorf("%s: %d MiB in the second quarter, %d in the last", name, early[i]>>20, late[i]>>20)
		}
	}
}

// dump ends both processes by SIGQUIT, and returns the number of goroutines that each had.
func (s *soak) dump(t *testing.T) (goroutines [2]int) {
	t.Helper()
	for i, n := range []*node{s.remote, s.local} {
		n.quit = true
		n.signal(syscall.SIGQUIT)
		n.wait(patience)
		goroutines[i] = len(goroutineLine.FindAllString(n.stderr.String(), -1))
		if goroutines[i] == 0 {
			t.Errorf("%s: no goroutines in its dump", n.name)
		}
	}
	return goroutines
}

var goroutineLine = regexp.MustCompile(`(?m)^goroutine [1-9]\d* `)

// summarize writes the summary in Markdown.
func (s *soak) summarize(t *testing.T, fresh, after [2]int) {
	t.Helper()
	var text strings.Builder
	fmt.Fprintf(&text, "%v, %s, %s/%s, %d processors, race detector: %v\n\n", *soakTime,
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), testnet.RaceEnabled)
	fmt.Fprintf(&text, "| what | times |\n|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(s.counts)) {
		fmt.Fprintf(&text, "| %s | %d |\n", name, s.counts[name])
	}
	fmt.Fprintf(&text, "| MB carried | %d |\n\n", s.bytes.Load()/1e6)
	fmt.Fprintf(&text, "| at | remote, MiB | local, MiB |\n|---|---|---|\n")
	if len(s.samples) >= 8 {
		for n, name := range []string{"first", "second", "third", "last"} {
			q := s.quarter(n)
			fmt.Fprintf(&text, "| %s quarter | %d | %d |\n", name, q[0]>>20, q[1]>>20)
		}
	}
	fmt.Fprintf(&text, "\nGoroutines when idle: remote %d, local %d; in fresh processes %d and %d.\n",
		after[0], after[1], fresh[0], fresh[1])
	t.Log(text.String())
	if *soakSummary != "" {
		if err := os.WriteFile(*soakSummary, []byte(text.String()), 0o644); err != nil {
			t.Error(err)
		}
	}
}
