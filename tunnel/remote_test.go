package tunnel

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"culvert/tunnel/mux"
)

func TestDrainLetsStreamsFinish(t *testing.T) {
	local, remote := startTunnel(t)
	content := randomBytes(t, 4<<20)
	release := make(chan struct{})
	target := serveTCP(t, func(conn *net.TCPConn) {
		conn.Write(content[:1<<20])
		<-release
		conn.Write(content[1<<20:])
	})
	conn := dial(t, local, target)
	if _, err := io.ReadFull(conn, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	var draining sync.WaitGroup
	draining.Go(func() { remote.Shutdown(within(t, 30*time.Second)) })
	for { // until the local has heard of it
		further, err := local.DialContext(within(t, 10*time.Second), "tcp", target)
		var refused *mux.OpenError
		if errors.As(err, &refused) && refused.Code == mux.CodeDraining {
			break
		}
		if err == nil {
			further.Close()
		}
	}
	close(release)
	rest, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(rest, content[1<<20:]) {
		t.Fatalf("%d bytes, %v", len(rest), err)
	}
	conn.Close()
	draining.Wait()
}
