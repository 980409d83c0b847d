//go:build unix

package testnet

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// limit bounds waits for events that come soon.
const limit = 10 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// checkReset checks that a connection was reset.
func checkReset(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection gives %v, want a reset", err)
	}
}

// A connection that nobody closes does not outlast the test.
func TestServeEndsWithTheTest(t *testing.T) {
	var conn *net.TCPConn
	t.Run("test", func(t *testing.T) {
		var err error
		address := EchoServer(t)
		dialed, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		conn = dialed.(*net.TCPConn)
		conn.SetDeadline(time.Now().Add(limit))
		if err := CheckEcho(conn, "before"); err != nil {
			t.Fatal(err)
		}
	})
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the test: %v", err)
	}
}

func TestRelayCut(t *testing.T) {
	r := RelayTo(t, EchoServer(t), RelayConfig{})
	first := Dial(t, r.Address(), limit)
	if err := CheckEcho(first, "first"); err != nil {
		t.Fatal(err)
	}
	if n := r.Cut(); n != 1 {
		t.Errorf("%d connections were cut, want 1", n)
	}
	checkReset(t, first)
	if err := CheckEcho(Dial(t, r.Address(), limit), "second"); err != nil {
		t.Errorf("after the cut: %v", err)
	}
	if n := r.Accepted(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

func TestRelayHalfClose(t *testing.T) {
	r := RelayTo(t, EchoServer(t), RelayConfig{Delay: time.Millisecond, Rate: 1 << 20})
	conn := Dial(t, r.Address(), limit)
	if err := CheckEcho(conn, "text"); err != nil {
		t.Fatal(err)
	}
	conn.CloseWrite()
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after the end: %v", err)
	}
}

func TestRelaySilence(t *testing.T) {
	for name, silence := range map[string]func(*Relay){
		"silence": func(r *Relay) {
			if n := r.Silence(); n != 1 {
				t.Errorf("%d connections, want 1", n)
			}
			if n := r.Silence(); n != 0 {
				t.Errorf("%d connections were silent already", n)
			}
		},
		"down": func(r *Relay) { r.SetDown(true) },
	} {
		t.Run(name, func(t *testing.T) {
			r := RelayTo(t, EchoServer(t), RelayConfig{})
			conn := Dial(t, r.Address(), limit)
			if err := CheckEcho(conn, "before"); err != nil {
				t.Fatal(err)
			}
			silence(r)
			conn.SetDeadline(time.Now().Add(50 * time.Millisecond))
			if err := CheckEcho(conn, "x"); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%v, want no answer", err)
			}
			r.SetDown(false)
			if err := CheckEcho(Dial(t, r.Address(), limit), "after"); err != nil {
				t.Errorf("a later connection: %v", err)
			}
		})
	}
}

// What a frozen relay takes arrives later, the end of a connection included.
func TestRelayFreeze(t *testing.T) {
	for name, all := range map[string]bool{"all": true, "connections": false} {
		t.Run(name, func(t *testing.T) {
			r := RelayTo(t, EchoServer(t), RelayConfig{})
			conn := Dial(t, r.Address(), limit)
			if err := CheckEcho(conn, "before"); err != nil {
				t.Fatal(err)
			}
			freeze := r.FreezeConnections
			if all {
				freeze = r.Freeze
			}
			thaw := freeze()
			later := Dial(t, r.Address(), limit)
			if !all {
				if err := CheckEcho(later, "later"); err != nil {
					t.Error(err)
				}
			}
			for _, c := range []*net.TCPConn{conn, later} {
				if _, err := io.WriteString(c, "meanwhile"); err != nil {
					t.Fatal(err)
				}
				c.CloseWrite()
			}
			conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("while it is frozen: %v", err)
			}
			thaw()
			conn.SetReadDeadline(time.Now().Add(limit))
			for _, c := range []*net.TCPConn{conn, later} {
				if got, err := io.ReadAll(c); err != nil || string(got) != "meanwhile" {
					t.Errorf("%q, %v", got, err)
				}
			}
		})
	}
}

