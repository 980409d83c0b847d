package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"culvert/certs"
	"culvert/internal/testnet"
	"culvert/tunnel/mux"
	"culvert/tunnel/policy"

	"github.com/rs/zerolog"
)

func isFree(address string) bool {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	ln.Close()
	return true
}

func TestReverseRefused(t *testing.T) {
	local, remote := reverseTunnel(t, "localhost,127.0.0.2:1000-2000,192.0.2.1")
	taken := testnet.EchoServer(t)
	for _, test := range []struct {
		address string
		code    mux.Code
	}{
		{"*:0", mux.CodeNotAllowed},
		{"127.0.0.3:1", mux.CodeNotAllowed},
		{"127.0.0.2:0", mux.CodeNotAllowed},
		{"unix:/tmp/x", mux.CodeNotAllowed},
		{"example.org:1", mux.CodeBadTarget},
		{"192.0.2.1:1", mux.CodeCannotListen},
		{taken, mux.CodeAddressInUse},
	} {
		if _, err := local.ListenReverse(
			testnet.Within(t, 10*time.Second), test.address,
		); openCode(err) != test.code {
			t.Errorf("%s: %v, want %v", test.address, err, test.code)
		}
	}
	for range maxClientListeners {
		ln, err := local.ListenReverse(testnet.Within(t, 10*time.Second), "localhost:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
	}
	if _, err := local.ListenReverse(
		testnet.Within(t, 10*time.Second), "localhost:0",
	); openCode(err) != mux.CodeTooManyStreams {
		t.Errorf("one listener too many: %v", err)
	}

	// Without a listener a remote can't open streams.
	cfg := remote.localConfig(t, newKey(t))
	plain, _ := startLocal(t, cfg)
	if _, err := plain.WaitSession(testnet.Within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	session := remote.sessionOf(t, cfg.Key.Public())
	until(t, "a stream that nobody asked for is refused", func() bool {
		target := mux.Target{Kind: mux.StreamReverse, Address: "1 127.0.0.1:1"}
		_, err := session.Open(testnet.Within(t, 10*time.Second), target)
		return openCode(err) == mux.CodeNotAllowed
	})
}

// listen requests a listener in a session, and returns its control stream.
func listen(t *testing.T, session *mux.Session, address string) (*mux.Stream, error) {
	t.Helper()
	target := mux.Target{Kind: mux.StreamListen, Address: policy.TCPPrefix + address}
	return session.Open(testnet.Within(t, patience), target)
}

// startListeners starts a remote whose clients may listen on 127.0.0.1.
func startListeners(t *testing.T, keys ...*certs.KeyPair) *shares {
	t.Helper()
	rules, err := policy.ParseReverseRules([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	return startShares(t, trustKeys(t, keys...), func(cfg *RemoteConfig) { cfg.Reverse = rules })
}

// The listeners in all sessions of a client count together, until they have ended. Another client
// is not affected.
func TestListenersOfOneClient(t *testing.T) {
	key, other := newKey(t), newKey(t)
	s := startListeners(t, key, other)
	sessions, client := s.mustConnect(key, key, other), s.client(key)
	for range maxClientListeners - 1 {
		client.listeners.take()
	}
	if _, err := listen(t, sessions[0], "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	for _, session := range sessions[:2] {
		_, err := listen(t, session, "127.0.0.1:0")
		if openCode(err) != mux.CodeTooManyStreams ||
			!strings.Contains(err.Error(), "limit of 64 listeners") {
			t.Errorf("one listener too many: %v", err)
		}
	}
	if _, err := listen(t, sessions[2], "127.0.0.1:0"); err != nil {
		t.Errorf("a listener of another client: %v", err)
	}
	sessions[0].Close()
	isLeft := func() bool { return client.listeners.taken() == maxClientListeners-1 }
	until(t, "its place is free", isLeft)
	if _, err := listen(t, sessions[1], "256.0.0.1:0"); openCode(err) != mux.CodeBadTarget {
		t.Errorf("a malformed address: %v", err)
	}
	if _, err := listen(t, sessions[1], "127.0.0.2:0"); openCode(err) != mux.CodeNotAllowed {
		t.Errorf("an address that is not allowed: %v", err)
	}
	control, err := listen(t, sessions[1], "127.0.0.1:0")
	if err != nil {
		t.Fatalf("a listener when another has gone: %v", err)
	}
	control.Close()
	until(t, "its place is free too", isLeft)
}

// A client that has as many listeners as it may have gets them again in another session once it has
// lost the first.
func TestListenersMakeRoom(t *testing.T) {
	key := newKey(t)
	s := startListeners(t, key)
	lost, client := s.mustConnect(key)[0], s.client(key)
	var addresses []string
	for range 2 {
		control, err := listen(t, lost, "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addresses = append(addresses, readLine(t, control))
	}
	for range maxClientListeners - 2 {
		client.listeners.take()
	}
	s.crash()
	session := s.mustConnect(key)[0]
	if _, err := listen(t, session, addresses[0]); err != nil {
		t.Fatalf("the address of a lost listener: %v", err)
	}
	if isFree(addresses[1]) {
		t.Error("a lost listener made room although another had the address")
	}
	if _, err := listen(t, session, "127.0.0.1:0"); err != nil {
		t.Fatalf("another address: %v", err)
	}
	if _, err := listen(t, session, "127.0.0.1:0"); openCode(err) != mux.CodeTooManyStreams {
		t.Errorf("one listener too many: %v", err)
	}
	s.live(session)
}

// The line of a key replaces the remote's rules for what it may bind, and a reload revokes a grant.
func TestReverseOfKeys(t *testing.T) {
	plain, bound := newKey(t), newKey(t)
	trust := trustLines(t, plain.Public().String(), bound.Public().String()+" reverse=127.0.0.2")
	rules, err := policy.ParseReverseRules([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	remote := startRemote(t, trust, func(cfg *RemoteConfig) { cfg.Reverse = rules })
	locals := map[string]*Local{}
	cfg := remote.localConfig(t, plain)
	locals["127.0.0.1:0"], _ = startLocal(t, cfg)
	cfg = remote.localConfig(t, bound)
	locals["127.0.0.2:0"], _ = startLocal(t, cfg)
	for own, local := range locals {
		for address := range locals {
			ln, err := local.ListenReverse(testnet.Within(t, 10*time.Second), address)
			if (err == nil) != (address == own) {
				t.Errorf("%s for the owner of %s: %v", address, own, err)
			}
			if err == nil {
				t.Cleanup(func() { ln.Close() })
			}
		}
	}
	ln, _ := serveReverseTo(t, locals["127.0.0.2:0"], "127.0.0.2:0", testnet.EchoServer(t))
	address := ln.Addr().String()
	open := dialPlain(t, address)
	echoes(t, open)
	if err := remote.Reload(
		remote.cfg.Identity, trustKeys(t, plain, bound), policy.Rights{Reverse: rules},
	); err != nil {
		t.Fatal(err)
	}
	until(t, "the port is free", func() bool { return isFree(address) })
	echoes(t, open)
	var line *policy.KeyLineError
	bad := trustLines(t, plain.Public().String()+" reverse=example.org")
	if err := remote.Reload(remote.cfg.Identity, bad, policy.Rights{}); !errors.As(err, &line) ||
		line.Line != 1 ||
		line.Option != "reverse" {
		t.Errorf("a bad line: %v", err)
	}
}

// A port belongs to one client. A client that was lost and returns takes its port over from its old
// session, and nobody else can. So it is when the remote has not noticed the loss yet.
func TestReverseClaims(t *testing.T) {
	t.Run("noticed", func(t *testing.T) {
		testReverseClaims(t, func(c *testnet.Relay, remote *testRemote) {
			c.SetDown(true) // the first never comes back
			c.Cut()
			until(t, "the first session is away", func() bool {
				remote.mu.Lock()
				defer remote.mu.Unlock()
				for session := range remote.sessions {
					if session.Stats().Away {
						return true
					}
				}
				return false
			})
		})
	})
	t.Run("unnoticed", func(t *testing.T) {
		testReverseClaims(t, func(c *testnet.Relay, _ *testRemote) {
			c.SetDown(true)
			c.Silence()
		})
	})
}

func testReverseClaims(t *testing.T, lose func(*testnet.Relay, *testRemote)) {
	_, remote := reverseTunnel(t, "localhost")
	key := newKey(t)
	connect := func(cfg LocalConfig) (*Local, context.CancelFunc) {
		local := NewLocal(cfg)
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { local.Run(ctx) })
		t.Cleanup(func() {
			cancel()
			testnet.Await(t, patience, running.Wait)
		})
		return local, cancel
	}
	cfg := remote.localConfig(t, key)
	c, lost := throughRelay(t, remote, cfg)
	first, _ := connect(lost)
	ln, _ := serveReverseTo(t, first, "localhost:0", testnet.EchoServer(t))
	address := strings.Replace(ln.Addr().String(), "127.0.0.1", "localhost", 1)
	second, _ := connect(cfg)
	if _, err := second.ListenReverse(
		testnet.Within(t, 10*time.Second), address,
	); openCode(err) != mux.CodeAddressInUse {
		t.Fatalf("the same client, connected twice: %v", err)
	}
	lose(c, remote)
	cfg.Key = newKey(t)
	stranger, _ := connect(cfg)
	if _, err := stranger.ListenReverse(
		testnet.Within(t, 10*time.Second), address,
	); openCode(err) != mux.CodeAddressInUse {
		t.Fatalf("another client: %v", err)
	}
	serveReverseTo(t, second, address, testnet.EchoServer(t))
	echoes(t, dialPlain(t, address))
}

func isFreeUDP(address netip.AddrPort) bool {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(address))
	if err == nil {
		conn.Close()
	}
	return err == nil
}

func TestReverseUDPRefused(t *testing.T) {
	local, _ := reverseTunnel(t, "localhost,127.0.0.2:1000-2000,192.0.2.1")
	taken := testnet.EchoUDPServer(t, "127.0.0.1:0")
	for _, test := range []struct {
		address string
		code    mux.Code
	}{
		{"*:0", mux.CodeNotAllowed},
		{"127.0.0.3:1", mux.CodeNotAllowed},
		{"127.0.0.2:0", mux.CodeNotAllowed},
		{"unix:/tmp/x", mux.CodeBadTarget},
		{"example.org:1", mux.CodeBadTarget},
		{"192.0.2.1:1", mux.CodeCannotListen},
		{taken.String(), mux.CodeAddressInUse},
	} {
		if _, err := local.ListenReverseUDP(
			testnet.Within(t, 10*time.Second), test.address,
		); openCode(err) != test.code {
			t.Errorf("%s: %v, want %v", test.address, err, test.code)
		}
	}

	// The same port of TCP is independent of it.
	until(t, "a port of TCP is bound next to one of UDP", func() bool {
		port, stop := serveReverseUDPTo(t, local, "localhost:0", taken.String())
		defer stop()
		ln, err := local.ListenReverse(testnet.Within(t, 10*time.Second), port.String())
		if err == nil {
			ln.Close()
		}
		return err == nil
	})
}

// A remote that sends datagrams unasked, or where a connection was requested, is refused.
func TestReverseUDPUnasked(t *testing.T) {
	_, remote := reverseTunnel(t, "localhost")
	for _, reverse := range []bool{false, true} {
		cfg := remote.localConfig(t, newKey(t))
		plain, _ := startLocal(t, cfg)
		if _, err := plain.WaitSession(testnet.Within(t, 10*time.Second)); err != nil {
			t.Fatal(err)
		}
		if reverse {
			ln, err := plain.ListenReverse(testnet.Within(t, 10*time.Second), "localhost:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
		}
		session := remote.sessionOf(t, cfg.Key.Public())
		var flow *mux.Flow
		testnet.Poll(t, patience, "the remote's end of the session has begun", func() (begun bool) {
			var err error
			flow, err = session.OpenFlowAtOnce("1 127.0.0.1:1")
			return err == nil
		})
		if _, err := flow.Receive(nil); openCode(err) != mux.CodeNotAllowed {
			t.Errorf("with a listener, %v: %v", reverse, err)
		}
	}
}

// sessionOf returns the session of a client that has one.
func (r *testRemote) sessionOf(t *testing.T, client certs.PublicKey) *mux.Session {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for session, a := range r.sessions {
		if a.peer.Key.Equal(client) {
			return session
		}
	}
	t.Fatal("the client has no session")
	return nil
}

// A rule for 0.0.0.0 does not open an IPv6 port.
func TestReverseOfOneVersion(t *testing.T) {
	local, _ := reverseTunnel(t, "0.0.0.0")
	ln, _ := serveReverseTo(t, local, "0.0.0.0:0", testnet.EchoServer(t))
	port := netip.MustParseAddrPort(ln.Addr().String()).Port()
	echoes(t, dialPlain(t, fmt.Sprintf("127.0.0.1:%d", port)))
	if conn, err := net.Dial("tcp", fmt.Sprintf("[::1]:%d", port)); err == nil {
		conn.Close()
		t.Error("the port of IPv4 is one of IPv6 too")
	}
	udp, _ := serveReverseUDPTo(t, local, "0.0.0.0:0",
		testnet.EchoUDPServer(t, "127.0.0.1:0").String())
	v4 := dialUDP(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), udp.Port()))
	if got := askConn(t, v4, []byte("v4")); string(got) != "v4" {
		t.Errorf("received %q", got)
	}
	if !isFreeUDP(netip.AddrPortFrom(netip.IPv6Loopback(), udp.Port())) {
		t.Error("the UDP port of IPv4 is one of IPv6 too")
	}
}

// A client that comes back with another session takes all of its ports over, also several with one
// number.
func TestReverseTakesOverAllAddresses(t *testing.T) {
	_, remote := reverseTunnel(t, "127.0.0.0/8")
	for range 10 { // the order is that of a map
		cfg := remote.localConfig(t, newKey(t))
		c, lost := throughRelay(t, remote, cfg)
		first, _ := startLocal(t, lost)
		port := testnet.FreePort(t)
		listen := func(local *Local) {
			t.Helper()
			for _, host := range []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"} {
				ln, err := local.ListenReverse(testnet.Within(t, patience), host+":"+port)
				if err != nil {
					t.Fatalf("%s: %v", host, err)
				}
				t.Cleanup(func() { ln.Close() })
			}
		}
		listen(first)
		c.SetDown(true) // the first never comes back
		c.Cut()
		second, _ := startLocal(t, cfg)
		listen(second)
	}
}

// A port belongs to one client until its session waits for a connection and the same client asks
// for the port in another session.
func TestReverseUDPClaims(t *testing.T) {
	_, remote := reverseTunnel(t, "localhost")
	cfg := remote.localConfig(t, newKey(t))
	c, lost := throughRelay(t, remote, cfg)
	first, _ := startLocal(t, lost)
	target := testnet.EchoUDPServer(t, "127.0.0.1:0").String()
	port, _ := serveReverseUDPTo(t, first, "127.0.0.1:0", target)
	claim := func(cfg LocalConfig) (*Local, error) {
		local, _ := startLocal(t, cfg)
		bound, err := local.ListenReverseUDP(testnet.Within(t, 10*time.Second), port.String())
		if err == nil {
			bound.Close()
		}
		return local, err
	}
	second, err := claim(cfg)
	if openCode(err) != mux.CodeAddressInUse {
		t.Fatalf("the same client, connected twice: %v", err)
	}
	c.SetDown(true) // the first never comes back
	c.Cut()
	cfg.Key = newKey(t)
	if _, err := claim(cfg); openCode(err) != mux.CodeAddressInUse {
		t.Fatalf("another client: %v", err)
	}
	until(t, "the port is the second's", func() bool {
		bound, err := second.ListenReverseUDP(testnet.Within(t, 10*time.Second), port.String())
		if err == nil {
			bound.Close()
		}
		return err == nil
	})
	until(t, "the port is free again", func() bool { return isFreeUDP(port) })
	serveReverseUDPTo(t, second, port.String(), target)
	if got := askConn(t, dialUDP(t, port), []byte("mine")); string(got) != "mine" {
		t.Errorf("received %q", got)
	}
}

// TestListenLines: a client that asks for listeners again and again writes no log without bound.
func TestListenLines(t *testing.T) {
	key, log := newKey(t), &lockedBuffer{}
	s := startShares(t, trustKeys(t, key), func(cfg *RemoteConfig) {
		cfg.Log = zerolog.New(log).Level(zerolog.InfoLevel)
	})
	session := s.mustConnect(key)[0]
	for range 2 * maxListenerLines {
		_, err := session.Open(testnet.Within(t, patience), mux.Target{
			Kind: mux.StreamListen, Address: policy.TCPPrefix + "127.0.0.1:0",
		})
		if openCode(err) != mux.CodeNotAllowed {
			t.Fatal(err)
		}
	}
	const line = "reverse forward refused"
	if n := strings.Count(log.String(), line); n != maxListenerLines {
		t.Errorf("%d lines, want %d", n, maxListenerLines)
	}
	session.Close()
	testnet.Poll(t, patience, "the lines left out are counted", func() bool {
		return strings.Contains(log.String(), fmt.Sprintf(`"omitted":%d`, maxListenerLines))
	})
}

// onlyBind returns the only bind of a remote.
func (r *testRemote) onlyBind(t *testing.T) *remoteBind {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for b := range r.binds {
		return b
	}
	t.Fatal("the remote has bound nothing")
	return nil
}

// TestListenerNeverReady: a listener whose local isn't ready for connections in time is given up.
// Once that is ready, there is no hurry.
func TestListenerNeverReady(t *testing.T) {
	for _, ready := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			near, far := muxPair(t)
			var asking sync.WaitGroup
			asking.Go(func() {
				stream, err := near.Open(t.Context(), mux.Target{Kind: mux.StreamListen, Address: "x"})
				if err != nil {
					t.Error(err)
					return
				}
				for range 2 {
					time.Sleep(listenTimeout - time.Second)
					if ready {
						stream.Write([]byte("\n"))
					}
				}
			})
			in, err := far.Accept(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			control, err := in.(*mux.IncomingStream).Confirm()
			if err != nil {
				t.Fatal(err)
			}
			bind, began := &remoteBind{bind: policy.Bind{Socket: "/x"}, log: zerolog.Nop()}, time.Now()
			if bind.announce(control) != ready {
				t.Errorf("ready after %v, want %v", time.Since(began), ready)
			}
			if took := time.Since(began); !ready && took != listenTimeout {
				t.Errorf("it is given up after %v", took)
			}
			if _, err := control.Read(make([]byte, 1)); ready && err != nil {
				t.Errorf("the stream after %v: %v", time.Since(began), err)
			}
			asking.Wait()
		})
	}
}

// TestOverlaps: a remote knows of its listeners, and of those for its clients, where the system
// would let others bind a part of their addresses.
func TestOverlaps(t *testing.T) {
	local, remote := reverseTunnel(t, "*")
	ln, _ := serveReverseTo(t, local, "*:0", testnet.EchoServer(t))
	own := serveRemote(t, RemoteTrust{Anyone: true}, false, nil)
	until(t, "the remote serves", func() bool {
		own.moving.mu.Lock()
		defer own.moving.mu.Unlock()
		return len(own.moving.entrances) > 0
	})
	own.cfg.Taken = []net.Addr{&net.TCPAddr{IP: net.IPv4zero, Port: 1}}
	_, taken, _ := net.SplitHostPort(ln.Addr().String())
	_, entrance, _ := net.SplitHostPort(own.address)
	for _, test := range []struct {
		remote *Remote
		bind   string
		want   bool
	}{
		{remote.Remote, "tcp:127.0.0.1:" + taken, true},
		{remote.Remote, "udp:127.0.0.1:" + taken, false},
		{own.Remote, "tcp:*:" + entrance, true},
		{own.Remote, "tcp:127.0.0.2:" + entrance, false},
		{own.Remote, "tcp:127.0.0.2:1", true},
	} {
		bind, err := policy.ParseBind(test.bind)
		if got := test.remote.overlaps(bind); err != nil || got != test.want {
			t.Errorf("%s: %v, %v, want %v", test.bind, got, err, test.want)
		}
	}
}

// take counts as many connections from a source, with their streams, as there may be, but no more
// than most.
func (r *testRemote) take(t *testing.T, bind *remoteBind, from source, most int) (n int) {
	t.Helper()
	for ; n < most; n++ {
		if _, ok := r.takeCaller(bind, from); !ok {
			return n
		}
		if _, refusal := r.takeStream(bind.session); refusal != nil {
			t.Fatal(refusal)
		}
	}
	return n
}

// TestSourceOfCallers: one address takes no port of -R for itself, and all together, known or not,
// leave half of the streams to the client. They get back what they have given.
func TestSourceOfCallers(t *testing.T) {
	local, remote := reverseTunnel(t, "localhost")
	serveReverseTo(t, local, "localhost:0", testnet.EchoServer(t))
	bind := remote.onlyBind(t)
	remote.mu.Lock()
	client := remote.sessions[bind.session].client
	client.share.Streams = 81 // one is the port's own
	remote.mu.Unlock()
	greedy := netip.MustParsePrefix("198.51.100.1/32")
	other := netip.MustParsePrefix("198.51.100.2/32")
	if n := remote.take(t, bind, greedy, 100); n != 20 {
		t.Errorf("an address has %d of 40 streams", n)
	}
	if n := remote.take(t, bind, other, 100); n != 10 {
		t.Errorf("another one has %d of 20 that were left", n)
	}
	if n := remote.take(t, bind, source{}, 100); n != 10 {
		t.Errorf("those on this machine have %d of 10 that were left", n)
	}
	for range 20 {
		remote.leaveCaller(bind, client, greedy)
		remote.leaveStream(client)
	}
	if bind.called != 20 || client.called != 20 || len(client.callers) != 1 {
		t.Errorf("%d connections are left, of %v", bind.called, client.callers)
	}
	if n := remote.take(t, bind, greedy, 100); n != 10 {
		t.Errorf("the first one has %d of the 20 that it has given back", n)
	}
}

// TestCallersLeaveStreams: many addresses that each have a few connections to a port of -R don't
// take the streams that its client needs, whether its share or the memory bounds them.
func TestCallersLeaveStreams(t *testing.T) {
	for name, memory := range map[string]int64{"share": 0, "memory": 64 << 20} {
		t.Run(name, func(t *testing.T) {
			key, streams := newKey(t), 16
			if memory > 0 {
				streams = 1 << 14
			}
			rules, err := policy.ParseReverseRules([]string{"127.0.0.1"})
			if err != nil {
				t.Fatal(err)
			}
			trust := trustLines(t, fmt.Sprintf("%v streams=%d", key.Public(), streams))
			s := startShares(t, trust, func(cfg *RemoteConfig) {
				cfg.Reverse, cfg.Memory = rules, memory
			})
			session := s.mustConnect(key)[0]
			if _, err := listen(t, session, "127.0.0.1:0"); err != nil {
				t.Fatal(err)
			}
			bind, taken := s.onlyBind(t), 0
			until(t, "no more are taken", func() bool {
				addr := netip.AddrFrom4([4]byte{198, 51, byte(taken >> 8), byte(taken)})
				n := s.take(t, bind, sourceOf(addr), leastCallers)
				taken += n
				return n == 0
			})
			echo := mux.Target{Kind: mux.StreamTCP, Address: testnet.EchoServer(t)}
			for i := range taken / 2 {
				if _, err := session.Open(testnet.Within(t, patience), echo); err != nil {
					t.Fatalf("with %d callers, %d streams, then %v", taken, i, err)
				}
			}
		})
	}
}
