package tunnel

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"culvert/internal/testnet"
	"culvert/tunnel/mux"
)

func TestBadTargets(t *testing.T) {
	local, _ := startTunnel(t)
	for _, target := range []string{
		"", "nohost", ":80", "127.0.0.1:0", "127.0.0.1:99999", "127.0.0.1:http",
	} {
		_, err := local.DialContext(testnet.Within(t, 10*time.Second), "tcp", target)
		var refused *mux.OpenError
		if !errors.As(err, &refused) || refused.Code != mux.CodeBadTarget {
			t.Errorf("%q: %v", target, err)
		}
	}
	if _, err := local.DialContext(testnet.Within(t, time.Second), "udp", "127.0.0.1:53"); err == nil {
		t.Error("a network that is not served was dialed")
	}
}

// Half of 1,000 concurrent streams are never read; all others finish.
func TestThousandStreams(t *testing.T) {
	const n, size = 1000, 256 << 10
	local, _ := startTunnel(t)
	content := randomBytes(t, size)
	target := testnet.ServeTCP(t, func(conn *net.TCPConn) {
		conn.Write(content)
		conn.CloseWrite()
		io.Copy(io.Discard, conn)
	})
	var unread []net.Conn
	var readers sync.WaitGroup
	for i := range n {
		conn := dial(t, local, target)
		if i%2 == 0 {
			unread = append(unread, conn)
			continue
		}
		readers.Go(func() {
			got, err := io.ReadAll(conn)
			if err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			conn.Close()
		})
	}
	testnet.Await(t, patience, readers.Wait)
	for _, conn := range unread {
		conn.Close()
	}
}