func TestRelayIdle(t *testing.T) {
	r := RelayTo(t, EchoServer(t), RelayConfig{Idle: 200 * time.Millisecond})
	conn := Dial(t, r.Address(), limit)
	began := time.Now()
	for time.Since(began) < 400*time.Millisecond { // it isn't idle
		if err := CheckEcho(conn, "x"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after the idle time: %v", err)
	}
	<-r.IdleClosed
}

func TestRelayDelayAndRate(t *testing.T) {
	const delay, rate, size = 20 * time.Millisecond, 256 << 10, 64 << 10
	r := RelayTo(t, EchoServer(t), RelayConfig{Delay: delay, Rate: rate})
	began := time.Now()
	conn := Dial(t, r.Address(), limit)
	if err := CheckEcho(conn, "x"); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 4*delay {
		t.Errorf("connecting and echoing took %v, want at least %v", took, 4*delay)
	}
	began = time.Now()
	if err := CheckEcho(conn, string(make([]byte, size))); err != nil {
		t.Fatal(err)
	}
	// The first data is sent at once.
	want := time.Second * (size - 2*relayPiece) / rate
	if took := time.Since(began); took < want {
		t.Errorf("%d bytes took %v, want at least %v", size, took, want)
	}
}

// A transfer fails if a byte of it is changed, in either direction.
func TestTransfer(t *testing.T) {
	server := StartTransferServer(t, Listen(t))
	dial := func() (net.Conn, error) { return net.Dial("tcp", server.Address) }
	up, down := Transfer{Up: true, Seed: 7, Size: 100_000}, Transfer{Seed: 7, Size: 100_000}
	for _, x := range []Transfer{up, down} {
		if err := x.Run(dial, limit); err != nil {
			t.Error(err)
		}
	}
	server.CheckServedOnce(t, 2)
	for _, x := range []Transfer{up, down} {
		err := x.Run(func() (net.Conn, error) {
			conn, err := dial()
			return &flipped{Conn: conn}, err
		}, limit)
		if err == nil {
			t.Errorf("%v: a changed byte went unnoticed", x)
		}
	}
	var log recorder
	server.CheckServedOnce(&log, 2)
	if log.errors != 2 {
		t.Errorf("%d streams count as repeated, want 2", log.errors)
	}
	server.CheckServedOnce(&log, 3)
	if log.errors != 5 {
		t.Errorf("%d errors, want 5: a stream is missing", log.errors)
	}
}

// flipped changes a bit of what is written and read after the head of a transfer.
type flipped struct {
	net.Conn
	wrote bool
}

func (f *flipped) Write(p []byte) (int, error) {
	if f.wrote {
		p = bytes.Clone(p)
		p[0] ^= 1
	}
	f.wrote = true
	return f.Conn.Write(p)
}

func (f *flipped) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p)
	if n > 0 {
		p[0] ^= 1
	}
	return n, err
}

func (f *flipped) CloseWrite() error { return f.Conn.(*net.TCPConn).CloseWrite() }

// recorder is a test that counts its errors.
type recorder struct {
	testing.TB
	errors int
}

func (r *recorder) Helper()               {}
func (r *recorder) Errorf(string, ...any) { r.errors++ }

func TestUDPEcho(t *testing.T) {
	address := EchoUDPServer(t, "127.0.0.1:0")
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(address))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(limit))
	if err := CheckEcho(conn, "datagram"); err != nil {
		t.Error(err)
	}
}

func TestPair(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		near, far := Pair(t, network, limit)
		if _, err := near.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		if _, err := far.Read(make([]byte, 1)); err != nil {
			t.Error(err)
		}
	}
}

func TestPorts(t *testing.T) {
	address, free := RefusingPort(t)
	if _, err := net.Dial("tcp", address.String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("refusing: %v", err)
	}
	if ln, err := net.Listen("tcp", address.String()); err == nil {
		ln.Close()
		t.Error("somebody else could listen there")
	}
	free()
	ln, err := net.Listen("tcp", address.String())
	if err != nil {
		t.Fatalf("after it was freed: %v", err)
	}
	ln.Close()
	var silent netip.AddrPort = SilentPort(t)
	var timeout net.Error
	_, err = net.DialTimeout("tcp", silent.String(), silentDial)
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("silent: %v", err)
	}
}
