//go:build linux

package e2e

import (
	"context"
	"crypto/rand"
	"flag"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"culvert/certs"
	"culvert/internal/testnet"
	"culvert/internal/testnet/link"
	"culvert/protocol"
)

// strangersScale is the share of the full attack that TestStrangers makes. Only the full one, on a
// machine that does nothing else, tells about speed.
var strangersScale = flag.Float64("strangers", 0.04,
	"the share of the full attack in TestStrangers; make strangers: 1")

// The full attack, and what it may cost the admitted client.
const (
	strangersHalfOpen = 5000  // connections that send nothing
	strangersSlow     = 1000  // connections that send a byte a second
	strangersRefused  = 10000 // clients that are not admitted, each from an address of its own
	strangersRate     = 200   // of these a second

	strangersLink     = 200e6            // bit/s, of the admitted client
	strangersDownload = 66 * time.Second // at 0.8 of the link, as long as the strangers come

	strangersLeast  = 0.9       // of the throughput before
	strangersMost   = 2         // of the echo's round trip before
	strangersMemory = 256 << 20 // bytes, resident, of the remote
	strangersGone   = 40 * time.Second
)

// crowd is a remote with one admitted client, and strangers around it.
type crowd struct {
	tunnel
	near, far *host
	server    *testnet.TransferServer

	addresses atomic.Uint32 // that strangers have used
	held      []net.Conn
	outcomes  [2]atomic.Int64 // of clients that are not admitted: refused in the handshake, earlier
}

// startCrowd starts the remote, the client and its servers. Every address of 10.200.0.0/15 belongs
// to a stranger on the remote's own machine, so that the link is the client's alone.
func startCrowd(t *testing.T) *crowd {
	t.Helper()
	needRoot(t, "it makes network namespaces")
	l, err := link.New(link.Config{Delay: 10 * time.Millisecond, Rate: strangersLink})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	c := &crowd{near: hostOf(l.A), far: hostOf(l.B)}
	c.far.ip(t, "route add local 10.200.0.0/15 dev lo")
	c.tunnel = tunnel{server: newIdentity(t), client: newIdentity(t)}
	c.authorized = writeFile(t, "authorized_keys", c.client.key+"\n")
	c.remote = startNode(t, "remote", c.far.command(t, culvert(t, remoteArgs(c.tunnel.server,
		"--listen", c.far.addr.String()+":0", "--log-level", "warn",
		"--authorized-keys", c.authorized)...)))
	c.server = testnet.StartTransferServer(t, c.far.listen(t, "127.0.0.1:0"))
	echo := c.far.listen(t, "127.0.0.1:0")
	testnet.Serve(t, echo, func(conn net.Conn) { io.Copy(conn, conn) })
	c.local = startNode(t, "local", c.near.command(t, culvert(t, localArgs(c.client, c.tunnel.server,
		c.remote.url(), "-L", "127.0.0.1:0:"+c.server.Address,
		"-L", "127.0.0.1:0:"+echo.Addr().String())...)))
	return c
}

// speed is what the admitted client gets.
type speed struct {
	rate float64       // of a download, in bytes a second
	echo time.Duration // the median round trip meanwhile
}

// measure downloads for about the given time.
func (c *crowd) measure(t *testing.T, d time.Duration) speed {
	t.Helper()
	x := testnet.Transfer{Seed: uint64(c.addresses.Load()),
		Size: int64(strangersLink / 8 * d.Seconds() * 0.8)}
	began := time.Now()
	done := make(chan error, 1)
	go func() {
		done <- x.Run(func() (net.Conn, error) { return c.near.dial(c.local.forwards[0]) },
			10*d+patience)
	}()
	conn, err := c.near.dial(c.local.forwards[1])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var trips []time.Duration
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(trips)
			return speed{float64(x.Size) / time.Since(began).Seconds(), trips[len(trips)/2]}
		case <-time.After(20 * time.Millisecond):
		}
		sent := time.Now()
		conn.SetDeadline(sent.Add(patience))
		if err := testnet.CheckEcho(conn, "x"); err != nil {
			t.Fatal(err)
		}
		trips = append(trips, time.Since(sent))
	}
}

// dial connects to the remote from an address that no stranger has had before.
func (c *crowd) dial(context.Context, string, string) (net.Conn, error) {
	n := c.addresses.Add(1)
	from := netip.AddrFrom4([4]byte{10, 200 + byte(n>>16&1), byte(n >> 8), byte(n)})
	return inNamespace(c.far.name, func() (net.Conn, error) {
		d := net.Dialer{
			LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), Timeout: patience,
		}
		return d.Dial("tcp", c.remote.listen[0])
	})
}

