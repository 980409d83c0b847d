package socks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"culvert/internal/testnet"
)

// dialAlways dials addr, whatever the client asks for.
func dialAlways(addr string) Dialer {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
}

// TestThousandConnections holds 1,000 clients at once.
func TestThousandConnections(t *testing.T) {
	const n = 1000
	echo := testnet.EchoServer(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stop := serve(t, newServer(t, Config{Dial: dialAlways(echo)}), ln)
	var connected, clients sync.WaitGroup
	connected.Add(n)
	failed := make(chan error, n)
	for i := range n {
		clients.Go(func() { failed <- oneOfThousand(ln.Addr().String(), i, &connected) })
	}
	clients.Wait()
	for range n {
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
	}
	stop()
}

// oneOfThousand connects through addr, waits for all others, and has its number
// echoed.
func oneOfThousand(addr string, i int, connected *sync.WaitGroup) error {
	arrived := sync.OnceFunc(connected.Done)
	defer arrived()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(testTimeout))
	if _, err := io.WriteString(conn, greeting+requestName); err != nil {
		return err
	}
	hello := make([]byte, len(methodNone+success))
	if _, err := io.ReadFull(conn, hello); err != nil || string(hello) != methodNone+success {
		return fmt.Errorf("client %d: %x, %w", i, hello, err)
	}
	arrived()
	connected.Wait()
	sent := fmt.Sprintf("client %d", i)
	if _, err := io.WriteString(conn, sent); err != nil {
		return err
	}
	conn.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(conn); err != nil || string(got) != sent {
		return fmt.Errorf("client %d: echo %q, %w", i, got, err)
	}
	return nil
}

// TestMaxConns: connections beyond the limit are closed without a byte, and the
// place of one that ended is free again.
func TestMaxConns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener()
		serve(t, newServer(t, Config{Dial: dialFails(io.EOF), MaxConns: 2}), ln)
		held := []net.Conn{ln.dial(), ln.dial()}
		for _, conn := range held {
			mustWrite(t, conn, greeting)
			mustRead(t, conn, methodNone)
		}
		extra := ln.dial()
		checkClosedAtOnce(t, extra)
		extra.Close()
		held[0].Close()
		synctest.Wait()
		again := ln.dial()
		mustWrite(t, again, greeting)
		mustRead(t, again, methodNone)
		again.Close()
		held[1].Close()
	})
}

// checkClosedAtOnce fails unless conn, in a bubble, is closed without a byte and
// without time passing: a timeout would close it too.
func checkClosedAtOnce(t *testing.T, conn net.Conn) {
	t.Helper()
	began := time.Now()
	got, err := io.ReadAll(conn)
	if d := time.Since(began); err != nil || len(got) != 0 || d != 0 {
		t.Errorf("got %x, %v after %v", got, err, d)
	}
}

// troubledListener fails a number of times before it accepts.
type troubledListener struct {
	*pipeListener
	err   error
	left  int
	calls []time.Time
}

func (l *troubledListener) Accept() (net.Conn, error) {
	l.calls = append(l.calls, time.Now())
	if l.left > 0 {
		l.left--
		return nil, l.err
	}
	return l.pipeListener.Accept()
}

// TestAcceptBackoff: a lack of descriptors slows accepting down and ends nothing.
func TestAcceptBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		emfile := &net.OpError{Op: "accept", Net: "tcp",
			Err: os.NewSyscallError("accept4", syscall.EMFILE)}
		ln := &troubledListener{pipeListener: newPipeListener(), err: emfile, left: 10}
		stop := serve(t, newServer(t, Config{Dial: dialFails(io.EOF)}), ln)
		conn := ln.dial()
		mustWrite(t, conn, greeting)
		mustRead(t, conn, methodNone)
		conn.Close()
		stop()
		want := 5 * time.Millisecond
		for i := range 10 {
			if got := ln.calls[i+1].Sub(ln.calls[i]); got != want {
				t.Errorf("pause %d: %v, want %v", i, got, want)
			}
			want = min(2*want, time.Second)
		}
	})
}

