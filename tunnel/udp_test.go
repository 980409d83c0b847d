package tunnel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"culvert/tunnel/mux"
	"culvert/tunnel/policy"

	"github.com/rs/zerolog"
)

// echoUDP sends each datagram back until the test ends.
func echoUDP(t testing.TB, address string) netip.AddrPort {
	t.Helper()
	return serveUDP(t, address, func(conn *net.UDPConn, p []byte, from netip.AddrPort) { conn.WriteToUDPAddrPort(p, from) })
}

// serveUDP handles each datagram to the returned address until the test ends.
func serveUDP(t testing.TB, address string, handle func(conn *net.UDPConn, p []byte, from netip.AddrPort)) netip.AddrPort {
	t.Helper()
	conn := listenUDP(t, address)
	var serving sync.WaitGroup
	serving.Go(func() {
		p := make([]byte, 64<<10)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(p)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				handle(conn, p[:n], from)
			}
		}
	})
	t.Cleanup(func() {
		conn.Close()
		serving.Wait()
	})
	return addrOf(conn)
}

func listenUDP(t testing.TB, address string) *net.UDPConn {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(address)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetReadBuffer(1 << 20) // bytes; large datagrams count for more than they hold
	return conn
}

func addrOf(conn *net.UDPConn) netip.AddrPort { return conn.LocalAddr().(*net.UDPAddr).AddrPort() }