// hold opens connections that say too little, and returns how many the remote took.
func (c *crowd) hold(t *testing.T, n int) (taken int) {
	t.Helper()
	for range n {
		conn, err := c.dial(t.Context(), "", "")
		if err != nil {
			continue // refused, as it may be
		}
		c.held = append(c.held, conn)
		taken++
	}
	return taken
}

// drip sends a byte a second on each of the connections until ctx is done.
func drip(ctx context.Context, conns []net.Conn) {
	const request = "GET / HTTP/1.1\r\nHost: remote.test\r\nUpgrade: websocket\r\nX-Padding: "
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for i := 0; ; i++ {
		for _, conn := range conns {
			io.WriteString(conn, (request + strings.Repeat("x", 1<<10))[i%1024:][:1])
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// fail has clients that are not admitted shake hands at strangersRate, until ctx is done.
func (c *crowd) fail(ctx context.Context, n int) {
	ticker := time.NewTicker(time.Second / strangersRate)
	defer ticker.Stop()
	var running sync.WaitGroup
	defer running.Wait()
	key, err := certs.GenerateKeyPair(rand.Reader)
	if err != nil {
		return
	}
	for range n {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		running.Go(func() { c.outcomes[c.knock(ctx, key)].Add(1) })
	}
}

// knock makes an attempt of a stranger, and returns the index of its outcome.
func (c *crowd) knock(ctx context.Context, key *certs.KeyPair) int {
	const refused, earlier = 0, 1
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ws, _, err := protocol.NewDialer(c.dial, c.dial).DialContext(ctx, c.remote.url(), nil)
	if err != nil {
		return earlier
	}
	conn, err := protocol.Client(ctx, ws, protocol.ClientConfig{
		Version: protocol.Version1, Key: key,
		VerifyServer: func(protocol.Peer) error { return nil },
	})
	if err != nil {
		return earlier
	}
	defer conn.Close()
	conn.ReadRecord(nil) // the refusal
	return refused
}

// A crowd of strangers costs the client that is admitted little: connections that say nothing or
// next to nothing stand, and clients that are not admitted shake hands all the time.
func TestStrangers(t *testing.T) {
	scale := func(n int) int { return max(1, int(float64(n)**strangersScale)) }
	full := *strangersScale >= 1
	if !full {
		t.Parallel()
	}
	c := startCrowd(t)
	d := strangersDownload
	if !full {
		d = time.Second
	}
	files := openFiles(t, c.remote.process)
	before := c.measure(t, d)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var attack sync.WaitGroup
	defer attack.Wait()
	taken := c.hold(t, scale(strangersHalfOpen))
	dripping := len(c.held)
	taken += c.hold(t, scale(strangersSlow))
	defer func() {
		for _, conn := range c.held {
			conn.Close()
		}
	}()
	attack.Go(func() { drip(ctx, c.held[dripping:]) })
	attack.Go(func() { c.fail(ctx, scale(strangersRefused)) })
	memory := make(chan int, 1)
	attack.Go(func() { memory <- c.peak(ctx, t) })
	during := c.measure(t, d)
	if !full { // or else the downloads end before the strangers do
		testnet.Poll(t, patience, "the strangers have been refused", func() bool {
			return int(c.outcomes[0].Load()+c.outcomes[1].Load()) == scale(strangersRefused)
		})
	}
	refused, earlier := c.outcomes[0].Load(), c.outcomes[1].Load()
	cancel()
	attack.Wait()
	most := <-memory

	began := time.Now()
	testnet.Poll(t, strangersGone, "the strangers' connections are gone", func() bool {
		return openFiles(t, c.remote.process) <= files+2
	})
	gone := time.Since(began)
	if refused+earlier == 0 {
		t.Error("no stranger has tried to shake hands")
	}
	if most > strangersMemory {
		t.Errorf("the remote took %d MiB", most>>20)
	}
	if full && (during.rate < strangersLeast*before.rate || during.echo > strangersMost*before.echo) {
		t.Error("the strangers cost the admitted client too much")
	}
	t.Logf("%s, %d processors; %d of %d connections held, %d strangers refused, %d turned away "+
		"earlier at %d a second; download %.1f MB/s before and %.1f during, echo %v and %v; "+
		"the remote took %d MiB; gone after %v", runtime.Version(), runtime.NumCPU(), taken,
		scale(strangersHalfOpen)+scale(strangersSlow), refused, earlier, strangersRate,
		before.rate/1e6, during.rate/1e6, before.echo.Round(time.Microsecond),
		during.echo.Round(time.Microsecond), most>>20, gone.Round(time.Second))
}

// peak returns the most memory that the remote takes until ctx is done, in bytes.
func (c *crowd) peak(ctx context.Context, t *testing.T) (most int) {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		most = max(most, residentMemory(t, c.remote.cmd))
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return most
		}
	}
}
