package tunnel

import (
	"context"
	"net"
	"sync"
	"testing"

	"culvert/internal/testnet"
	"culvert/tunnel/mux"

	"golang.org/x/sys/unix"
)

// bufferSizes are bounds of what the kernel keeps of a socket, in bytes.
type bufferSizes struct{ receive, unsent int }

func bufferSizesOf(conn *net.TCPConn) (sizes bufferSizes, err error) {
	if sizes.receive, err = receiveBufferOf(conn); err != nil {
		return sizes, err
	}
	control(conn, func(fd int) {
		sizes.unsent, err = unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT)
	})
	return sizes, err
}

// checkCrowd checks the sizes of sockets of which a crowd's begin small.
func checkCrowd(t *testing.T, usual, small []bufferSizes) {
	t.Helper()
	for _, sizes := range usual {
		if sizes.receive < 32<<10 || sizes.unsent != 512<<10 {
			t.Fatalf("of %d usual ones one has %+v", len(usual), sizes)
		}
	}
	for _, sizes := range small {
		if (sizes.receive > 16<<10 && hasBufferLock(t)) || sizes.unsent != 16<<10 {
			t.Fatalf("of %d small ones one has %+v", len(small), sizes)
		}
	}
}

// bufferRules are rules that note the sizes of each socket to a target.
type bufferRules struct {
	remoteRules
	mu    *sync.Mutex
	sizes *[]bufferSizes
}

func (r bufferRules) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := r.remoteRules.Dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	sizes, err := bufferSizesOf(conn.(*net.TCPConn))
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	*r.sizes = append(*r.sizes, sizes)
	return conn, nil
}

// TestCrowdedClient: what a target doesn't read is bounded, and the sockets of a client that has
// very many streams begin with small buffers. Where the system can't let them grow later, they stay
// as they are.
func TestCrowdedClient(t *testing.T) {
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), nil)
	rules := bufferRules{mu: new(sync.Mutex), sizes: new([]bufferSizes)}
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
	checkCrowd(t, sizes[:crowd], sizes[crowd:])
}

// TestCrowdOfCallers: so do those of the connections to its ports of -R.
func TestCrowdOfCallers(t *testing.T) {
	local, remote := reverseTunnel(t, "localhost")
	serveReverseTo(t, local, "localhost:0", testnet.EchoServer(t))
	bind := remote.onlyBind(t)
	var serving sync.WaitGroup
	t.Cleanup(func() { testnet.Await(t, patience, serving.Wait) })
	sizes := make([]bufferSizes, crowd+4)
	for i := range sizes {
		caller, accepted := testnet.TCPPair(t, patience)
		t.Cleanup(func() { caller.Close() })
		serving.Go(func() { bind.forward(remote.ctx, remote.ctx, accepted) })
		if err := testnet.CheckEcho(caller, "x"); err != nil {
			t.Fatal(err)
		}
		var err error
		if sizes[i], err = bufferSizesOf(accepted); err != nil {
			t.Fatal(err)
		}
	}
	const own = 1 // the port's stream
	checkCrowd(t, sizes[:crowd-own], sizes[crowd-own:])
}

// TestEarlyCallers: few connections wait in the kernel for a listener whose local isn't ready.
func TestEarlyCallers(t *testing.T) {
	key := newKey(t)
	s := startListeners(t, key)
	asked, err := listen(t, s.mustConnect(key)[0], "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	readLine(t, asked)
	backlog := func() (most uint32) {
		control(s.onlyBind(t).ln.Listener.(*net.TCPListener), func(fd int) {
			if info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
				most = info.Sacked // of a listener
			}
		})
		return most
	}
	if n := backlog(); n != earlyCallers {
		t.Errorf("%d connections may wait", n)
	}
	if _, err := asked.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	until(t, "as many as ever may wait", func() bool { return backlog() > 4*earlyCallers })
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
