package tunnel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"culvert/tunnel/mux"
	"culvert/tunnel/policy"
)

func TestEndpoints(t *testing.T) {
	for _, test := range []struct {
		host string
		port uint16
		want string
	}{
		{"192.0.2.1", 53, "\x01\xc0\x00\x02\x01\x00\x35"},
		{"::ffff:192.0.2.1", 53, "\x01\xc0\x00\x02\x01\x00\x35"},
		{"2001:db8::1", 443, "\x04\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x01\xbb"},
		{"example.org", 65535, "\x03\x0bexample.org\xff\xff"},
	} {
		e, err := newEndpoint(test.host, test.port)
		if err != nil {
			t.Fatal(err)
		}
		b := e.append(nil)
		if string(b) != test.want || len(b) != e.size() {
			t.Errorf("%s: got %q of %d bytes", test.host, b, e.size())
		}
		parsed, payload, err := parseEndpoint(append(b, "payload"...))
		if err != nil || parsed != e || string(payload) != "payload" {
			t.Errorf("%q: parsed as %v, %q, %v", b, parsed, payload, err)
		}
		for n := range b {
			if _, _, err := parseEndpoint(b[:n]); !errors.Is(err, policy.ErrBadTarget) {
				t.Errorf("%q: %v", b[:n], err)
			}
		}
	}
	for _, bad := range []string{"\x02\x00\x00\x00\x00\x00\x35", "\x03\x00\x00\x35", "\x01\xc0\x00\x02\x01\x00\x00"} {
		if _, _, err := parseEndpoint([]byte(bad)); !errors.Is(err, policy.ErrBadTarget) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// FuzzEndpoint parses any bytes, and gets the same bytes from what it has parsed.
func FuzzEndpoint(f *testing.F) {
	f.Add([]byte("\x01\xc0\x00\x02\x01\x00\x35payload"))
	f.Add([]byte("\x03\x0bexample.org\xff\xff"))
	f.Add([]byte("\x04\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x01\xbb"))
	f.Add([]byte("\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x7f\x00\x00\x01\x01\xbb"))
	f.Fuzz(func(t *testing.T, p []byte) {
		e, payload, err := parseEndpoint(p)
		if err != nil {
			return
		}
		again, rest, err := parseEndpoint(append(e.append(nil), payload...))
		if err != nil || again != e || !bytes.Equal(rest, payload) || e.size() > len(p)-len(payload) {
			t.Errorf("%q: %v, then %v, %q, %v", p, e, again, rest, err)
		}
	})
}

// pipeCarrier is one end of a carrier over channels, for bubbles.
type pipeCarrier struct {
	in, out chan []byte
	closed  chan struct{}
	close   func()
}

func (p *pipeCarrier) ReadRecord([]byte) ([]byte, error) {
	select {
	case b := <-p.in:
		return b, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipeCarrier) WriteRecords(records ...[]byte) error {
	for _, b := range records {
		select {
		case p.out <- bytes.Clone(b):
		case <-p.closed:
			return net.ErrClosed
		}
	}
	return nil
}

func (p *pipeCarrier) Close() error {
	p.close()
	return nil
}

// muxPair is a session over channels that ends with the test.
func muxPair(t *testing.T) (near, far *mux.Session) {
	t.Helper()
	x, y, closed := make(chan []byte, 4), make(chan []byte, 4), make(chan struct{})
	closeOnce := sync.OnceFunc(func() { close(closed) })
	var nearErr, farErr error
	var starting sync.WaitGroup
	cfg := mux.Config{Keepalive: -1}
	starting.Go(func() { far, farErr = mux.NewServer(context.Background(), &pipeCarrier{y, x, closed, closeOnce}, cfg) })
	near, nearErr = mux.NewClient(context.Background(), &pipeCarrier{x, y, closed, closeOnce}, cfg)
	starting.Wait()
	if err := errors.Join(nearErr, farErr); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		near.Close()
		far.Close()
	})
	return near, far
}

// fakePackets is a socket for bubbles.
type fakePackets struct {
	in, out chan packet
	closed  chan struct{}
	close   func()
}

type packet struct {
	text string
	addr netip.AddrPort
}

func newFakePackets() *fakePackets {
	closed := make(chan struct{})
	return &fakePackets{make(chan packet), make(chan packet, 10), closed, sync.OnceFunc(func() { close(closed) })}
}

func (f *fakePackets) ReadFromUDPAddrPort(p []byte) (int, netip.AddrPort, error) {
	select {
	case in := <-f.in:
		return copy(p, in.text), in.addr, nil
	case <-f.closed:
		return 0, netip.AddrPort{}, net.ErrClosed
	}
}

func (f *fakePackets) WriteToUDPAddrPort(p []byte, to netip.AddrPort) (int, error) {
	f.out <- packet{string(p), to}
	return len(p), nil
}

func (f *fakePackets) Close() error {
	f.close()
	return nil
}

// drainDatagrams takes the datagrams that are there, and returns why there are no more.
func drainDatagrams(stream *mux.Stream) (err error) {
	stream.SetReadDeadline(time.Now())
	for err == nil {
		_, err = stream.ReceiveDatagram(make([]byte, 10))
	}
	return err
}

// TestForwardUDPIdle lets clients be idle for long and for too long, by the clock of a bubble.
func TestForwardUDPIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := muxPair(t)
		local := NewLocal(LocalConfig{})
		local.set(&connection{session: near}, nil)
		socket := newFakePackets()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		var serving sync.WaitGroup
		defer serving.Wait()
		defer cancel()
		serving.Go(func() {
			if err := local.serveForwardUDP(ctx, socket, "h:1"); err != nil {
				t.Error(err)
			}
		})
		busy, quiet := netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("127.0.0.1:2")
		accept := func(from netip.AddrPort) *mux.Stream {
			socket.in <- packet{"first", from}
			stream, err := far.Accept(ctx)
			if err == nil {
				err = stream.Confirm()
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { stream.Close() })
			return stream
		}
		busyStream, quietStream := accept(busy), accept(quiet)
		began := time.Now()
		for range 10 { // in both directions, in turns
			time.Sleep(udpIdle - time.Second)
			socket.in <- packet{"more", busy}
			time.Sleep(udpIdle - time.Second)
			busyStream.SendDatagram([]byte("answer"))
			if got := <-socket.out; got != (packet{"answer", busy}) {
				t.Errorf("after %v: %v", time.Since(began), got)
			}
			if err := drainDatagrams(busyStream); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("the busy one's stream after %v: %v", time.Since(began), err)
			}
		}
		if n := near.Stats().Streams; n != 1 {
			t.Errorf("%d streams", n)
		}
		select {
		case <-quietStream.Done(): // cut by the close, since this side could still send
		default:
			t.Error("the quiet one's stream is still there")
		}
		last := time.Now()
		synctest.Wait()
		<-busyStream.Done()
		if took := time.Since(last); took != udpIdle {
			t.Errorf("the busy one's stream ended after %v", took)
		}
	})
}