// TestStopDuringBackoff: neither way of stopping waits for the pause to end.
func TestStopDuringBackoff(t *testing.T) {
	for _, shutdown := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			ln := &troubledListener{pipeListener: newPipeListener(), err: syscall.EMFILE,
				left: 1 << 30}
			s := newServer(t, Config{Dial: dialFails(io.EOF)})
			stop := serve(t, s, ln)
			time.Sleep(10*time.Second + time.Millisecond)
			began := time.Now()
			if shutdown {
				if err := s.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
			}
			stop()
			if d := time.Since(began); d != 0 {
				t.Errorf("stopped after %v", d)
			}
		})
	}
}

// TestListenerFails: a permanent error of the listener ends Serve with that error, and the
// connections with it.
func TestListenerFails(t *testing.T) {
	for _, broken := range []error{net.ErrClosed, syscall.EBADF, io.ErrClosedPipe} {
		synctest.Test(t, func(t *testing.T) {
			ln := newPipeListener()
			s := newServer(t, Config{Dial: dialFails(io.EOF)})
			done := make(chan error, 1)
			go func() { done <- s.Serve(t.Context(), failAfterOne{ln, broken, new(atomic.Bool)}) }()
			conn := ln.dial()
			defer conn.Close()
			checkClosedAtOnce(t, conn)
			if err := <-done; !errors.Is(err, broken) {
				t.Errorf("Serve: %v, want %v", err, broken)
			}
		})
	}
}

// failAfterOne accepts once.
type failAfterOne struct {
	*pipeListener
	err  error
	used *atomic.Bool
}

func (l failAfterOne) Accept() (net.Conn, error) {
	if l.used.Swap(true) {
		return nil, l.err
	}
	return l.pipeListener.Accept()
}

// stages opens a connection in each phase: silent, mid-negotiation, dialing,
// relaying. The server must dial with stageDialer.
func stages(t *testing.T, addr string) (waiting []*net.TCPConn, relaying *net.TCPConn) {
	t.Helper()
	silent, greeted, dialing, relaying := connect(t, addr), connect(t, addr), connect(t, addr),
		connect(t, addr)
	mustWrite(t, greeted, greeting)
	mustRead(t, greeted, methodNone)
	mustWrite(t, dialing, greeting+requestIPv4)
	mustRead(t, dialing, methodNone)
	mustWrite(t, relaying, greeting+requestName)
	mustRead(t, relaying, methodNone+success)
	return []*net.TCPConn{silent, greeted, dialing}, relaying
}

// stageDialer connects names to echo. For addresses it sends on dialing and never returns.
func stageDialer(echo string, dialing chan<- struct{}) Dialer {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == "example.com:80" {
			return dialAlways(echo)(ctx, network, address)
		}
		dialing <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}
}

// stageServer is a server for stages, with a count of its running relays.
func stageServer(
	t *testing.T,
) (s *Server, ln net.Listener, dialing chan struct{}, relays *atomic.Int32) {
	t.Helper()
	dialing = make(chan struct{}, 1)
	relays = new(atomic.Int32)
	s = newServer(t, Config{
		Dial: stageDialer(testnet.EchoServer(t), dialing),
		Relay: func(ctx context.Context, client, target net.Conn) error {
			relays.Add(1)
			defer relays.Add(-1)
			return testRelay(ctx, client, target)
		},
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return s, ln, dialing, relays
}

// checkClosed fails unless each connection ends without another byte.
func checkClosed(t *testing.T, conns []*net.TCPConn) {
	t.Helper()
	for i, conn := range conns {
		n, err := conn.Read(make([]byte, 1))
		if n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("connection %d: %d bytes, %v", i, n, err)
		}
	}
}

func TestShutdownDrains(t *testing.T) {
	s, ln, dialing, relays := stageServer(t)
	stop := serve(t, s, ln)
	waiting, relaying := stages(t, ln.Addr().String())
	<-dialing
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(context.Background()) }()
	checkClosed(t, waiting)
	if conn, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		conn.Close()
		t.Error("still listening")
	}
	mustWrite(t, relaying, "alive")
	mustRead(t, relaying, "alive")
	select {
	case err := <-ended:
		t.Fatalf("Shutdown returned %v with a relay running", err)
	default:
	}
	relaying.CloseWrite()
	if got, err := io.ReadAll(relaying); err != nil || len(got) != 0 {
		t.Errorf("relay ended with %x, %v", got, err)
	}
	if err := <-ended; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if n := relays.Load(); n != 0 {
		t.Errorf("Shutdown returned with %d relays running", n)
	}
	stop()

	// A server that was shut down can't be used again.
	again, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(context.Background(), again); err != nil {
		t.Errorf("Serve after Shutdown: %v", err)
	}
	if err := again.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve after Shutdown left its listener open: %v", err)
	}
	if err := s.Shutdown(context.Background()); err != nil {
		t.Errorf("second Shutdown: %v", err)
	}
}

