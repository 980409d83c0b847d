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
	"testing"
	"testing/synctest"
	"time"

	"culvert/internal/testnet"
	"culvert/tunnel/mux"
)

// fakePackets is a socket for synctest bubbles.
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
	return &fakePackets{
		make(chan packet),
		make(chan packet, 10),
		closed,
		sync.OnceFunc(func() { close(closed) }),
	}
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

// drainDatagrams receives the datagrams that are queued, and returns why there are no more.
func drainDatagrams(flow *mux.Flow) (err error) {
	flow.SetReadDeadline(time.Now())
	for err == nil {
		_, err = flow.Receive(make([]byte, 10))
	}
	return err
}

// endOfFlow returns a channel that is closed when the flow is cut short.
func endOfFlow(flow *mux.Flow) <-chan struct{} {
	ended := make(chan struct{})
	flow.NotifyEnd(func(bool) { close(ended) })
	return ended
}

// Clients that are idle for long stay, and those that are idle for too long end.
func TestForwardUDPIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := muxPair(t)
		local := NewLocal(LocalConfig{})
		local.set(&localConnection{session: near}, nil)
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
		accept := func(from netip.AddrPort) *mux.Flow {
			socket.in <- packet{"first", from}
			in, err := far.Accept(ctx)
			if err != nil {
				t.Fatal(err)
			}
			flow, err := in.(*mux.IncomingFlow).Confirm()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { flow.Close() })
			return flow
		}
		busyFlow, quietFlow := accept(busy), accept(quiet)
		began := time.Now()
		for range 10 { // in both directions, in turns
			time.Sleep(udpIdle - time.Second)
			socket.in <- packet{"more", busy}
			time.Sleep(udpIdle - time.Second)
			busyFlow.Send([]byte("answer"))
			if got := <-socket.out; got != (packet{"answer", busy}) {
				t.Errorf("after %v: %v", time.Since(began), got)
			}
			if err := drainDatagrams(busyFlow); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("the busy one's flow after %v: %v", time.Since(began), err)
			}
		}
		if n := near.Stats().Streams; n != 1 {
			t.Errorf("%d streams", n)
		}
		select {
		case <-endOfFlow(quietFlow): // cut by the close, since this side could still send
		default:
			t.Error("the quiet one's flow is still there")
		}
		last := time.Now()
		synctest.Wait()
		<-endOfFlow(busyFlow)
		if took := time.Since(last); took != udpIdle {
			t.Errorf("the busy one's flow ended after %v", took)
		}
	})
}

// answerFlows serves a UDP forward of a local with a socket that the test plays, and answers each
// flow that it opens at the far end of its session, until stop, which waits.
func answerFlows(
	t *testing.T, local *Local, far *mux.Session, answer func(in mux.Incoming),
) (socket *fakePackets, stop func()) {
	t.Helper()
	socket = newFakePackets()
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() { local.serveForwardUDP(ctx, socket, "h:1") })
	serving.Go(func() {
		for {
			in, err := far.Accept(ctx)
			if err != nil {
				return
			}
			answer(in)
		}
	})
	return socket, func() {
		cancel()
		testnet.Await(t, patience, serving.Wait)
	}
}

// After a refusal, not every datagram asks again.
func TestForwardUDPRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := muxPair(t)
		local, refusals := NewLocal(LocalConfig{}), 0
		socket, stop := answerFlows(t, local, far, func(in mux.Incoming) {
			in.Refuse(mux.CodeNotAllowed, "")
			refusals++
		})
		from := netip.MustParseAddrPort("127.0.0.1:1")
		socket.in <- packet{"there is no session", from}
		synctest.Wait()
		local.set(&localConnection{session: near}, nil)
		for range 100 {
			socket.in <- packet{"again", from}
			time.Sleep(100 * time.Millisecond)
		}
		stop()
		if refusals < 5 || refusals > 11 {
			t.Errorf("asked %d times in 10 s", refusals)
		}
	})
}

// startUDPForward serves a UDP port forward until the test ends.
func startUDPForward(t testing.TB, local *Local, target string) netip.AddrPort {
	t.Helper()
	conn := testnet.ListenUDP(t, "127.0.0.1:0")
	serveUDPForward(t, local, conn, target)
	return addrOf(conn)
}

// serveUDPForward is startUDPForward for a bound socket, which it takes ownership of.
func serveUDPForward(t testing.TB, local *Local, conn *net.UDPConn, target string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := local.ServeForwardUDP(ctx, conn, target); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		testnet.Await(t, patience, serving.Wait)
	})
}

func TestForwardUDP(t *testing.T) {
	local, remote := startTunnel(t)
	for _, server := range []string{"127.0.0.1:0", "[::1]:0"} {
		target := testnet.EchoUDPServer(t, server).String()
		forward := startUDPForward(t, local, target)
		var clients []*net.UDPConn
		for range 3 {
			clients = append(clients, dialUDP(t, forward))
		}
		for _, size := range udpSizes {
			for _, client := range clients {
				p := randomBytes(t, size)
				if got := askConn(t, client, p); !bytes.Equal(got, p) {
					t.Errorf("%s: %d bytes come back as %d others", target, size, len(got))
				}
			}
		}
	}
	if n := remote.exits.taken(); n != 6 {
		t.Errorf("%d sockets for 6 clients", n)
	}
}

