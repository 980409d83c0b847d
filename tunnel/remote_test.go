package tunnel

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"culvert/internal/testnet"
)

func TestDrainLetsStreamsFinish(t *testing.T) {
	local, remote := startTunnel(t)
	content := randomBytes(t, 4<<20)
	release := make(chan struct{})
	target := testnet.ServeTCP(t, func(conn *net.TCPConn) {
		conn.Write(content[:1<<20])
		select {
		case <-release:
		case <-t.Context().Done():
			return
		}
		conn.Write(content[1<<20:])
		// A system that runs out of memory for TCP resets connections that were closed with data
		// still queued.
		conn.CloseWrite()
		io.Copy(io.Discard, conn)
	})
	conn := dial(t, local, target)
	if _, err := io.ReadFull(conn, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	var draining sync.WaitGroup
	draining.Go(func() { remote.Shutdown(testnet.Within(t, 30*time.Second)) })
	until(t, "the local has heard of it", func() bool {
		local.mu.Lock()
		defer local.mu.Unlock()
		return local.current == nil && len(local.retired) == 1
	})
	_, err := local.DialContext(testnet.Within(t, 100*time.Millisecond), "tcp", target)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a new stream: %v", err)
	}
	close(release)
	rest, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(rest, content[1<<20:]) {
		t.Fatalf("%d bytes, %v", len(rest), err)
	}
	conn.Close()
	testnet.Await(t, patience, draining.Wait)
}
