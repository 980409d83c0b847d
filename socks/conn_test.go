package socks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestDialTimeout: a dial that hangs is cancelled, and the client gets a reply.
func TestDialTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener()
		serve(t, newServer(t, Config{
			Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}}), ln)
		conn := ln.dial()
		defer conn.Close()
		began := time.Now()
		go io.WriteString(conn, greeting+requestName)
		got, err := io.ReadAll(conn)
		if want := methodNone + "\x05\x06\x00\x01\x00\x00\x00\x00\x00\x00"; err != nil ||
			string(got) != want {
			t.Errorf("got %x, %v; want %x", got, err, want)
		}
		if d := time.Since(began); d != DefaultDialTimeout {
			t.Errorf("answered after %v", d)
		}
	})
}

// TestClientLeavesDuringDial: the dial for a client that has sent nothing is cancelled at once, and
// a connection that it returns anyway is closed.
func TestClientLeavesDuringDial(t *testing.T) {
	for name, leave := range map[string]func(net.Conn){
		"closes": func(conn net.Conn) { conn.Close() }, "is reset": reset,
	} {
		for _, connects := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				near, far := tcpPair(t)
				dialing := make(chan struct{})
				conn := connect(t, startServer(t, Config{
					Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
						close(dialing)
						select {
						case <-ctx.Done():
						case <-time.After(testTimeout):
							t.Error("dial was not cancelled")
						}
						if connects {
							return near, nil
						}
						return nil, ctx.Err()
					},
					Relay: func(context.Context, net.Conn, net.Conn) error {
						t.Error("relayed without a client")
						return nil
					},
				}))
				mustWrite(t, conn, greeting+requestName)
				<-dialing
				leave(conn)
				if !connects {
					near.Close()
				}
				if n, err := far.Read(make([]byte, 1)); n != 0 || err == nil ||
					!errors.Is(err, io.EOF) {
					t.Errorf("target: %d bytes, %v", n, err)
				}
			})
		}
	}
}

// TestEarlyDataBeforeReset: what a client has sent before it is reset arrives, whenever that is
// noticed, and then the reset.
func TestEarlyDataBeforeReset(t *testing.T) {
	const connectName = "CONNECT example.com:80 HTTP/1.1\r\nHost: a\r\n\r\n"
	for name, request := range map[string]string{
		"SOCKS5": greeting + requestName, "CONNECT": connectName,
		"SOCKS4": "\x04\x01\x00\x50\x7f\x00\x00\x01user\x00",
	} {
		for _, size := range []int{1, readBufferSize - 1, 5 * readBufferSize} {
			for _, watched := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s, %d bytes, %v", name, size, watched), func(t *testing.T) {
					testEarlyDataBeforeReset(t, request, size, watched)
				})
			}
		}
	}
}

// slowDial is a client whose dial takes until over is closed.
type slowDial struct {
	client  net.Conn
	target  net.Conn      // the far end of what is dialed
	dialing chan struct{} // closed when the dial has begun
	over    chan struct{}
}

// startSlowDial connects a client to a server. If the reset of the client is to be seen during the
// dial, the dial ends no sooner.
func startSlowDial(t *testing.T, seen bool) *slowDial {
	t.Helper()
	near, far := tcpPair(t)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := spyListener{tcp, make(chan error, 1)}
	d := &slowDial{target: far, dialing: make(chan struct{}), over: make(chan struct{})}
	serve(t, newServer(t, Config{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		close(d.dialing)
		<-d.over
		if seen {
			select {
			case <-ln.ends:
			case <-time.After(testTimeout):
				t.Error("the reset was not seen during the dial")
			}
		}
		return near, ctx.Err()
	}}), ln)
	d.client = connect(t, tcp.Addr().String())
	return d
}

// reset resets the client, and lets the dial end.
func (d *slowDial) reset() {
	reset(d.client)
	close(d.over)
}

// testEarlyDataBeforeReset has the watch notice the reset, or the write of the reply.
func testEarlyDataBeforeReset(t *testing.T, request string, size int, watched bool) {
	d := startSlowDial(t, watched && size < readBufferSize)
	early := counted(0, size)
	if watched {
		mustWrite(t, d.client, request)
		<-d.dialing
		mustWrite(t, d.client, early)
	} else {
		mustWrite(t, d.client, request+early)
		<-d.dialing
	}
	d.reset()
	checkCutShort(t, d.target, early)
}

// checkCutShort fails unless conn yields want and then a reset.
func checkCutShort(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	got, err := io.ReadAll(conn)
	if string(got) != want || !isReset(err) {
		t.Errorf("target got %d bytes of %d, %v", len(got), len(want), err)
	}
}

