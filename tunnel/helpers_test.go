package tunnel

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"culvert/certs"
	"culvert/internal/testnet"
	"culvert/protocol"
	"culvert/tunnel/mux"
	"culvert/tunnel/policy"

	"go.uber.org/goleak"
)

// pipeCarrier is one end of a carrier over channels, for synctest bubbles.
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
	}
	select { // what was written before the end still arrives
	case b := <-p.in:
		return b, nil
	default:
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

// muxPair returns both ends of a session over channels, which ends with the test.
func muxPair(t *testing.T) (near, far *mux.Session) {
	t.Helper()
	x, y, closed := make(chan []byte, 4), make(chan []byte, 4), make(chan struct{})
	closeOnce := sync.OnceFunc(func() { close(closed) })
	var nearErr, farErr error
	var starting sync.WaitGroup
	cfg := mux.Config{Keepalive: -1}
	starting.Go(func() {
		far, farErr = mux.NewServer(context.Background(), &pipeCarrier{y, x, closed, closeOnce}, cfg)
	})
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

// startForward serves a forward to target and returns its address.
func startForward(t testing.TB, local *Local, target string) string {
	t.Helper()
	ln := testnet.Listen(t)
	serveForward(t, local, ln, target)
	return ln.Addr().String()
}

// serveForward serves a forward to target on ln until the test ends.
func serveForward(t testing.TB, local *Local, ln net.Listener, target string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := local.ServeForward(ctx, ln, target); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		testnet.Await(t, patience, serving.Wait)
	})
}

// dialTime bounds what a test does with a connection of [dialPlain].
const dialTime = 30 * time.Second

func dialPlain(t testing.TB, address string) *net.TCPConn {
	t.Helper()
	return testnet.Dial(t, address, dialTime)
}

func echoes(t testing.TB, conn net.Conn) {
	t.Helper()
	if err := testnet.CheckEcho(conn, "ping"); err != nil {
		t.Fatal(err)
	}
}

// isReset checks that connections to an address are reset, which may happen before Dial returns.
func isReset(t testing.TB, address string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err == nil {
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(30 * time.Second))
		_, err = conn.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
}

func openCode(err error) mux.Code {
	var refused *mux.OpenError
	if !errors.As(err, &refused) {
		return 0
	}
	return refused.Code
}

// until waits until holds returns true.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	testnet.Poll(t, 20*time.Second, what, holds)
}

// patience bounds what tests wait for.
const patience = 60 * time.Second

// receive returns the next value of ch.
func receive[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatal("nothing is received")
		panic("unreachable")
	}
}

