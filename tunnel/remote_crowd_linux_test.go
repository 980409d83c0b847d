package tunnel

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"

	"culvert/internal/testnet"
	"culvert/tunnel/mux"

	"golang.org/x/sys/unix"
)

// bufferRules are rules that note the receive buffer of each socket to a target.
type bufferRules struct {
	remoteRules
	mu    *sync.Mutex
	sizes *[]int
}

func (r bufferRules) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := r.remoteRules.Dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	size, err := receiveBufferOf(conn.(*net.TCPConn))
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	*r.sizes = append(*r.sizes, size)
	return conn, nil
}

// TestCrowdedClient: the sockets of a client that has very many streams begin with small buffers.
// Where the system can't let them grow later, they stay as they are.
func TestCrowdedClient(t *testing.T) {
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), nil)
	rules := bufferRules{mu: new(sync.Mutex), sizes: new([]int)}
	remote.dialer = func(real remoteRules) remoteRules {
		rules.remoteRules = real
		return rules
	}
	session := connectWith(t, remote, key, 1<<10)
	echo := testnet.EchoServer(t)
	for range crowd + 4 {
		if _, err := session.Open(testnet.Within(t, patience),
			mux.Target{Kind: mux.StreamTCP, Address: echo}); err != nil {
			t.Fatal(err)
		}
	}
	rules.mu.Lock()
	defer rules.mu.Unlock()
	sizes := *rules.sizes
	if len(sizes) != crowd+4 {
		t.Fatalf("%d sockets", len(sizes))
	}
	usual, small := slices.Min(sizes[:crowd]), slices.Max(sizes[crowd:])
	if usual < 32<<10 || (small > 16<<10 && hasBufferLock(t)) {
		t.Errorf("%d bytes at least, then %d at most", usual, small)
	}
}

// hasBufferLock reports whether the system is Linux 5.16 or later.
func hasBufferLock(t *testing.T) bool {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	_, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK)
	return err == nil
}