// TestClientLeavesLate: a dial that outlasts the negotiation's deadline is still
// watched.
func TestClientLeavesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cancelled := make(chan time.Time, 1)
		ln := newPipeListener()
		serve(t, newServer(t, Config{
			Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				cancelled <- time.Now()
				return nil, ctx.Err()
			}}), ln)
		conn := ln.dial()
		began := time.Now()
		mustWrite(t, conn, greeting)
		mustRead(t, conn, methodNone)
		mustWrite(t, conn, requestName)
		const stay = DefaultNegotiationTimeout + 5*time.Second
		time.Sleep(stay)
		conn.Close()
		if d := (<-cancelled).Sub(began); d != stay {
			t.Errorf("dial cancelled after %v, want %v", d, stay)
		}
	})
}

// TestNoDeadlineLeft: the deadlines of the negotiation and the dial do not outlive them.
func TestNoDeadlineLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, far := overPipes(t)
		mustWrite(t, conn, greeting)
		mustRead(t, conn, methodNone)
		mustWrite(t, conn, requestName)
		mustRead(t, conn, success)
		time.Sleep(24 * time.Hour)
		go io.WriteString(conn, "question")
		mustRead(t, far, "question")
		go io.WriteString(far, "answer")
		mustRead(t, conn, "answer")
	})
}

// TestReplyNotRead: a client that doesn't read the reply holds its target for a bounded time only.
func TestReplyNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, far := overPipes(t)
		mustWrite(t, conn, greeting)
		mustRead(t, conn, methodNone)
		mustWrite(t, conn, requestName)
		began := time.Now()
		if got, err := io.ReadAll(far); err != nil || len(got) != 0 {
			t.Errorf("target got %x, %v", got, err)
		}
		if d := time.Since(began); d != DefaultNegotiationTimeout {
			t.Errorf("target closed after %v", d)
		}
	})
}

// TestEarlyData: what a client sends ahead of the reply arrives in order, whatever its size.
func TestEarlyData(t *testing.T) {
	for _, size := range []int{
		1, 100, readBufferSize - 1, readBufferSize, readBufferSize + 1, 5 * readBufferSize,
	} {
		for _, joined := range []bool{false, true} { // in one write with the request
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				defer far.Close()
				connected := make(chan struct{})
				ln := newPipeListener()
				serve(t, newServer(t, Config{
					Dial: func(context.Context, string, string) (net.Conn, error) {
						<-connected
						return near, nil
					}}), ln)
				conn := ln.dial()
				defer conn.Close()
				early := counted(0, size)
				go func() {
					// The reads below fail if one of these does.
					io.WriteString(conn, greeting)
					if joined {
						io.WriteString(conn, requestName+early)
					} else {
						io.WriteString(conn, requestName)
						io.WriteString(conn, early)
					}
					io.WriteString(conn, counted(size, 1000))
				}()
				mustRead(t, conn, methodNone)
				synctest.Wait() // all that fits is buffered
				close(connected)
				mustRead(t, conn, success)
				mustRead(t, far, counted(0, size+1000))
				go io.WriteString(far, "answer")
				mustRead(t, conn, "answer")
			})
		}
	}
}

// counted is n bytes that encode their position.
func counted(from, n int) string {
	var b strings.Builder
	for i := from; i < from+n; i++ {
		b.WriteByte(byte(i>>8) ^ byte(i*7))
	}
	return b.String()
}

// spyListener reports how the reading of a server from its clients ends.
type spyListener struct {
	net.Listener
	ends chan error
}

type spyConn struct {
	*net.TCPConn
	ends chan error
}

func (l spyListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return spyConn{conn.(*net.TCPConn), l.ends}, nil
}

func (c spyConn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		select {
		case c.ends <- err:
		default:
		}
	}
	return n, err
}

// TestEarlyHalfClose: a client that sends everything and its end of file ahead
// of the reply gets its answer.
func TestEarlyHalfClose(t *testing.T) {
	near, far := tcpPair(t)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := spyListener{tcp, make(chan error, 1)}
	serve(t, newServer(t, Config{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		select {
		case err := <-ln.ends:
			if err != io.EOF {
				t.Errorf("the end of the client: %v", err)
			}
		case <-time.After(testTimeout):
			t.Error("the end of file was not seen during the dial")
		}
		return near, ctx.Err()
	}}), ln)
	conn := connect(t, tcp.Addr().String())
	mustWrite(t, conn, greeting+requestName+"question")
	conn.CloseWrite()
	if got, err := io.ReadAll(far); err != nil || string(got) != "question" {
		t.Errorf("target got %q, %v", got, err)
	}
	mustWrite(t, far, "answer")
	far.CloseWrite()
	if got, err := io.ReadAll(conn); err != nil || string(got) != methodNone+success+"answer" {
		t.Errorf("client got %q, %v", got, err)
	}
}

// relayed returns a client connection that has got the reply of success, and its target.
func relayed(t *testing.T, cfg Config) (client, target *net.TCPConn) {
	t.Helper()
	near, far := tcpPair(t)
	cfg.Dial = dialTo(near)
	client = connect(t, startServer(t, cfg))
	mustWrite(t, client, greeting+requestName)
	mustRead(t, client, methodNone+success)
	return client, far
}

