//go:build linux

package e2e

import (
	"net"
	"testing"
	"time"

	"culvert/internal/testnet"
)

// relayIdle is how long a connection may be idle before the relay closes it. Real proxies allow a
// minute or so.
const relayIdle = 1500 * time.Millisecond

// throughRelay starts a tunnel whose WebSocket passes through a relay, and opens a connection
// through the tunnel to an echo server.
func throughRelay(t *testing.T, keepalive string) (*testnet.Relay, net.Conn) {
	t.Helper()
	tun := startRemoteOnly(t)
	between := testnet.RelayTo(t, tun.remote.listen[0], testnet.RelayConfig{Idle: relayIdle})
	tun.local = startNode(t, "local",
		culvert(t, localArgs(tun.client, tun.server, "ws://"+between.Address()+"/",
			"--keepalive", keepalive, "-L", "127.0.0.1:0:"+testnet.EchoServer(t))...))
	conn, err := net.DialTimeout("tcp", tun.local.forwards[0], patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	if err := testnet.CheckEcho(conn, "before"); err != nil {
		t.Fatal(err)
	}
	return between, conn
}

// Pings keep the session and an idle connection on it alive through a proxy that closes idle
// connections.
func TestKeepaliveThroughProxy(t *testing.T) {
	t.Parallel()
	between, conn := throughRelay(t, "300ms")
	select {
	case <-between.IdleClosed:
		t.Fatal("the relay closed the connection despite pings")
	case <-time.After(4 * relayIdle):
	}
	if err := testnet.CheckEcho(conn, "after"); err != nil {
		t.Errorf("the connection after the idle time: %v", err)
	}
	if n := between.Accepted(); n != 1 {
		t.Errorf("%d connections to the remote, want 1", n)
	}
}

// Without pings the proxy closes the WebSocket; the session resumes over another, and the
// connection on it survives.
func TestNoKeepaliveThroughProxy(t *testing.T) {
	t.Parallel()
	between, conn := throughRelay(t, "0")
	select {
	case <-between.IdleClosed:
	case <-time.After(patience):
		t.Fatal("the relay closed no connection")
	}
	if err := testnet.CheckEcho(conn, "after"); err != nil {
		t.Errorf("the connection after the proxy closed: %v", err)
	}
	if n := between.Accepted(); n < 2 {
		t.Errorf("%d connections to the remote, want more than one", n)
	}
}
