package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"culvert/internal/testnet/link"
)

// The run over a bad link: its transfers, and how often their carrier is cut.
const (
	chaosTransfers = 20 // of each direction
	chaosSize      = 16 << 20
	chaosCuts      = 100
	chaosTime      = 10 * time.Minute // for all of it; idle cores need three to four

	// chaosRate in bit/s lets the transfers last longer than the cuts do.
	chaosRate = 50e6
)

// cutter is a TCP relay that can cut what goes through it.
type cutter struct {
	address  string
	accepted atomic.Int64

	mu    sync.Mutex
	conns map[*net.TCPConn]struct{} // both ends of what goes through
}

// startCutter relays from a host's loopback to a server that the host reaches, until the test ends.
func startCutter(t *testing.T, h *host, server string) *cutter {
	t.Helper()
	ln := h.listen(t, "127.0.0.1:0")
	c := &cutter{address: ln.Addr().String(), conns: make(map[*net.TCPConn]struct{})}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return // closed
			}
			c.accepted.Add(1)
			serving.Go(func() { c.serve(client.(*net.TCPConn), h, server) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		c.cut()
		serving.Wait()
	})
	return c
}

func (c *cutter) serve(client *net.TCPConn, h *host, server string) {
	defer client.Close()
	conn, err := inNamespace(h.name, func() (net.Conn, error) { return net.DialTimeout("tcp", server, patience) })
	if err != nil {
		return
	}
	far := conn.(*net.TCPConn)
	defer far.Close()
	c.keep(client, far)
	defer c.forget(client, far)
	var copies sync.WaitGroup
	for _, way := range [2][2]*net.TCPConn{{client, far}, {far, client}} {
		copies.Go(func() {
			io.Copy(way[0], way[1])
			way[0].CloseWrite()
		})
	}
	copies.Wait()
}

func (c *cutter) keep(conns ...*net.TCPConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range conns {
		c.conns[conn] = struct{}{}
	}
}

func (c *cutter) forget(conns ...*net.TCPConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range conns {
		delete(c.conns, conn)
	}
}

// cut resets what goes through now, and says whether that was anything; what comes later goes through.
func (c *cutter) cut() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.conns {
		conn.SetLinger(0)
		conn.Close()
	}
	cut := len(c.conns) > 0
	clear(c.conns)
	return cut
}

// transferServer sends and takes contents, until the test ends. The first byte of a connection says which, the next
// eight are the content's seed. It answers what it took with its hash.
type transferServer struct {
	address string
	size    int64

	mu     sync.Mutex
	served map[[9]byte]int // connections, by what they asked for
}

func startTransferServer(t *testing.T, ln net.Listener, size int64) *transferServer {
	t.Helper()
	s := &transferServer{address: ln.Addr().String(), size: size, served: make(map[[9]byte]int)}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return // closed
			}
			serving.Go(func() {
				defer conn.Close()
				stop := context.AfterFunc(t.Context(), func() { conn.Close() })
				defer stop()
				s.serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		serving.Wait()
	})
	return s
}

func (s *transferServer) serve(conn net.Conn) {
	var head [9]byte
	io.ReadFull(conn, head[:]) // what has no head is counted too, as one of zeros
	s.mu.Lock()
	s.served[head]++
	s.mu.Unlock()
	switch head[0] {
	case 'd':
		io.Copy(conn, content(head, s.size))
	case 'u':
		h := sha256.New()
		if _, err := io.Copy(h, conn); err == nil {
			conn.Write(h.Sum(nil))
		}
	}
}

// content is a stream of bytes that differs for each transfer, so that both ends know it without holding it.
func content(head [9]byte, size int64) io.Reader {
	var key [32]byte
	copy(key[:], head[:])
	return io.LimitReader(rand.NewChaCha8(key), size)
}

// transfer does one download or upload, and compares.
func (s *transferServer) transfer(t *testing.T, dial func() (net.Conn, error), kind byte, seed uint64) {
	conn, err := dial()
	if err != nil {
		t.Errorf("%c%d: %v", kind, seed, err)
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(chaosTime))
	var head [9]byte
	head[0] = kind
	binary.BigEndian.PutUint64(head[1:], seed)
	want := sha256.New()
	io.Copy(want, content(head, s.size))
	if _, err = conn.Write(head[:]); err != nil {
		t.Errorf("%c%d: %v", kind, seed, err)
		return
	}
	n, got := s.size, make([]byte, sha256.Size)
	if kind == 'd' {
		h := sha256.New()
		n, err = io.Copy(h, conn)
		got = h.Sum(nil)
	} else if _, err = io.Copy(conn, content(head, s.size)); err == nil {
		conn.(*net.TCPConn).CloseWrite()
		_, err = io.ReadFull(conn, got)
	}
	if equal := string(got) == string(want.Sum(nil)); err != nil || n != s.size || !equal {
		t.Errorf("%c%d: %d bytes of %d, hash equal: %v, %v", kind, seed, n, s.size, equal, err)
	}
}