// ask sends a datagram until one comes back, as those who use UDP have to, and returns that.
func ask(t testing.TB, p []byte, send func([]byte) error, receive func(timeout time.Duration) ([]byte, error)) []byte {
	t.Helper()
	for range 20 {
		if err := send(p); err != nil {
			t.Fatal(err)
		}
		got, err := receive(time.Second)
		if err == nil {
			return got
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
	}
	t.Fatalf("no answer to %d bytes", len(p))
	return nil
}

// askConn is ask by way of a connected socket.
func askConn(t testing.TB, conn *net.UDPConn, p []byte) []byte {
	t.Helper()
	return ask(t, p, func(p []byte) error {
		_, err := conn.Write(p)
		return err
	}, func(timeout time.Duration) ([]byte, error) {
		buf := make([]byte, 64<<10)
		conn.SetReadDeadline(time.Now().Add(timeout))
		n, err := conn.Read(buf)
		return buf[:n], err
	})
}

func associate(t testing.TB, local *Local) *Association {
	t.Helper()
	a, err := local.Associate(within(t, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// askAssociation is ask by way of an association; the answer has to come from source.
func askAssociation(t testing.TB, a *Association, host string, port uint16, p []byte, source netip.AddrPort) []byte {
	t.Helper()
	return ask(t, p, func(p []byte) error { return a.Send(host, port, p) }, func(timeout time.Duration) ([]byte, error) {
		buf := make([]byte, mux.MaxDatagram)
		a.stream.SetReadDeadline(time.Now().Add(timeout))
		n, from, err := a.Receive(buf)
		if err == nil && from != source {
			t.Errorf("the answer comes from %v, want %v", from, source)
		}
		return buf[:n], err
	})
}

var udpSizes = []int{0, 1, 512, 1472, 9000, 32 << 10, 65507}

func TestAssociation(t *testing.T) {
	local, _ := startUDPTunnel(t)
	v4, v6 := echoUDP(t, "127.0.0.1:0"), echoUDP(t, "[::1]:0")
	a := associate(t, local)
	for _, size := range udpSizes {
		p := randomBytes(t, size)
		if got := askAssociation(t, a, "127.0.0.1", v4.Port(), p, v4); !bytes.Equal(got, p) {
			t.Errorf("%d bytes come back as %d others", size, len(got))
		}
		if got := askAssociation(t, a, "::1", v6.Port(), p, v6); !bytes.Equal(got, p) {
			t.Errorf("%d bytes come back by IPv6 as %d others", size, len(got))
		}
	}
	if got := askAssociation(t, a, "::ffff:127.0.0.1", v4.Port(), []byte("mapped"), v4); string(got) != "mapped" {
		t.Errorf("mapped address: %q", got)
	}
	for i := range 3 { // of which the first has to wait for the name
		p := fmt.Append(nil, i)
		if got := askAssociation(t, a, "known.test", v4.Port(), p, v4); !bytes.Equal(got, p) {
			t.Errorf("by name: %q", got)
		}
	}
	for _, host := range []string{"", string(make([]byte, 256))} {
		if err := a.Send(host, 1, nil); !errors.Is(err, policy.ErrBadTarget) {
			t.Errorf("host of %d bytes: %v", len(host), err)
		}
	}
	if err := a.Send("127.0.0.1", v4.Port(), make([]byte, mux.MaxDatagram)); !errors.Is(err, mux.ErrDatagramSize) {
		t.Errorf("too large: %v", err)
	}
	a.Close()
	if _, _, err := a.Receive(nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestAssociationStrangers has somebody send to the remote's socket whom the association has not sent to.
func TestAssociationStrangers(t *testing.T) {
	local, _ := startTunnel(t)
	stranger := listenUDP(t, "127.0.0.2:0")
	exits := make(chan netip.AddrPort, 100)
	echo := serveUDP(t, "127.0.0.1:0", func(conn *net.UDPConn, p []byte, from netip.AddrPort) {
		exits <- from
		stranger.WriteToUDPAddrPort([]byte("unasked"), from)
		conn.WriteToUDPAddrPort(p, from)
	})
	a := associate(t, local)
	for range 10 {
		if got := askAssociation(t, a, "127.0.0.1", echo.Port(), []byte("asked"), echo); string(got) != "asked" {
			t.Fatalf("received %q", got)
		}
	}
	// Once it has sent to the stranger's host, the association hears it.
	if err := a.Send("127.0.0.2", addrOf(stranger).Port(), []byte("hello")); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 100)
	stranger.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, from, err := stranger.ReadFromUDPAddrPort(p); err != nil || string(p[:n]) != "hello" || from != <-exits {
		t.Fatalf("the stranger got %q from %v, %v", p[:n], from, err)
	}
	if got := askAssociation(t, a, "127.0.0.1", echo.Port(), []byte("asked"), addrOf(stranger)); string(got) != "unasked" {
		t.Errorf("received %q", got)
	}
}

// TestAssociationEnds shows that a socket at the remote lives as long as its association.
func TestAssociationEnds(t *testing.T) {
	local, remote := startTunnel(t)
	a := associate(t, local)
	if n := len(remote.exits); n != 1 {
		t.Errorf("%d sockets, want 1", n)
	}
	a.Close()
	waitExits(t, remote.Remote, 0)
	b := associate(t, local)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	remote.Shutdown(ctx)
	if _, _, err := b.Receive(make([]byte, 10)); err == nil {
		t.Error("an association outlives the remote")
	}
	waitExits(t, remote.Remote, 0)
}

func waitExits(t testing.TB, remote *Remote, want int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); len(remote.exits) != want; <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d sockets, want %d", len(remote.exits), want)
		}
	}
}

// TestExitsAreBounded opens more associations than a session may have.
func TestExitsAreBounded(t *testing.T) {
	local, remote := startTunnel(t)
	// Filling the places with sockets would need more descriptors than many machines give.
	for range maxExits - 2 {
		remote.exits.take()
	}
	first, second := associate(t, local), associate(t, local)
	var refused *mux.OpenError
	if _, err := local.Associate(within(t, 10*time.Second)); !errors.As(err, &refused) || refused.Code != mux.CodeTooManyStreams {
		t.Errorf("one more: %v", err)
	}
	first.Close()
	second.Close()
	waitExits(t, remote.Remote, maxExits-2)
	for range maxExits - 2 {
		remote.exits.leave()
	}

	near, far := muxPair(t)
	stream, err := near.OpenDatagrams("")
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := far.Accept(within(t, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	mine := make(places, 1)
	mine.take()
	remote.serveDatagrams(context.Background(), accepted, func() resolver { return (*policy.Rules)(nil) }, mine, zerolog.Nop())
	if _, err := stream.ReceiveDatagram(nil); !errors.As(err, &refused) || refused.Code != mux.CodeTooManyStreams {
		t.Errorf("one more of a session: %v", err)
	}
}

// startUDPTunnel starts a tunnel whose remote resolves known.test to loopback, after a name whose answer never comes, and
// whose rules deny 127.0.0.66 and everything at port 7.
func startUDPTunnel(t testing.TB) (*Local, *testRemote) {
	t.Helper()
	rules, err := policy.ParseRules(nil, []string{"127.0.0.66,*:7,denied.test"})
	if err != nil {
		t.Fatal(err)
	}
	useNames(t, map[string]string{"known.test": "127.0.0.1", "rebound.test": "127.0.0.66", "slow.test": ""})
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), func(cfg *RemoteConfig) { cfg.Rules = rules })
	local, _ := startLocal(t, remote.localConfig(t, key))
	if _, err := local.WaitSession(within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	return local, remote
}

// TestAssociationRules sends to targets that the rules forbid, by address and by name: nothing arrives, and allowed ones
// are not disturbed. After a reload the new rules hold.
func TestAssociationRules(t *testing.T) {
	local, remote := startUDPTunnel(t)
	var got atomic.Int64
	echo := serveUDP(t, "127.0.0.1:0", func(conn *net.UDPConn, p []byte, from netip.AddrPort) { conn.WriteToUDPAddrPort(p, from) })
	forbidden := serveUDP(t, "127.0.0.66:"+strconv.Itoa(int(echo.Port())), func(*net.UDPConn, []byte, netip.AddrPort) { got.Add(1) })
	a := associate(t, local)
	for _, host := range []string{"127.0.0.66", "::ffff:127.0.0.66", "rebound.test", "denied.test", "slow.test"} {
		if err := a.Send(host, forbidden.Port(), []byte("forbidden")); err != nil {
			t.Fatal(err)
		}
	}
	// By the time of the answer, those before it have been sent, if they were.
	for range 3 {
		if got := askAssociation(t, a, "known.test", echo.Port(), []byte("allowed"), echo); string(got) != "allowed" {
			t.Errorf("received %q", got)
		}
	}
	if n := got.Load(); n != 0 {
		t.Errorf("%d forbidden datagrams have arrived", n)
	}
	if err := remote.Reload(remote.cfg.Identity, remote.cfg.Trust, nil, nil); err != nil {
		t.Fatal(err)
	}
	for got.Load() == 0 {
		if err := a.Send("127.0.0.66", forbidden.Port(), []byte("allowed now")); err != nil {
			t.Fatal(err)
		}
		askAssociation(t, a, "127.0.0.1", echo.Port(), nil, echo)
	}
}

// TestForwardUDPRules has the remote forbid a forward's target.
func TestForwardUDPRules(t *testing.T) {
	local, _ := startUDPTunnel(t)
	conn, err := local.wait(within(t, time.Second))
	if err != nil {
		t.Fatal(err)
	}
	for target, want := range map[string]mux.Code{
		"127.0.0.66:53":   mux.CodeNotAllowed,
		"rebound.test:53": mux.CodeNotAllowed,
		"127.0.0.1:7":     mux.CodeNotAllowed,
		"unknown.test:53": mux.CodeNameNotFound,
		"127.0.0.1":       mux.CodeBadTarget,
	} {
		stream, err := conn.session.OpenDatagrams(target)
		if err != nil {
			t.Fatal(err)
		}
		var refused *mux.OpenError
		if _, err := stream.ReceiveDatagram(nil); !errors.As(err, &refused) || refused.Code != want {
			t.Errorf("%s: %v, want %v", target, err, want)
		}
		stream.Close()
	}
}

// startUDPForward serves a UDP port forward until the test ends.
func startUDPForward(t testing.TB, local *Local, target string) netip.AddrPort {
	t.Helper()
	conn := listenUDP(t, "127.0.0.1:0")
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := local.ServeForwardUDP(ctx, conn, target); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		serving.Wait()
	})
	return addrOf(conn)
}

func dialUDP(t testing.TB, address netip.AddrPort) *net.UDPConn {
	t.Helper()
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(address))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetReadBuffer(1 << 20)
	return conn
}