// pause returns after d, or when the test ends.
func pause(t testing.TB, d time.Duration) {
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

// replaceRemote shuts a remote down and returns another with the same configuration and address. In
// between it calls down.
func replaceRemote(t *testing.T, remote *testRemote, down func()) *Remote {
	t.Helper()
	second, err := NewRemote(remote.cfg)
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	remote.Shutdown(ended)
	down()
	listen := remote.server.Listener.Addr().String()
	remote.server.Close()
	server := httptest.NewUnstartedServer(second)
	server.Listener.Close()
	if server.Listener, err = net.Listen("tcp", listen); err != nil {
		t.Fatal(err)
	}
	server.Start()
	t.Cleanup(func() {
		second.Shutdown(ended)
		server.Close()
	})
	return second
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newKey(t testing.TB) *certs.KeyPair {
	t.Helper()
	key, err := certs.GenerateKeyPair(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// trustKeys admits the given keys.
func trustKeys(t testing.TB, keys ...*certs.KeyPair) RemoteTrust {
	t.Helper()
	var lines []string
	for _, key := range keys {
		lines = append(lines, key.Public().String())
	}
	return trustLines(t, lines...)
}

// trustLines admits the keys in the lines of an authorized-keys file.
func trustLines(t testing.TB, lines ...string) RemoteTrust {
	t.Helper()
	authorized, err := certs.ParseAuthorizedKeys(strings.NewReader(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return RemoteTrust{Authorized: authorized}
}

// testRemote is a remote behind a real HTTP server on loopback.
type testRemote struct {
	*Remote
	server *httptest.Server
	key    *certs.KeyPair
}

func startRemote(t testing.TB, trust RemoteTrust, change func(*RemoteConfig)) *testRemote {
	t.Helper()
	key := newKey(t)
	cfg := RemoteConfig{Identity: RemoteIdentity{Key: key}, Trust: trust}
	if change != nil {
		change(&cfg)
	}
	node, err := NewRemote(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := &testRemote{Remote: node, server: httptest.NewServer(node), key: key}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		node.Shutdown(ctx)
		r.server.Close()
	})
	return r
}

// localConfig is the configuration of a local that pins the remote.
func (r *testRemote) localConfig(t testing.TB, key *certs.KeyPair) LocalConfig {
	t.Helper()
	address, err := ParseAddress(r.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return LocalConfig{Address: address, Key: key, VerifyRemote: r.pin}
}

// throughRelay returns a relay to a remote, and the configuration of a local that connects by it.
func throughRelay(
	t *testing.T, remote *testRemote, cfg LocalConfig,
) (*testnet.Relay, LocalConfig) {
	t.Helper()
	relay := testnet.RelayTo(t, remote.server.Listener.Addr().String(), testnet.RelayConfig{})
	address, err := ParseAddress("ws://" + relay.Address() + "/")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Address = address
	return relay, cfg
}

func (r *testRemote) pin(peer protocol.Peer) error {
	if !peer.Key.Equal(r.key.Public()) {
		return certs.ErrUnknownRemote
	}
	return nil
}

// startLocal runs a local until the test ends. Run's result is sent to ended.
func startLocal(t testing.TB, cfg LocalConfig) (local *Local, ended <-chan error) {
	t.Helper()
	local = NewLocal(cfg)
	return local, runLocal(t, local)
}

// runLocal is startLocal for an existing Local.
func runLocal(t testing.TB, local *Local) (ended <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	var running sync.WaitGroup
	running.Go(func() { done <- local.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		testnet.Await(t, patience, running.Wait)
	})
	return done
}

// startTunnel starts a remote and a local that it admits, and waits until they are connected.
func startTunnel(t testing.TB) (*Local, *testRemote) {
	t.Helper()
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), nil)
	local, _ := startLocal(t, remote.localConfig(t, key))
	if _, err := local.WaitSession(testnet.Within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	return local, remote
}

func dial(t testing.TB, local *Local, address string) net.Conn {
	t.Helper()
	conn, err := local.DialContext(testnet.Within(t, 10*time.Second), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(60 * time.Second))
	return conn
}

// reached checks that targets that echo can be reached.
func reached(t testing.TB, local *Local, targets ...string) {
	t.Helper()
	for _, target := range targets {
		conn := dial(t, local, target)
		conn.Write([]byte("x"))
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			t.Errorf("%s: %v", target, err)
		}
		conn.Close()
	}
}

// refused checks that the remote's rules forbid targets, even when a stream to one was opened at
// once.
func refused(t testing.TB, local *Local, targets ...string) {
	t.Helper()
	for _, target := range targets {
		conn, err := local.DialContext(testnet.Within(t, 10*time.Second), "tcp", target)
		if err == nil {
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			_, err = conn.Read(make([]byte, 1))
			conn.Close()
		}
		var open *mux.OpenError
		if !errors.As(err, &open) || open.Code != mux.CodeNotAllowed {
			t.Errorf("%s: %v, want it not to be allowed", target, err)
		}
	}
}

func mustParse(t testing.TB, allow, deny []string) *policy.Rules {
	t.Helper()
	rules, err := policy.ParseRules(allow, deny)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

func randomBytes(t testing.TB, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}
