package tunnel

import (
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"culvert/internal/testnet"

	"golang.org/x/sys/unix"
)

// keptListener keeps the connections that it accepts.
type keptListener struct {
	net.Listener
	mu    sync.Mutex
	conns []*net.TCPConn
}

func (l *keptListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.conns = append(l.conns, conn.(*net.TCPConn))
	}
	return conn, err
}

// TestManyClients: where a local has many clients, what waits in the socket of one more is bounded.
// After they have gone, a client has the usual buffers again.
func TestManyClients(t *testing.T) {
	local, _ := startTunnel(t)
	echo := testnet.EchoServer(t)
	ln := &keptListener{Listener: testnet.Listen(t)}
	serveForward(t, local, ln, echo)
	bounded := 2 * min(receiveBuffer, maxReceiveBuffer(t))

	// serve has a client served, and returns the size of its receive buffer.
	serve := func() (client net.Conn, size int) {
		client = testnet.Dial(t, ln.Addr().String(), patience)
		if err := testnet.CheckEcho(client, "x"); err != nil {
			t.Fatal(err)
		}
		ln.mu.Lock()
		defer ln.mu.Unlock()
		size, err := receiveBufferOf(ln.conns[len(ln.conns)-1])
		if err != nil {
			t.Fatal(err)
		}
		return client, size
	}
	var clients []net.Conn
	for i := range usualClients + 4 {
		client, size := serve()
		clients = append(clients, client)
		if usual := i < usualClients; usual == (size == bounded) {
			t.Errorf("client %d: %d bytes, the bound is %d", i+1, size, bounded)
		}
	}
	for _, client := range clients {
		client.Close()
	}
	testnet.Poll(t, patience, "the clients have gone",
		func() bool { return local.clients.Load() == 0 })
	if _, size := serve(); size == bounded {
		t.Errorf("one client: %d bytes", size)
	}
}

// receiveBufferOf returns the size of a connection's receive buffer, in bytes.
func receiveBufferOf(conn *net.TCPConn) (size int, err error) {
	err = net.ErrClosed
	control(conn, func(fd int) {
		size, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	})
	return size, err
}

// maxReceiveBuffer returns how many bytes SO_RCVBUF may be, before the kernel doubles them.
func maxReceiveBuffer(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/net/core/rmem_max")
	if err != nil {
		t.Fatal(err)
	}
	size, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return size
}
