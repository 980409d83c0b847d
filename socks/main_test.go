package socks

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"culvert/internal/testnet"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testTimeout bounds every wait on a socket, so that a defect fails rather than
// hangs.
const testTimeout = 20 * time.Second

// startServer serves cfg, with testRelay unless it has a relay, on a loopback
// port until the test ends.
func startServer(t *testing.T, cfg Config) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, newServer(t, cfg), ln)
	return ln.Addr().String()
}

func newServer(t *testing.T, cfg Config) *Server {
	t.Helper()
	if cfg.Relay == nil {
		cfg.Relay = testRelay
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// serve runs Serve until the test ends and checks that it ends in order. The
// returned function cancels its context and waits for it.
func serve(t *testing.T, s *Server, ln net.Listener) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// connect opens a connection to addr that is closed when the test ends.
func connect(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(testTimeout))
	return conn.(*net.TCPConn)
}

// tcpPair is a connected pair of loopback connections.
func tcpPair(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	near, far = testnet.TCPPair(t, testTimeout)
	near.SetDeadline(time.Time{})
	return near, far
}

// dialTo is a Dialer that always returns conn.
func dialTo(conn net.Conn) Dialer {
	return func(context.Context, string, string) (net.Conn, error) { return conn, nil }
}

// dialFails is a Dialer that always fails with err.
func dialFails(err error) Dialer {
	return func(context.Context, string, string) (net.Conn, error) { return nil, err }
}

// testRelay is the simplest implementation of Relay.
func testRelay(ctx context.Context, client, target net.Conn) error {
	resetBoth := func() {
		reset(client)
		reset(target)
	}
	stop := context.AfterFunc(ctx, resetBoth)
	defer stop()
	half := func(dst, src net.Conn) error {
		_, err := io.Copy(dst, src)
		if w, ok := dst.(closeWriter); ok && err == nil {
			err = w.CloseWrite()
		}
		if err != nil {
			resetBoth()
		}
		return err
	}
	up := make(chan error, 1)
	go func() { up <- half(target, client) }()
	down := half(client, target)
	return errors.Join(<-up, down)
}

func reset(conn net.Conn) {
	if l, ok := conn.(lingerer); ok {
		l.SetLinger(0)
	}
	conn.Close()
}

// pipeListener hands out the far ends of in-memory connections, for synctest
// bubbles. As with net.Pipe, a write ends when the other side has read it all.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func (l *pipeListener) dial() net.Conn {
	near, far := net.Pipe()
	l.conns <- far
	return near
}

// overPipes returns a client of a server, and the target that it reaches, over pipes, whose writes
// wait to be read: for a test in a bubble.
func overPipes(t *testing.T) (client, far net.Conn) {
	t.Helper()
	near, far := net.Pipe()
	ln := newPipeListener()
	serve(t, newServer(t, Config{Dial: dialTo(near)}), ln)
	t.Cleanup(func() { far.Close() })
	client = ln.dial()
	t.Cleanup(func() { client.Close() })
	return client, far
}

// mustWrite and mustRead are for steps that a test doesn't test.
func mustWrite(t *testing.T, conn io.Writer, b string) {
	t.Helper()
	if _, err := io.WriteString(conn, b); err != nil {
		t.Fatalf("write: %v", err)
	}
}

func mustRead(t *testing.T, conn io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(conn, got); err != nil {
		t.Fatalf("read %x, then %v; want %x", got[:n], err, want)
	}
	if string(got) != want {
		t.Fatalf("read %x, want %x", got, want)
	}
}

// isReset reports whether err is a reset by the peer.
func isReset(err error) bool {
	return err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded)
}