// wasOnce checks that there were so many different connections, and each once.
func (s *transferServer) wasOnce(t *testing.T, connections int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.served) != connections {
		t.Errorf("%d different streams reached the server, want %d", len(s.served), connections)
	}
	for head, n := range s.served {
		if n != 1 {
			t.Errorf("stream %c%d reached the server %d times", head[0], binary.BigEndian.Uint64(head[1:]), n)
		}
	}
}

// useBBR has the connections of a host use BBR, whose speed doesn't fall with each lost packet. Where every loss counts
// as a full link, as with CUBIC, one connection over the link of this test makes some 0.2 MB/s.
func useBBR(t *testing.T, h *link.Host) {
	t.Helper()
	_, err := inNamespace(h.Namespace, func() (struct{}, error) {
		return struct{}{}, os.WriteFile("/proc/sys/net/ipv4/tcp_congestion_control", []byte("bbr"), 0)
	})
	if err != nil {
		t.Fatalf("the congestion control BBR is missing: modprobe tcp_bbr loads it: %v", err)
	}
}

// badLink is a tunnel whose carrier goes over a bad link and can be cut, and a server at its far end.
type badLink struct {
	*link.Link
	tunnel
	between *cutter // on the local's host
	server  *transferServer
}

// startBadLink starts it with a round trip of 80 ms and a loss of one packet in a hundred each way.
func startBadLink(t *testing.T) *badLink {
	t.Helper()
	needRoot(t, "it makes network namespaces")
	needProgram(t, "ip")
	l, err := link.New(link.Config{Delay: 40 * time.Millisecond, Rate: chaosRate, Loss: 0.01, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	useBBR(t, l.A)
	useBBR(t, l.B)
	near, far := &host{name: l.A.Namespace, addr: l.A.Addr}, &host{name: l.B.Namespace, addr: l.B.Addr}
	b := &badLink{Link: l, tunnel: tunnel{server: newIdentity(t), client: newIdentity(t)}}
	b.server = startTransferServer(t, far.listen(t, "127.0.0.1:0"), chaosSize)
	b.authorized = writeFile(t, "authorized_keys", b.client.key+"\n")
	b.remote = startNode(t, "remote", far.command(t, culvert(t,
		remoteArgs(b.tunnel.server, "--listen", far.addr.String()+":0", "--authorized-keys", b.authorized)...)))
	b.between = startCutter(t, near, b.remote.listen[0])
	b.local = startNode(t, "local", near.command(t, culvert(t, localArgs(b.client, b.tunnel.server,
		"ws://"+b.between.address+"/", "-L", "127.0.0.1:0:"+b.server.address)...)))
	return b
}

// dial opens a connection through the tunnel.
func (b *badLink) dial() (net.Conn, error) {
	return inNamespace(b.A.Namespace, func() (net.Conn, error) {
		return net.DialTimeout("tcp", b.local.forwards[0], patience)
	})
}

// cutUntil cuts the carrier chaosCuts times, 0.05 to 2 seconds apart; a time when there is none doesn't count. All of them
// must come before done.
func (b *badLink) cutUntil(t *testing.T, done <-chan struct{}) {
	t.Helper()
	for n := 0; n < chaosCuts; {
		pause := time.Duration(0.05 * math.Pow(40, rand.Float64()) * float64(time.Second))
		select {
		case <-time.After(pause):
			if b.between.cut() {
				n++
			}
		case <-done:
			t.Fatalf("all was over after %d of %d cuts", n, chaosCuts)
		}
	}
}

// The carrier over a bad link is cut again and again: no stream notices, and none is opened twice.
func TestChaosOverBadLink(t *testing.T) {
	t.Parallel()
	b := startBadLink(t)
	began := time.Now()
	var transfers sync.WaitGroup
	for i := range uint64(chaosTransfers) {
		for _, kind := range []byte{'d', 'u'} {
			transfers.Go(func() { b.server.transfer(t, b.dial, kind, i) })
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		transfers.Wait()
	}()
	b.cutUntil(t, done)
	cutFor := time.Since(began)
	<-done
	b.server.wasOnce(t, 2*chaosTransfers)
	log := b.local.stderr.String()
	if strings.Contains(log, "session lost") {
		t.Error("a session was lost")
	}
	up, down := b.Stats()
	t.Logf("%d carriers, %d resumed, cuts for %v, all took %v; up %+v, down %+v", b.between.accepted.Load(),
		strings.Count(log, "session resumed"), cutFor, time.Since(began), up, down)
}