func TestForwardUDP(t *testing.T) {
	local, remote := startTunnel(t)
	for _, target := range []string{echoUDP(t, "127.0.0.1:0").String(), echoUDP(t, "[::1]:0").String()} {
		door := startUDPForward(t, local, target)
		var clients []*net.UDPConn
		for range 3 {
			clients = append(clients, dialUDP(t, door))
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
	if n := len(remote.exits); n != 6 {
		t.Errorf("%d sockets for 6 clients", n)
	}
}

// TestForwardUDPNoTarget has a target that nobody answers at, and one that the remote refuses.
func TestForwardUDPNoTarget(t *testing.T) {
	local, remote := startTunnel(t)
	gone := listenUDP(t, "127.0.0.1:0")
	gone.Close()
	client := dialUDP(t, startUDPForward(t, local, addrOf(gone).String()))
	for range 5 { // the system's answer is an error of the remote's socket, which it outlives
		client.Write([]byte("anybody?"))
		client.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if n, err := client.Read(make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("received %d bytes, %v", n, err)
		}
	}
	back := echoUDP(t, addrOf(gone).String())
	if got := askConn(t, client, []byte("now?")); string(got) != "now?" {
		t.Errorf("from %v: %q", back, got)
	}

	client = dialUDP(t, startUDPForward(t, local, "name.invalid:53"))
	for range 3 {
		client.Write([]byte("lost"))
	}
	waitExits(t, remote.Remote, 1)
}

// TestForwardUDPAgain loses the session: datagrams are dropped meanwhile, and pass again when there is another.
func TestForwardUDPAgain(t *testing.T) {
	local, remote := startTunnel(t)
	echo := echoUDP(t, "127.0.0.1:0")
	client := dialUDP(t, startUDPForward(t, local, echo.String()))
	askConn(t, client, []byte("before"))
	conn, err := local.wait(within(t, time.Second))
	if err != nil {
		t.Fatal(err)
	}
	conn.session.Close()
	client.Write([]byte("dropped, or sent over the next session"))
	remote.server.CloseClientConnections()
	for {
		if got := askConn(t, client, []byte("after")); string(got) == "after" {
			break
		}
	}
}

// TestForwardUDPEvicts has more clients than there are places.
func TestForwardUDPEvicts(t *testing.T) {
	local, remote := startTunnel(t)
	echo := echoUDP(t, "127.0.0.1:0")
	door := startUDPForward(t, local, echo.String())
	first := dialUDP(t, door)
	for i := range maxUDPClients {
		askConn(t, dialUDP(t, door), fmt.Append(nil, i))
	}
	waitExits(t, remote.Remote, maxUDPClients)
	if got := askConn(t, first, []byte("back")); string(got) != "back" {
		t.Errorf("the first one got %q", got)
	}
	waitExits(t, remote.Remote, maxUDPClients)
}
