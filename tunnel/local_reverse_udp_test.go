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

	"culvert/internal/testnet"
	"culvert/tunnel/mux"
	"culvert/tunnel/policy"

	"github.com/rs/zerolog"
)

// serveReverseUDPTo serves a reverse forward of datagrams until stop is called or the test ends.
func serveReverseUDPTo(
	t testing.TB, local *Local, address, target string,
) (port netip.AddrPort, stop func()) {
	t.Helper()
	bound, err := local.ListenReverseUDP(testnet.Within(t, 10*time.Second), address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() { local.ServeReverseUDP(ctx, bound, target) })
	stop = func() {
		cancel()
		serving.Wait()
	}
	t.Cleanup(stop)
	return netip.MustParseAddrPort(bound.Addr().String()), stop
}

// Datagrams of all sizes keep their boundaries, each client of the port has its own socket at the
// target and gets its own answers, and the port is free when the forward has stopped.
func TestReverseUDP(t *testing.T) {
	local, _ := reverseTunnel(t, "localhost")
	var mu sync.Mutex
	for _, target := range []string{"127.0.0.1:0", "[::1]:0"} {
		sources := map[netip.AddrPort]bool{}
		server := testnet.ServeUDP(t, target, func(conn *net.UDPConn, p []byte, from netip.AddrPort) {
			mu.Lock()
			sources[from] = true
			mu.Unlock()
			conn.WriteToUDPAddrPort(p, from)
		})
		port, stop := serveReverseUDPTo(
			t,
			local,
			netip.AddrPortFrom(server.Addr(), 0).String(),
			server.String(),
		)
		if port.Addr() != server.Addr() {
			t.Errorf("bound %v, want a port of %v", port, server.Addr())
		}
		var clients []*net.UDPConn
		for range 3 {
			clients = append(clients, dialUDP(t, port))
		}
		for _, size := range udpSizes {
			for _, client := range clients {
				p := randomBytes(t, size)
				if got := askConn(t, client, p); !bytes.Equal(got, p) {
					t.Errorf("%v: %d bytes come back as %d others", server, size, len(got))
				}
			}
		}
		mu.Lock()
		if len(sources) != len(clients) {
			t.Errorf("%d clients are %d at the target", len(clients), len(sources))
		}
		mu.Unlock()
		stop()
		until(t, "the port is free", func() bool { return isFreeUDP(port) })
	}
}

// Of a name's addresses, the one where somebody listens gets the datagrams.
func TestReverseUDPToName(t *testing.T) {
	useNames(t, map[string]string{"both.test": "127.0.0.1 ::1"})
	local, _ := reverseTunnel(t, "localhost")
	for _, server := range []string{"127.0.0.1:0", "[::1]:0"} {
		target := fmt.Sprint("both.test:", testnet.EchoUDPServer(t, server).Port())
		port, _ := serveReverseUDPTo(t, local, "127.0.0.1:0", target)
		client := dialUDP(t, port)
		for i := range 3 {
			if p := fmt.Append(nil, i); !bytes.Equal(askConn(t, client, p), p) {
				t.Errorf("%s: another answer to %s", server, p)
			}
		}
	}
}

// A target where nobody answers does not end the stream of a client, and one that can't be found is
// refused.
func TestReverseUDPNoTarget(t *testing.T) {
	local, _ := reverseTunnel(t, "localhost")
	gone := testnet.ListenUDP(t, "127.0.0.1:0")
	gone.Close()
	port, _ := serveReverseUDPTo(t, local, "localhost:0", addrOf(gone).String())
	client := dialUDP(t, port)
	for range 5 {
		client.Write([]byte("anybody?"))
		client.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if n, err := client.Read(make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("received %d bytes, %v", n, err)
		}
	}
	back := testnet.EchoUDPServer(t, addrOf(gone).String())
	if got := askConn(t, client, []byte("now?")); string(got) != "now?" {
		t.Errorf("from %v: %q", back, got)
	}

	conn, err := local.wait(testnet.Within(t, time.Second))
	if err != nil {
		t.Fatal(err)
	}
	nowhere, _ := serveReverseUDPTo(t, local, "localhost:0", "name.invalid:53")
	before := conn.session.Stats().Streams
	client = dialUDP(t, nowhere)
	for range 3 {
		client.Write([]byte("lost"))
	}
	until(
		t,
		"the client's stream has gone",
		func() bool { return conn.session.Stats().Streams == before },
	)
}