// TestShutdownEnds: the drain's context ends the relays, with a reset.
func TestShutdownEnds(t *testing.T) {
	s, ln, dialing, relays := stageServer(t)
	stop := serve(t, s, ln)
	waiting, relaying := stages(t, ln.Addr().String())
	<-dialing
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(ctx) }()
	checkClosed(t, waiting)
	cancel()
	if n, err := relaying.Read(make([]byte, 1)); n != 0 || !isReset(err) {
		t.Errorf("relay: %d bytes, %v", n, err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: %v", err)
	}
	if n := relays.Load(); n != 0 {
		t.Errorf("Shutdown returned with %d relays running", n)
	}
	stop()
}

// TestStopWaits: neither way of stopping returns before the last relay has.
func TestStopWaits(t *testing.T) {
	for _, shutdown := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			const slow = time.Minute
			near, far := net.Pipe()
			defer far.Close()
			ln := newPipeListener()
			s := newServer(t, Config{Dial: dialTo(near),
				Relay: func(ctx context.Context, _, _ net.Conn) error {
					<-ctx.Done()
					time.Sleep(slow)
					return ctx.Err()
				}})
			stop := serve(t, s, ln)
			conn := ln.dial()
			defer conn.Close()
			mustWrite(t, conn, greeting)
			mustRead(t, conn, methodNone)
			mustWrite(t, conn, requestName)
			mustRead(t, conn, success)
			synctest.Wait()
			began := time.Now()
			if shutdown {
				ended, cancel := context.WithCancel(t.Context())
				cancel()
				if err := s.Shutdown(ended); !errors.Is(err, context.Canceled) {
					t.Errorf("Shutdown: %v", err)
				}
			} else {
				stop()
			}
			if d := time.Since(began); d != slow {
				t.Errorf("stopped after %v, want %v", d, slow)
			}
		})
	}
}

// TestCancelEndsAll: the end of Serve's context ends every phase at once.
func TestCancelEndsAll(t *testing.T) {
	s, ln, dialing, relays := stageServer(t)
	stop := serve(t, s, ln)
	waiting, relaying := stages(t, ln.Addr().String())
	<-dialing
	stop()
	if n := relays.Load(); n != 0 {
		t.Errorf("Serve returned with %d relays running", n)
	}
	checkClosed(t, waiting)
	if n, err := relaying.Read(make([]byte, 1)); n != 0 || !isReset(err) {
		t.Errorf("relay: %d bytes, %v", n, err)
	}
}

// TestTwoListeners: one server, two listeners, one limit and one shutdown.
func TestTwoListeners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Config{Dial: dialFails(io.EOF), MaxConns: 1})
		a, b := newPipeListener(), newPipeListener()
		serve(t, s, a)
		serve(t, s, b)
		conn := a.dial()
		mustWrite(t, conn, greeting)
		mustRead(t, conn, methodNone)
		checkClosedAtOnce(t, b.dial())
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		checkClosedAtOnce(t, conn)
	})
}
