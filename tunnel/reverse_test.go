package tunnel

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"culvert/tunnel/mux"
	"culvert/tunnel/policy"
)

// reverseTunnel is startTunnel with a remote that grants rules, to several keys.
func reverseTunnel(t testing.TB, rules string) (*Local, *testRemote) {
	t.Helper()
	key := newKey(t)
	remote := startRemote(t, Trust{Anyone: true}, func(cfg *RemoteConfig) {
		var err error
		if cfg.Reverse, err = policy.ParseReverseRules([]string{rules}); err != nil {
			t.Fatal(err)
		}
	})
	cfg := remote.localConfig(t, key)
	cfg.Reverse = true
	local, _ := startLocal(t, cfg)
	return local, remote
}

// serveReverseTo serves a reverse forward until stop is called or the test ends.
func serveReverseTo(t testing.TB, local *Local, address, target string) (ln *RemoteListener, stop func()) {
	t.Helper()
	ln, err := local.ListenRemote(within(t, 10*time.Second), address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() { local.ServeReverse(ctx, ln, target) })
	stop = func() {
		cancel()
		serving.Wait()
	}
	t.Cleanup(stop)
	return ln, stop
}

func dialPlain(t testing.TB, address string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	return conn.(*net.TCPConn)
}

func echoes(t testing.TB, conn net.Conn) {
	t.Helper()
	got := make([]byte, 4)
	if _, err := conn.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "ping" {
		t.Fatalf("%q, %v", got, err)
	}
}

// isReset checks that connections to an address are reset. That may be before the call that connects has returned.
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

// until asks holds until it is so.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for !holds() {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-deadline:
			t.Fatal("not so: " + what)
		}
	}
}

func isFree(address string) bool {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	ln.Close()
	return true
}