// Another client replaces the one that was idle for the longest time, which returns when it sends
// again.
func TestReverseUDPEvicts(t *testing.T) {
	local, _ := reverseTunnel(t, "localhost")
	port, _ := serveReverseUDPTo(t, local, "localhost:0",
		testnet.EchoUDPServer(t, "127.0.0.1:0").String())
	first := dialUDP(t, port)
	for i := range maxUDPClients {
		askConn(t, dialUDP(t, port), fmt.Append(nil, i))
	}
	if got := askConn(t, first, []byte("back")); string(got) != "back" {
		t.Errorf("the first one got %q", got)
	}
	conn, err := local.wait(testnet.Within(t, time.Second))
	if err != nil {
		t.Fatal(err)
	}
	const control = 1 // the port's own stream
	until(
		t,
		"there are no more streams than places",
		func() bool { return conn.session.Stats().Streams <= maxUDPClients+control },
	)
}

// TestUDPForwardWithoutRoom: one host that sends from ever more ports doesn't keep others out by
// taking all streams that the client may have. It takes nothing from a host with a single stream.
func TestUDPForwardWithoutRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const room = 10
		near, _ := muxPair(t)
		var streams atomic.Int64
		socket := newFakePackets()
		f := newUDPForward(socket, zerolog.Nop(), func(netip.AddrPort) (*flow, func(), error) {
			if streams.Load() == room {
				return nil, nil, &mux.OpenError{Code: mux.CodeTooManyStreams}
			}
			datagrams, err := near.OpenFlowAtOnce("")
			if err != nil {
				return nil, nil, err
			}
			streams.Add(1)
			return newFlow(datagrams), func() { streams.Add(-1) }, nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		var serving sync.WaitGroup
		serving.Go(func() { f.serve(ctx) })
		held := func(host string) (n int) {
			synctest.Wait()
			f.mu.Lock()
			defer f.mu.Unlock()
			for path := range f.clients {
				if path.client.Addr().String() == host {
					n++
				}
			}
			return n
		}
		send := func(host string, port int) {
			from := netip.AddrPortFrom(netip.MustParseAddr(host), uint16(port))
			for range 2 { // the first of them may be dropped
				socket.in <- packet{"x", from}
				synctest.Wait()
			}
		}
		send("192.0.2.1", 1)
		for port := range 3 * room {
			send("198.51.100.1", 1+port)
		}
		send("192.0.2.2", 1)
		for host, want := range map[string]int{
			"192.0.2.1": 1, "192.0.2.2": 1, "198.51.100.1": room - 2,
		} {
			if n := held(host); n != want {
				t.Errorf("%s has %d streams, want %d", host, n, want)
			}
		}
		cancel()
		serving.Wait()
	})
}

// A remote that opens more streams than the local has sockets for is refused.
func TestReverseUDPFlowsAreBounded(t *testing.T) {
	near, far := muxPair(t)
	rb := &reverseBind{kind: mux.StreamUDP, log: zerolog.Nop(), incoming: make(chan mux.Incoming, 1)}
	rb.ctx, rb.cancel = context.WithCancel(context.Background())
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	defer testnet.Await(t, patience, serving.Wait)
	defer cancel()
	target := testnet.EchoUDPServer(t, "127.0.0.1:0").String()
	serving.Go(func() { NewLocal(LocalConfig{}).ServeReverseUDP(ctx, &ReverseUDP{rb}, target) })
	var last *mux.Flow
	for range maxReverseFlows + 1 {
		var err error
		if last, err = far.OpenFlowAtOnce("1 127.0.0.1:1"); err != nil {
			t.Fatal(err)
		}
		accepted, err := near.Accept(ctx)
		if err != nil {
			t.Fatal(err)
		}
		rb.incoming <- accepted
	}
	if _, err := last.Receive(nil); openCode(err) != mux.CodeTooManyStreams {
		t.Errorf("one more: %v", err)
	}
}

