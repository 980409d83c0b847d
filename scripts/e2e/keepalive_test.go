package e2e

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// relayIdle is after how long without traffic the relay closes a connection, as proxies do after a minute or so.
const relayIdle = 1500 * time.Millisecond

// relay passes connections on to a server, as a proxy on the way does.
type relay struct {
	address  string
	accepted atomic.Int64
	closed   chan struct{} // gets a value when a connection was closed for being idle
}

// startRelay relays until the test ends.
func startRelay(t *testing.T, server string) *relay {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{address: ln.Addr().String(), closed: make(chan struct{}, 64)}
	ended := make(chan struct{})
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return // closed
			}
			r.accepted.Add(1)
			serving.Go(func() { r.serve(conn, server, ended) })
		}
	})
	t.Cleanup(func() {
		close(ended)
		ln.Close()
		serving.Wait()
	})
	return r
}

func (r *relay) serve(client net.Conn, server string, ended <-chan struct{}) {
	defer client.Close()
	conn, err := net.DialTimeout("tcp", server, patience)
	if err != nil {
		return
	}
	defer conn.Close()
	idle := time.NewTimer(relayIdle)
	defer idle.Stop()
	copied := make(chan struct{}, 2)
	go r.copy(client, conn, idle, copied)
	go r.copy(conn, client, idle, copied)
	left := 2
	select {
	case <-copied:
		left--
	case <-idle.C:
		r.closed <- struct{}{}
	case <-ended:
	}
	client.Close()
	conn.Close()
	for ; left > 0; left-- {
		<-copied
	}
}

// copy copies one direction, and each time puts the end of the connection's idle time off.
func (r *relay) copy(to, from net.Conn, idle *time.Timer, copied chan<- struct{}) {
	defer func() { copied <- struct{}{} }()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			idle.Reset(relayIdle)
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// startEcho serves what it is sent, until the test ends.
func startEcho(t *testing.T) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
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
				io.Copy(conn, conn)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		serving.Wait()
	})
	return ln.Addr().String()
}

// throughRelay is a tunnel whose WebSocket goes through a relay, and a connection through it to an echo server.
func throughRelay(t *testing.T, keepalive string) (*relay, net.Conn) {
	t.Helper()
	tun := startRemoteOnly(t)
	between := startRelay(t, tun.remote.listen[0])
	tun.local = startNode(t, "local", culvert(t, localArgs(tun.client, tun.server, "ws://"+between.address+"/",
		"--keepalive", keepalive, "-L", "127.0.0.1:0:"+startEcho(t))...))
	conn, err := net.DialTimeout("tcp", tun.local.forwards[0], patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	if err := echo(conn, "before"); err != nil {
		t.Fatal(err)
	}
	return between, conn
}

func echo(conn net.Conn, text string) error {
	if _, err := conn.Write([]byte(text)); err != nil {
		return err
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(conn, got); err != nil {
		return err
	}
	if !bytes.Equal(got, []byte(text)) {
		return errors.New("the echo is another text")
	}
	return nil
}

// Pings keep the session, and a connection on it that says nothing, through a proxy that closes what is idle.
func TestKeepaliveThroughProxy(t *testing.T) {
	t.Parallel()
	between, conn := throughRelay(t, "300ms")
	select {
	case <-between.closed:
		t.Fatal("the relay closed the connection although there were pings")
	case <-time.After(4 * relayIdle):
	}
	if err := echo(conn, "after"); err != nil {
		t.Errorf("the connection after the idle time: %v", err)
	}
	if n := between.accepted.Load(); n != 1 {
		t.Errorf("%d connections to the remote, want 1", n)
	}
}

// Without pings the proxy does close it; the session goes on over another, and the connection on it notices nothing.
func TestNoKeepaliveThroughProxy(t *testing.T) {
	t.Parallel()
	between, conn := throughRelay(t, "0")
	select {
	case <-between.closed:
	case <-time.After(patience):
		t.Fatal("the relay closed nothing")
	}
	if err := echo(conn, "after"); err != nil {
		t.Errorf("the connection after the proxy closed: %v", err)
	}
	if n := between.accepted.Load(); n < 2 {
		t.Errorf("%d connections to the remote, want more than one", n)
	}
}
