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

// TestManyTargetsOfReverse: so it is with the targets of -R on this machine. Of very many, the
// sockets begin with small buffers.
func TestManyTargetsOfReverse(t *testing.T) {
	local, _ := reverseTunnel(t, "localhost")
	accepted := make(chan net.Conn, 1)
	target := testnet.ServeTCP(t, func(conn *net.TCPConn) {
		accepted <- conn
		testnet.Echo(conn)
	})
	ln, _ := serveReverseTo(t, local, "localhost:0", target)
	bounded := 2 * min(receiveBuffer, maxReceiveBuffer(t))
	for i := range crowd + 4 {
		echoes(t, dialPlain(t, ln.Addr().String()))
		size := receiveBufferOfPeer(t, receive(t, accepted))
		right := size != bounded && size >= 32<<10
		switch {
		case i >= crowd:
			right = size <= 16<<10 || !hasBufferLock(t)
		case i >= usualClients:
			right = size == bounded
		}
		if !right {
			t.Fatalf("target %d: %d bytes, the bound is %d", i+1, size, bounded)
		}
	}
}

// receiveBufferOfPeer returns the size of the receive buffer of a connection's other end, which is
// this process's too.
func receiveBufferOfPeer(t *testing.T, conn net.Conn) (size int) {
	t.Helper()
	descriptors, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	here := conn.LocalAddr().(*net.TCPAddr).Port
	there := conn.RemoteAddr().(*net.TCPAddr).Port
	for _, entry := range descriptors {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		own, _ := unix.Getsockname(fd)
		peer, _ := unix.Getpeername(fd)
		a, ofTCP := own.(*unix.SockaddrInet4)
		b, isConnected := peer.(*unix.SockaddrInet4)
		if ofTCP && isConnected && a.Port == there && b.Port == here {
			if size, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF); err == nil {
				return size
			}
		}
	}
	t.Fatal("this process doesn't have the other end")
	return 0
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