// TestForwardUDPRefused has the remote refuse: not every datagram asks again.
func TestForwardUDPRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := muxPair(t)
		local := NewLocal(LocalConfig{})
		socket := newFakePackets()
		ctx, cancel := context.WithCancel(context.Background())
		var serving sync.WaitGroup
		serving.Go(func() { local.serveForwardUDP(ctx, socket, "h:1") })
		from := netip.MustParseAddrPort("127.0.0.1:1")
		socket.in <- packet{"there is no session", from}
		synctest.Wait()
		local.set(&connection{session: near}, nil)
		refusals := 0
		serving.Go(func() {
			for {
				stream, err := far.Accept(ctx)
				if err != nil {
					return
				}
				stream.Refuse(mux.CodeNotAllowed, "")
				refusals++
			}
		})
		for range 100 {
			socket.in <- packet{"again", from}
			time.Sleep(100 * time.Millisecond)
		}
		cancel()
		serving.Wait()
		if refusals < 5 || refusals > 11 {
			t.Errorf("asked %d times in 10 s", refusals)
		}
	})
}

// unansweredNames are rules that allow everything, and whose names the DNS never answers.
type unansweredNames struct {
	*policy.Rules
	lookups atomic.Int64
}

func (u *unansweredNames) Resolve(ctx context.Context, network, host string, port uint16) ([]netip.AddrPort, error) {
	if _, err := netip.ParseAddr(host); err == nil {
		return u.Rules.Resolve(ctx, network, host, port)
	}
	u.lookups.Add(1)
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestExitTargets has an association send to very many targets, names and addresses: what is remembered, looked up at a
// time and kept meanwhile is bounded.
func TestExitTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, _ := muxPair(t)
		stream, err := near.OpenDatagrams("")
		if err != nil {
			t.Fatal(err)
		}
		rules := new(unansweredNames)
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		e := newExit(stream, conn, func() resolver { return rules })
		defer stream.Close()
		for i := range 3 * maxTargets {
			name := endpoint{name: fmt.Sprint("host", i, ".test"), port: 9}
			for range 2 * maxWaitingDatagrams {
				e.write(e.route(t.Context(), name, nil), nil)
			}
			address := endpoint{addr: netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}), port: 9}
			e.write(e.route(t.Context(), address, nil), nil)
		}
		synctest.Wait()
		waiting := 0
		lookups := rules.lookups.Load()
		e.mu.Lock()
		for _, known := range e.targets {
			waiting += len(known.waiting)
		}
		if len(e.targets) > maxTargets || e.pending != maxLookups || lookups != maxLookups || waiting != maxLookups*maxWaitingDatagrams {
			t.Errorf("%d targets, %d pending, %d lookups, %d datagrams", len(e.targets), e.pending, lookups, waiting)
		}
		if len(e.contacts) > maxContacts || len(e.contacts) == 0 {
			t.Errorf("%d contacts", len(e.contacts))
		}
		e.mu.Unlock()
		e.lookups.Wait() // for their timeouts
		e.route(t.Context(), endpoint{name: "another.test", port: 9}, nil)
		e.lookups.Wait()
		if lookups := rules.lookups.Load(); lookups != maxLookups+1 {
			t.Errorf("%d lookups once there is room", lookups)
		}
	})
}