// Bytes pass whole, with half-closes, and a target that can't be reached is a reset.
func TestReverse(t *testing.T) {
	local, _ := reverseTunnel(t, "localhost")
	ln, stop := serveReverseTo(t, local, "localhost:0", serveTCP(t, echo))
	address := ln.Addr().String()
	sent := randomBytes(t, 3<<20)
	conn := dialPlain(t, address)
	var writing sync.WaitGroup
	writing.Go(func() {
		conn.Write(sent)
		conn.CloseWrite()
	})
	got, err := io.ReadAll(conn)
	writing.Wait()
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
	ln, stop := serveReverseTo(t, local, "unix:"+path, serveTCP(t, echo))
	if got := ln.Addr().String(); got != "unix:"+path {
		t.Errorf("address %s", got)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", info, err)
	}
	if _, err := local.ListenRemote(within(t, 10*time.Second), "unix:"+path); openCode(err) != mux.CodeAddressInUse {
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
	<-stopped
}

func TestReverseRefused(t *testing.T) {
	local, remote := reverseTunnel(t, "localhost,127.0.0.2:1000-2000,192.0.2.1")
	taken := serveTCP(t, echo)
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
		if _, err := local.ListenRemote(within(t, 10*time.Second), test.address); openCode(err) != test.code {
			t.Errorf("%s: %v, want %v", test.address, err, test.code)
		}
	}
	for range maxSessionListeners {
		ln, err := local.ListenRemote(within(t, 10*time.Second), "localhost:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
	}
	if _, err := local.ListenRemote(within(t, 10*time.Second), "localhost:0"); openCode(err) != mux.CodeTooManyStreams {
		t.Errorf("one listener too many: %v", err)
	}

	// Without LocalConfig.Reverse a remote can't open streams.
	plain, _ := startLocal(t, remote.localConfig(t, newKey(t)))
	ln, err := plain.ListenRemote(within(t, 10*time.Second), "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	isReset(t, ln.Addr().String())
}

// A key's line says what it may bind in place of the remote's rules, and SIGHUP takes a grant back.
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
	cfg.Reverse = true
	locals["127.0.0.1:0"], _ = startLocal(t, cfg)
	cfg = remote.localConfig(t, bound)
	cfg.Reverse = true
	locals["127.0.0.2:0"], _ = startLocal(t, cfg)
	for own, local := range locals {
		for address := range locals {
			ln, err := local.ListenRemote(within(t, 10*time.Second), address)
			if (err == nil) != (address == own) {
				t.Errorf("%s for the owner of %s: %v", address, own, err)
			}
			if err == nil {
				t.Cleanup(func() { ln.Close() })
			}
		}
	}
	ln, _ := serveReverseTo(t, locals["127.0.0.2:0"], "127.0.0.2:0", serveTCP(t, echo))
	address := ln.Addr().String()
	open := dialPlain(t, address)
	echoes(t, open)
	if err := remote.Reload(remote.cfg.Identity, trustKeys(t, plain, bound), nil, rules); err != nil {
		t.Fatal(err)
	}
	until(t, "the port is free", func() bool { return isFree(address) })
	echoes(t, open)
	var line *policy.KeyLineError
	bad := trustLines(t, plain.Public().String()+" reverse=example.org")
	if err := remote.Reload(remote.cfg.Identity, bad, nil, nil); !errors.As(err, &line) || line.Line != 1 || line.Option != "reverse" {
		t.Errorf("a bad line: %v", err)
	}
}

// A listener, and its connections, outlive the WebSocket.
func TestReverseResumes(t *testing.T) {
	_, remote := reverseTunnel(t, "localhost")
	c := newCutter(t, remote.server.Listener.Addr().String(), 100<<20, 0)
	cfg := remote.localConfig(t, newKey(t))
	cfg.Reverse = true
	var err error
	if cfg.Address, err = ParseAddress("ws://" + c.address + "/"); err != nil {
		t.Fatal(err)
	}
	local, _ := startLocal(t, cfg)
	ln, _ := serveReverseTo(t, local, "localhost:0", serveTCP(t, echo))
	address := ln.Addr().String()
	before := dialPlain(t, address)
	for range 3 {
		echoes(t, before)
		c.cut()
		echoes(t, dialPlain(t, address))
	}
	echoes(t, before)
	if got := ln.Addr().String(); got != address {
		t.Errorf("listens on %s, before on %s", got, address)
	}
}

// replaceRemote shuts a remote down, and starts and returns another with its configuration at its address. Between the two it
// calls down.
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

// A remote that comes back without the session gets the listener anew, at the port it had.
func TestReverseAfterRestart(t *testing.T) {
	local, remote := reverseTunnel(t, "localhost")
	ln, _ := serveReverseTo(t, local, "localhost:0", serveTCP(t, echo))
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

// One port is one client's. A client that was lost and comes back takes its port over from its old session, and nobody
// else can.
func TestReverseClaims(t *testing.T) {
	_, remote := reverseTunnel(t, "localhost")
	key := newKey(t)
	connect := func(cfg LocalConfig) (*Local, context.CancelFunc) {
		local := NewLocal(cfg)
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { local.Run(ctx) })
		t.Cleanup(func() {
			cancel()
			running.Wait()
		})
		return local, cancel
	}
	c := newCutter(t, remote.server.Listener.Addr().String(), 100<<20, 0)
	cfg := remote.localConfig(t, key)
	cfg.Reverse = true
	lost := cfg
	var err error
	if lost.Address, err = ParseAddress("ws://" + c.address + "/"); err != nil {
		t.Fatal(err)
	}
	first, _ := connect(lost)
	ln, _ := serveReverseTo(t, first, "localhost:0", serveTCP(t, echo))
	address := strings.Replace(ln.Addr().String(), "127.0.0.1", "localhost", 1)
	second, _ := connect(cfg)
	if _, err := second.ListenRemote(within(t, 10*time.Second), address); openCode(err) != mux.CodeAddressInUse {
		t.Fatalf("the same client, connected twice: %v", err)
	}
	c.down.Store(true) // the first never comes back
	c.cut()
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
	cfg.Key = newKey(t)
	stranger, _ := connect(cfg)
	if _, err := stranger.ListenRemote(within(t, 10*time.Second), address); openCode(err) != mux.CodeAddressInUse {
		t.Fatalf("another client: %v", err)
	}
	serveReverseTo(t, second, address, serveTCP(t, echo))
	echoes(t, dialPlain(t, address))
}
