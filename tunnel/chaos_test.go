package tunnel

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"culvert/tunnel/mux"
)

// cutter is a TCP relay between the two nodes, with a limited rate, that can cut or silence its
// connections.
type cutter struct {
	t       testing.TB
	address string
	target  string
	rate    int           // bytes a second and direction, of all connections together
	delay   time.Duration // of each direction
	down    atomic.Bool   // pass nothing on, even for new connections

	mu       sync.Mutex
	pairs    map[*cutPair]struct{}
	allowed  [2]time.Time // when each direction may send again
	accepted int
}

// cutPair is one relayed connection.
type cutPair struct {
	ends   [2]*net.TCPConn
	closed atomic.Bool
	silent atomic.Bool
}

func newCutter(t testing.TB, target string, rate int, delay time.Duration) *cutter {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{
		t:       t,
		address: ln.Addr().String(),
		target:  target,
		rate:    rate,
		delay:   delay,
		pairs:   make(map[*cutPair]struct{}),
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { c.relay(conn.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		c.cut()
		await(t, patience, serving.Wait)
	})
	return c
}

func (c *cutter) relay(client *net.TCPConn) {
	pause(c.t, 2*c.delay) // TCP's own handshake
	server, err := net.Dial("tcp", c.target)
	if err != nil {
		client.Close()
		return
	}
	p := &cutPair{ends: [2]*net.TCPConn{client, server.(*net.TCPConn)}}
	c.mu.Lock()
	c.pairs[p] = struct{}{}
	c.accepted++
	c.mu.Unlock()
	var copies sync.WaitGroup
	for from := range 2 {
		copies.Go(func() { c.copy(p, from) })
	}
	copies.Wait()
	p.close()
	c.mu.Lock()
	delete(c.pairs, p)
	c.mu.Unlock()
}

func (c *cutter) copy(p *cutPair, from int) {
	type piece struct {
		due  time.Time
		data []byte
	}
	way := make(chan piece, 4096)
	var writing sync.WaitGroup
	writing.Go(func() {
		for p2 := range way {
			pause(c.t, time.Until(p2.due))
			if p.silent.Load() || c.down.Load() {
				continue // data is lost silently
			}
			p.ends[1-from].Write(p2.data) // an error ends the reader's side too
		}
		if !p.silent.Load() && !c.down.Load() {
			p.ends[1-from].CloseWrite()
		}
	})
	defer writing.Wait()
	defer close(way)
	for {
		buf := make([]byte, 16<<10)
		n, err := p.ends[from].Read(buf)
		if err != nil {
			return
		}
		c.pace(from, n)
		way <- piece{time.Now().Add(c.delay), buf[:n]}
	}
}

// pace waits until the rate permits n more bytes.
func (c *cutter) pace(direction, n int) {
	c.mu.Lock()
	now := time.Now()
	if c.allowed[direction].Before(now) {
		c.allowed[direction] = now
	}
	wait := c.allowed[direction].Sub(now)
	c.allowed[direction] = c.allowed[direction].Add(
		time.Duration(n) * time.Second / time.Duration(c.rate),
	)
	c.mu.Unlock()
	pause(c.t, wait)
}

// close resets both ends, and reports whether it was the first to do so.
func (p *cutPair) close() bool {
	first := !p.closed.Swap(true)
	for _, end := range p.ends {
		end.SetLinger(0)
		end.Close()
	}
	return first
}

// cut resets the present connections and returns their number. It does not affect later ones.
func (c *cutter) cut() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for p := range c.pairs {
		if p.close() {
			n++
		}
	}
	return n
}

// silence makes the present connections pass nothing on, and returns their number.
func (c *cutter) silence() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for p := range c.pairs {
		if !p.silent.Swap(true) {
			n++
		}
	}
	return n
}

// startChaos starts a remote and a local with a cutter between them. The patience is for the
// sessions of both; 0 means the default.
func startChaos(
	t testing.TB, rate int, delay, patience time.Duration,
) (*Local, *testRemote, *cutter) {
	t.Helper()
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), nil)
	remote.mu.Lock() // which ServeHTTP takes before it makes a session
	remote.session.Patience = patience
	remote.mu.Unlock()
	c := newCutter(t, remote.server.Listener.Addr().String(), rate, delay)
	cfg := remote.localConfig(t, key)
	var err error
	if cfg.Address, err = ParseAddress("ws://" + c.address + "/"); err != nil {
		t.Fatal(err)
	}
	local := NewLocal(cfg)
	local.connector.session.Patience = patience
	runLocal(t, local)
	if _, err := local.WaitSession(within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	return local, remote, c
}

// content is a stream of bytes that depends only on a seed, so that both ends know it without
// holding it.
func content(seed uint64, size int64) io.Reader {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	return io.LimitReader(rand.NewChaCha8(key), size)
}

func sum(t testing.TB, r io.Reader) (hash [sha256.Size]byte, n int64, err error) {
	t.Helper()
	h := sha256.New()
	n, err = io.Copy(h, r)
	return [sha256.Size]byte(h.Sum(nil)), n, err
}

// transferServer serves downloads and accepts uploads: the first byte selects which, the next eight
// are the seed of the content, the next eight its size. It answers an upload with its hash.
func transferServer(t testing.TB) string {
	return serveTCP(t, func(conn *net.TCPConn) {
		var head [17]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return
		}
		seed, size := binary.BigEndian.Uint64(head[1:]), int64(binary.BigEndian.Uint64(head[9:]))
		if head[0] == 'd' {
			io.Copy(conn, content(seed, size))
			return
		}
		hash, _, err := sum(t, conn)
		if err == nil {
			conn.Write(hash[:])
		}
	})
}