func TestHalfClose(t *testing.T) {
	for _, clientFirst := range []bool{true, false} {
		first, second := relayed(t, Config{})
		if !clientFirst {
			first, second = second, first
		}
		mustWrite(t, first, "first")
		first.CloseWrite()
		if got, err := io.ReadAll(second); err != nil || string(got) != "first" {
			t.Errorf("client first %v: got %q, %v", clientFirst, got, err)
		}
		// The other direction outlives the end of the first.
		mustWrite(t, second, "sec")
		mustRead(t, first, "sec")
		mustWrite(t, second, "ond")
		second.CloseWrite()
		if got, err := io.ReadAll(first); err != nil || string(got) != "ond" {
			t.Errorf("client first %v: got %q, %v", clientFirst, got, err)
		}
	}
}

func TestReset(t *testing.T) {
	for _, clientResets := range []bool{true, false} {
		broken, other := relayed(t, Config{})
		if !clientResets {
			broken, other = other, broken
		}
		mustWrite(t, broken, "part")
		mustRead(t, other, "part")
		reset(broken)
		if n, err := other.Read(make([]byte, 1)); n != 0 || !isReset(err) {
			t.Errorf("client resets %v: other side read %d bytes, %v", clientResets, n, err)
		}
	}
}

// TestFailedRelayResetsClient: a relay that fails and leaves the client open
// never looks like the end of a transfer.
func TestFailedRelayResetsClient(t *testing.T) {
	for _, early := range []string{"", "early"} {
		near, _ := tcpPair(t)
		conn := connect(t, startServer(t, Config{
			Dial: dialTo(near),
			Relay: func(_ context.Context, client, _ net.Conn) error {
				io.WriteString(client, "part")
				return io.ErrUnexpectedEOF
			},
		}))
		mustWrite(t, conn, greeting+requestName+early)
		got, err := io.ReadAll(conn)
		if !isReset(err) {
			t.Errorf("got %q, %v", got, err)
		}
	}
}

// TestEarlyConnMethods: the wrapper around a client with early data has exactly the methods that a
// relay looks for.
func TestEarlyConnMethods(t *testing.T) {
	near, far := tcpPair(t)
	c := newClientConn(near, func() {})
	mustWrite(t, far, "early")
	if _, err := c.in.Peek(5); err != nil {
		t.Fatal(err)
	}
	conn := c.release()
	if _, ok := conn.(closeWriter); !ok {
		t.Error("no CloseWrite")
	}
	if _, ok := conn.(io.WriterTo); ok {
		t.Error("WriteTo would pass by the early data")
	}
	mustRead(t, conn, "ea") // in pieces
	mustRead(t, conn, "rly")
	conn.(lingerer).SetLinger(0)
	conn.Close()
	if _, err := far.Read(make([]byte, 1)); !isReset(err) {
		t.Errorf("SetLinger had no effect: %v", err)
	}

	pipe, other := net.Pipe()
	defer other.Close()
	c = newClientConn(pipe, func() {})
	defer c.Close()
	go io.WriteString(other, "early")
	if _, err := c.in.Peek(5); err != nil {
		t.Fatal(err)
	}
	if _, ok := c.release().(closeWriter); ok {
		t.Error("CloseWrite on a connection that has none")
	}
}

// TestRefusalLingers: a client that has sent more than was read still gets the
// reply and a clean end, and one that won't leave is left within bounds.
func TestRefusalLingers(t *testing.T) {
	fail := errors.New("no")
	addr := startServer(t, Config{Dial: dialFails(fail)})
	conn := connect(t, addr)
	mustWrite(t, conn, greeting+requestName+counted(0, 3*readBufferSize))
	if got, err := io.ReadAll(conn); err != nil || string(got) != methodNone+replyGeneral {
		t.Errorf("got %x, %v", got, err)
	}

	// The bounds, over a connection that has CloseWrite in the bubble's time.
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		c := newClientConn(halfPipe{near}, func() {})
		var flood sync.WaitGroup
		flood.Go(func() {
			for {
				if _, err := io.WriteString(far, counted(0, 1000)); err != nil {
					return
				}
			}
		})
		c.hangUp(nil)
		c.Close()
		flood.Wait()

		began := time.Now()
		near, far = net.Pipe()
		defer far.Close()
		c = newClientConn(halfPipe{near}, func() {})
		c.hangUp(nil)
		c.Close()
		if d := time.Since(began); d != lingerTimeout {
			t.Errorf("lingered for %v", d)
		}
	})
}

// halfPipe is a pipe whose CloseWrite succeeds and is not seen by the other end.
type halfPipe struct{ net.Conn }

func (halfPipe) CloseWrite() error { return nil }