// Of a name's addresses, the one where somebody listens gets the datagrams.
func TestForwardUDPToName(t *testing.T) {
	local, _ := startUDPTunnel(t)
	for _, server := range []string{"127.0.0.1:0", "[::1]:0"} {
		port := testnet.EchoUDPServer(t, server).Port()
		client := dialUDP(t, startUDPForward(t, local, fmt.Sprint("both.test:", port)))
		for i := range 3 {
			if p := fmt.Append(nil, i); !bytes.Equal(askConn(t, client, p), p) {
				t.Errorf("%s: another answer to %s", server, p)
			}
		}
	}
}

// A target where nobody answers, and one that the remote refuses, leave the forward running.
func TestForwardUDPNoTarget(t *testing.T) {
	local, remote := startTunnel(t)
	gone := testnet.ListenUDP(t, "127.0.0.1:0")
	gone.Close()
	client := dialUDP(t, startUDPForward(t, local, addrOf(gone).String()))
	for range 5 { // the system's answer is an error of the remote's socket, which it outlives
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

	client = dialUDP(t, startUDPForward(t, local, "name.invalid:53"))
	for range 3 {
		client.Write([]byte("lost"))
	}
	waitExits(t, remote.Remote, 1)
}

// When the session is lost, datagrams are dropped until there is another.
func TestForwardUDPAgain(t *testing.T) {
	local, remote := startTunnel(t)
	echo := testnet.EchoUDPServer(t, "127.0.0.1:0")
	client := dialUDP(t, startUDPForward(t, local, echo.String()))
	askConn(t, client, []byte("before"))
	conn, err := local.wait(testnet.Within(t, time.Second))
	if err != nil {
		t.Fatal(err)
	}
	conn.session.Close()
	client.Write([]byte("dropped, or sent over the next session"))
	remote.server.CloseClientConnections()
	until(t, "datagrams pass again", func() bool {
		return string(askConn(t, client, []byte("after"))) == "after"
	})
}

// A client beyond the limit replaces the one that was idle for the longest time.
func TestForwardUDPEvicts(t *testing.T) {
	local, remote := startTunnel(t)
	echo := testnet.EchoUDPServer(t, "127.0.0.1:0")
	forward := startUDPForward(t, local, echo.String())
	first := dialUDP(t, forward)
	for i := range maxUDPClients {
		askConn(t, dialUDP(t, forward), fmt.Append(nil, i))
	}
	waitExits(t, remote.Remote, maxUDPClients)
	if got := askConn(t, first, []byte("back")); string(got) != "back" {
		t.Errorf("the first one got %q", got)
	}
	waitExits(t, remote.Remote, maxUDPClients)
}

// A host that sends from ever more ports takes no stream from a client elsewhere, however long that
// is idle meanwhile.
func TestForwardUDPFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := muxPair(t)
		local, opened := NewLocal(LocalConfig{}), 0
		local.set(&localConnection{session: near}, nil)
		socket, stop := answerFlows(t, local, far, func(in mux.Incoming) {
			opened++
			if _, err := in.(*mux.IncomingFlow).Confirm(); err != nil {
				t.Error(err)
			}
		})
		quiet := netip.MustParseAddrPort("192.0.2.1:1")
		flood := netip.MustParseAddr("198.51.100.1")
		socket.in <- packet{"first", quiet}
		for port := range 3 * maxUDPClients {
			time.Sleep(time.Millisecond)
			socket.in <- packet{"flood", netip.AddrPortFrom(flood, uint16(1+port))}
		}
		socket.in <- packet{"second", quiet}
		synctest.Wait()
		if opened != 1+3*maxUDPClients {
			t.Errorf("%d streams were opened", opened)
		}
		stop()
	})
}

// TestForwardUDPForged: a client that has sent again after an answer loses its stream to no host
// that forges many addresses, however long it is idle meanwhile.
func TestForwardUDPForged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := muxPair(t)
		local := NewLocal(LocalConfig{})
		local.set(&localConnection{session: near}, nil)
		var first *mux.Flow
		socket, stop := answerFlows(t, local, far, func(in mux.Incoming) {
			flow, err := in.(*mux.IncomingFlow).Confirm()
			if err != nil {
				t.Error(err)
			} else if first == nil {
				first = flow
			}
		})
		peer := netip.MustParseAddrPort("192.0.2.1:1")
		socket.in <- packet{"request", peer}
		synctest.Wait()
		first.Send([]byte("answer"))
		<-socket.out
		socket.in <- packet{"request", peer}
		for i := range maxUDPClients + 50 {
			time.Sleep(time.Millisecond)
			forged := netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)})
			socket.in <- packet{"forged", netip.AddrPortFrom(forged, 1)}
		}
		synctest.Wait()
		first.Send([]byte("another"))
		select {
		case got := <-socket.out:
			if got != (packet{"another", peer}) {
				t.Errorf("%v comes in place of another answer", got)
			}
		case <-time.After(time.Second):
			t.Error("the client gets no other answer")
		}
		stop()
	})
}