// transferTime bounds one transfer.
const transferTime = 5 * time.Minute

// transfer makes one download or upload through the tunnel and compares hashes.
func transfer(t testing.TB, local *Local, server string, kind byte, seed uint64, size int64) {
	conn, err := local.DialContext(within(t, patience), "tcp", server)
	if err != nil {
		t.Errorf("%c%d: %v", kind, seed, err)
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(transferTime))
	var head [17]byte
	head[0] = kind
	binary.BigEndian.PutUint64(head[1:], seed)
	binary.BigEndian.PutUint64(head[9:], uint64(size))
	if _, err := conn.Write(head[:]); err != nil {
		t.Errorf("%c%d: %v", kind, seed, err)
		return
	}
	want, _, _ := sum(t, content(seed, size))
	var got [sha256.Size]byte
	n := size
	if kind == 'd' {
		got, n, err = sum(t, conn)
	} else if _, err = io.Copy(conn, content(seed, size)); err == nil {
		conn.(interface{ CloseWrite() error }).CloseWrite()
		_, err = io.ReadFull(conn, got[:])
	}
	if err != nil || n != size || got != want {
		t.Errorf("%c%d: %d bytes of %d, hash equal: %v, %v", kind, seed, n, size, got == want, err)
	}
}

// chaosRate makes the transfers of chaos take 58 s; its pauses between 100 disturbances add up to
// 53 s.
const chaosRate = 5632 << 10

// chaos runs 20 downloads and 20 uploads of 16 MiB while disturb disrupts the carrier the given
// number of times, 0.05 to 2 seconds apart. The pauses are spread evenly over that range in the
// logarithm, in a random order, so that their sum is known. disturb returns the number of
// connections it has hit; it is repeated until it has hit one.
func chaos(t *testing.T, local *Local, times int, disturb func() int) {
	t.Helper()
	session := local.current.session
	server := transferServer(t)
	var transfers sync.WaitGroup
	for i := range 20 {
		for _, kind := range []byte{'d', 'u'} {
			transfers.Go(func() { transfer(t, local, server, kind, uint64(i), 16<<20) })
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		transfers.Wait()
	}()
	for n, place := range rand.Perm(times) {
		exponent := (float64(place) + rand.Float64()) / float64(times)
		pause := time.Duration(0.05 * math.Pow(40, exponent) * float64(time.Second))
		select {
		case <-time.After(pause):
		case <-done:
			t.Fatalf("all was over after %d of %d disturbances", n, times)
		}
		limit := within(t, 20*time.Second)
		for hit := 0; hit == 0; hit = disturb() {
			if err := session.AwaitCarrier(limit); err != nil {
				t.Fatal(err)
			}
		}
		// The next disturbance is for the next carrier.
		if err := session.AwaitLoss(limit); err != nil {
			t.Fatal(err)
		}
	}
	await(t, transferTime, func() { <-done })
	if local.current.session != session {
		t.Error("the session was lost")
	}
	t.Logf("%d bytes sent again by the local", session.Stats().Resent)
}

// The carrier is cut 100 times, and no stream notices.
func TestChaosCut(t *testing.T) {
	t.Parallel()
	local, _, c := startChaos(t, chaosRate, 0, 0)
	chaos(t, local, 100, c.cut)
}

// The relay stops passing anything on, even the end of a connection, 100 times. The patience is
// short to keep the test short.
func TestChaosSilence(t *testing.T) {
	t.Parallel()
	local, _, c := startChaos(t, chaosRate, 0, 200*time.Millisecond)
	chaos(t, local, 100, c.silence)
	if cause := local.current.session.LossCause(); !errors.Is(cause, mux.ErrPeerSilent) {
		t.Errorf("the last silence was taken for %v", cause)
	}
}

// At a round trip of 100 ms, data flows again within five round trips and 200 ms after a cut.
func TestResumeTime(t *testing.T) {
	const roundTrip = 100 * time.Millisecond
	local, _, c := startChaos(t, 1<<30, roundTrip/2, 0)
	conn := dial(t, local, serveTCP(t, echo))
	exchange := func() {
		t.Helper()
		if _, err := conn.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	exchange()
	var times []time.Duration
	for range 5 {
		pause(t, steadyAfter)
		began := time.Now()
		c.cut()
		exchange()
		times = append(times, time.Since(began))
	}
	slices.Sort(times)
	t.Logf("from cut to echo: %v", times)
	if median := times[len(times)/2]; median > 5*roundTrip+200*time.Millisecond {
		t.Errorf("median %v", median)
	}
}

// Nothing passes for a minute; then the transfers continue.
func TestOutage(t *testing.T) {
	t.Parallel()
	local, _, c := startChaos(t, 8<<20, 0, 0)
	server := transferServer(t)
	var transfers sync.WaitGroup
	for i := range 4 {
		for _, kind := range []byte{'d', 'u'} {
			transfers.Go(func() { transfer(t, local, server, kind, uint64(i), 8<<20) })
		}
	}
	pause(t, time.Second)
	c.down.Store(true)
	pause(t, time.Minute)
	c.down.Store(false)
	c.cut() // connections that hung have lost bytes
	local.Retry()
	await(t, transferTime, transfers.Wait)
}