// The port outlives the WebSocket, with its clients.
func TestReverseUDPResumes(t *testing.T) {
	_, remote := reverseTunnel(t, "localhost")
	c, cfg := throughRelay(t, remote, remote.localConfig(t, newKey(t)))
	local, _ := startLocal(t, cfg)
	port, _ := serveReverseUDPTo(t, local, "localhost:0",
		testnet.EchoUDPServer(t, "127.0.0.1:0").String())
	client := dialUDP(t, port)
	for i := range 3 {
		p := fmt.Append(nil, "before ", i)
		// Answers to datagrams that were sent again may come late.
		for !bytes.Equal(askConn(t, client, p), p) {
		}
		c.Cut()
	}
	if got := askConn(t, dialUDP(t, port), []byte("after")); string(got) != "after" {
		t.Errorf("received %q", got)
	}
}

// A remote that restarts without the session gets the port again, the same one, and a revoked grant
// closes it.
func TestReverseUDPAfterRestart(t *testing.T) {
	local, remote := reverseTunnel(t, "localhost")
	port, _ := serveReverseUDPTo(t, local, "localhost:0",
		testnet.EchoUDPServer(t, "127.0.0.1:0").String())
	client := dialUDP(t, port)
	askConn(t, client, []byte("before"))
	second := replaceRemote(t, remote, func() {
		if !isFreeUDP(port) {
			t.Error("a remote that has shut down still has the port")
		}
	})
	until(t, "the port is back", func() bool {
		client.Write([]byte("after"))
		client.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		buf := make([]byte, 10)
		n, err := client.Read(buf)
		return err == nil && string(buf[:n]) == "after"
	})
	if err := second.Reload(remote.cfg.Identity, remote.cfg.Trust, policy.Rights{}); err != nil {
		t.Fatal(err)
	}
	until(t, "the port is free", func() bool { return isFreeUDP(port) })
}

// A client that sends nothing for long is dropped; the stream names the port's own stream and the
// client.
func TestReverseUDPIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := muxPair(t)
		control, err := near.OpenFlowAtOnce("") // whose id is the port's
		if err != nil {
			t.Fatal(err)
		}
		defer control.Close()
		asked, err := far.Accept(testnet.Within(t, patience))
		if err != nil {
			t.Fatal(err)
		}
		defer asked.Refuse(mux.CodeNotAllowed, "")
		e := &remoteBind{session: far, control: asked}
		socket := newFakePackets()
		ended := 0
		f := newUDPForward(socket, zerolog.Nop(), func(client netip.AddrPort) (*flow, func(), error) {
			datagrams, err := openFlow(far, e.streamAddress(client))
			return newFlow(datagrams), func() { ended++ }, err
		})
		ctx, cancel := context.WithCancel(context.Background())
		var serving sync.WaitGroup
		defer testnet.Await(t, patience, serving.Wait)
		defer cancel()
		serving.Go(func() {
			if err := f.serve(ctx); err != nil {
				t.Error(err)
			}
		})
		began := time.Now()
		socket.in <- packet{"only", netip.MustParseAddrPort("192.0.2.1:7")}
		in, err := near.Accept(ctx)
		if err != nil {
			t.Fatal(err)
		}
		want := mux.Target{Kind: mux.StreamUDP, Address: fmt.Sprint(control.ID(), " 192.0.2.1:7")}
		if got := in.Target(); got != want {
			t.Errorf("a stream for %+v, want %+v", got, want)
		}
		flow, err := in.(*mux.IncomingFlow).Confirm()
		if err != nil {
			t.Fatal(err)
		}
		defer flow.Close()
		<-endOfFlow(flow)
		synctest.Wait()
		if took := time.Since(began); took != udpIdle || ended != 1 {
			t.Errorf("ended after %v, %d times", took, ended)
		}
	})
}
