package tunnel

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"culvert/internal/testnet"
	"culvert/tunnel/mux"
	"culvert/tunnel/policy"
)

// reverseTunnel is startTunnel with a remote that grants rules to everyone.
func reverseTunnel(t testing.TB, rules string) (*Local, *testRemote) {
	t.Helper()
	key := newKey(t)
	remote := startRemote(t, RemoteTrust{Anyone: true}, func(cfg *RemoteConfig) {
		var err error
		if cfg.Reverse, err = policy.ParseReverseRules([]string{rules}); err != nil {
			t.Fatal(err)
		}
	})
	cfg := remote.localConfig(t, key)
	local, _ := startLocal(t, cfg)
	return local, remote
}

// serveReverseTo serves a reverse forward until stop is called or the test ends.
func serveReverseTo(
	t testing.TB, local *Local, address, target string,
) (ln *ReverseListener, stop func()) {
	t.Helper()
	ln, err := local.ListenReverse(testnet.Within(t, 10*time.Second), address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() { local.ServeReverse(ctx, ln, target) })
	stop = func() {
		cancel()
		testnet.Await(t, patience, serving.Wait)
	}
	t.Cleanup(stop)
	return ln, stop
}

// TestReverseMovesFromUsedUpSession: when a session has used all its numbers of streams, a reverse
// forward moves to the next one, and the session ends.
func TestReverseMovesFromUsedUpSession(t *testing.T) {
	t.Parallel()
	local, remote := reverseTunnel(t, "localhost")
	ln, _ := serveReverseTo(t, local, "localhost:0", testnet.EchoServer(t))
	used := local.connection().session
	var draining sync.WaitGroup
	draining.Go(func() { used.Drain(testnet.Within(t, patience)) }) // as it does then
	until(t, "there is another session", func() bool {
		conn := local.connection()
		return conn != nil && conn.session != used
	})
	until(t, "the first one has ended", func() bool {
		return used.Err() != nil && remote.count() == 1
	})
	testnet.Poll(t, patience, "the forward works", func() bool {
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			return false
		}
		defer conn.Close()
		return testnet.CheckEcho(conn, "ping") == nil
	})
	testnet.Await(t, patience, draining.Wait)
}

// All bytes and half-closes pass, and an unreachable target is a reset.
func TestReverse(t *testing.T) {
	local, _ := reverseTunnel(t, "localhost")
	ln, stop := serveReverseTo(t, local, "localhost:0", testnet.EchoServer(t))
	address := ln.Addr().String()
	sent := randomBytes(t, 3<<20)
	conn := dialPlain(t, address)
	var writing sync.WaitGroup
	writing.Go(func() {
		conn.Write(sent)
		conn.CloseWrite()
	})
	got, err := io.ReadAll(conn)
	testnet.Await(t, patience, writing.Wait)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
	stop()
	until(t, "the port is free", func() bool { return isFree(address) })

	refusing, _ := serveReverseTo(t, local, "localhost:0", "127.0.0.1:1")
	isReset(t, refusing.Addr().String())
}

func TestReverseUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false) // as when its process is killed
	stale.Close()
	local, _ := reverseTunnel(t, "unix:"+path)
	ln, stop := serveReverseTo(t, local, "unix:"+path, testnet.EchoServer(t))
	if got := ln.Addr().String(); got != "unix:"+path {
		t.Errorf("address %s", got)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", info, err)
	}
	if _, err := local.ListenReverse(
		testnet.Within(t, 10*time.Second), "unix:"+path,
	); openCode(err) != mux.CodeAddressInUse {
		t.Errorf("a second claim: %v", err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	echoes(t, conn)
	stopped := make(chan struct{})
	go func() { // the connection lives on when the listener has gone
		stop()
		close(stopped)
	}()
	until(t, "the socket is gone", func() bool {
		probe, err := net.Dial("unix", path)
		if err == nil {
			probe.Close()
		}
		return err != nil
	})
	echoes(t, conn)
	conn.Close()
	receive(t, stopped)
}

// countedLookups are policy.Lookups that count.
type countedLookups struct{ taken, left atomic.Int64 }

func (c *countedLookups) Take(context.Context) (leave func(), err error) {
	c.taken.Add(1)
	return func() { c.left.Add(1) }, nil
}

// TestReverseLookups: the names of targets of -R have bounded lookups, of each kind.
func TestReverseLookups(t *testing.T) {
	useNames(t, map[string]string{"known.test": "127.0.0.1"})
	_, port, _ := net.SplitHostPort(testnet.EchoServer(t))
	udpPort := testnet.EchoUDPServer(t, "127.0.0.1:0").Port()
	local, _ := reverseTunnel(t, "localhost")
	for i, host := range []string{"known.test", "127.0.0.1"} {
		names := &countedLookups{}
		local.names = names
		ln, stop := serveReverseTo(t, local, "localhost:0", net.JoinHostPort(host, port))
		conn := dialPlain(t, ln.Addr().String())
		echoes(t, conn)
		conn.Close()
		stop()
		udp, stop := serveReverseUDPTo(t, local, "localhost:0", fmt.Sprint(host, ":", udpPort))
		askConn(t, dialUDP(t, udp), []byte("x"))
		stop()
		want := 2 - 2*int64(i)
		if names.taken.Load() != want || names.left.Load() != want {
			t.Errorf("%s: %d lookups, want %d", host, names.taken.Load(), want)
		}
	}
}

// A listener, and its connections, outlive the WebSocket.
func TestReverseResumes(t *testing.T) {
	_, remote := reverseTunnel(t, "localhost")
	c, cfg := throughRelay(t, remote, remote.localConfig(t, newKey(t)))
	local, _ := startLocal(t, cfg)
	ln, _ := serveReverseTo(t, local, "localhost:0", testnet.EchoServer(t))
	address := ln.Addr().String()
	before := dialPlain(t, address)
	for range 3 {
		echoes(t, before)
		c.Cut()
		echoes(t, dialPlain(t, address))
	}
	echoes(t, before)
	if got := ln.Addr().String(); got != address {
		t.Errorf("listens on %s, before on %s", got, address)
	}
}

// A remote that restarts without the session gets the listener again, at the same port.
func TestReverseAfterRestart(t *testing.T) {
	local, remote := reverseTunnel(t, "localhost")
	ln, _ := serveReverseTo(t, local, "localhost:0", testnet.EchoServer(t))
	address := ln.Addr().String()
	echoes(t, dialPlain(t, address))
	replaceRemote(t, remote, func() {
		if !isFree(address) {
			t.Error("a remote that has shut down still listens")
		}
	})
	until(t, "it listens again", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	echoes(t, dialPlain(t, address))
}
