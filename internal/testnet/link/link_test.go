//go:build linux

package link

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startLink makes a link that lasts as long as the test.
func startLink(t testing.TB, cfg Config) *Link {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test must be run by root: it makes network namespaces")
	}
	l, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		for _, h := range []*Host{l.A, l.B} {
			if _, err := os.Stat(filepath.Join(namespaceFolder, h.Namespace)); !os.IsNotExist(err) {
				t.Errorf("namespace %s after Close: %v", h.Namespace, err)
			}
		}
	})
	return l
}

// on creates a socket on a host.
func on[T any](t testing.TB, h *Host, open func() (T, error)) (socket T) {
	t.Helper()
	err := within(h.Namespace, func() (err error) {
		socket, err = open()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return socket
}

// udpPair returns a socket on each host, that of A connected to that of B.
func udpPair(t *testing.T, l *Link) (a, b *net.UDPConn) {
	t.Helper()
	b = on(t, l.B, func() (*net.UDPConn, error) {
		return net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(l.B.Addr, 0)))
	})
	t.Cleanup(func() { b.Close() })
	a = on(t, l.A,
		func() (*net.UDPConn, error) { return net.DialUDP("udp", nil, b.LocalAddr().(*net.UDPAddr)) })
	t.Cleanup(func() { a.Close() })
	for _, conn := range []*net.UDPConn{a, b} {
		conn.SetDeadline(time.Now().Add(time.Minute))
	}
	return a, b
}

// A round trip takes twice the delay, and little more.
func TestDelay(t *testing.T) {
	const delay = 25 * time.Millisecond
	l := startLink(t, Config{Delay: delay, Rate: 1e9})
	a, b := udpPair(t, l)
	var echoing sync.WaitGroup
	echoing.Go(func() {
		buf := make([]byte, 100)
		for range 20 {
			n, from, err := b.ReadFromUDPAddrPort(buf)
			if err != nil {
				t.Error(err)
				return
			}
			b.WriteToUDPAddrPort(buf[:n], from)
		}
	})
	var times []time.Duration
	for range 20 {
		began := time.Now()
		a.Write([]byte("ping"))
		if _, err := a.Read(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		times = append(times, time.Since(began))
	}
	echoing.Wait()
	slices.Sort(times)
	t.Logf("round trips of %v to %v, median %v", times[0], times[19], times[10])
	if times[0] < 2*delay || times[10] > 2*delay+10*time.Millisecond {
		t.Errorf("round trips: %v", times)
	}
}

// The link's congestion control is that of connections over it.
func TestControl(t *testing.T) {
	const control = "reno" // which every kernel has
	l := startLink(t, Config{Rate: 100e6, Control: control})
	ln := on(t, l.B, func() (net.Listener, error) { return net.Listen("tcp", l.B.Addr.String()+":0") })
	defer ln.Close()
	conn := on(t, l.A, func() (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) })
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var got string
	if controlErr := raw.Control(func(fd uintptr) {
		got, err = unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	}); controlErr != nil || err != nil {
		t.Fatal(controlErr, err)
	}
	if got = strings.TrimRight(got, "\x00"); got != control {
		t.Errorf("congestion control %q, want %q", got, control)
	}
	if l, err := New(Config{Rate: 100e6, Control: "none such"}); err == nil {
		l.Close()
		t.Error("a link with a congestion control that does not exist")
	}
}

// Every packet arrives, is dropped or is lost; those that arrive are in order and limited to the
// rate.
func TestRateLossAndQueue(t *testing.T) {
	const (
		packets = 1000
		size    = 1000 // bytes, with the headers
		rate    = 8e6
		queue   = 500 * size
	)
	l := startLink(t,
		Config{Delay: 5 * time.Millisecond, Rate: rate, Queue: queue, Loss: 0.1, Seed: 1})
	a, b := udpPair(t, l)
	payload := make([]byte, size-28) // less the headers of IPv4 and UDP
	began := time.Now()
	for i := range uint64(packets) {
		binary.BigEndian.PutUint64(payload, i)
		if _, err := a.Write(payload); err != nil {
			t.Fatal(err)
		}
	}
	burst := time.Since(began)
	var got uint64
	next := uint64(0)
	for {
		s, _ := l.Stats()
		if s.Packets+s.Dropped+s.Lost == packets && got == s.Packets {
			break
		}
		n, err := b.Read(payload)
		if err != nil {
			t.Fatalf("after %d packets: %v, %+v", got, err, s)
		}
		i := binary.BigEndian.Uint64(payload)
		if n != size-28 || i < next {
			t.Fatalf("%d bytes, packet %d after %d", n, i, next)
		}
		next = i + 1
		got++
	}
	took := time.Since(began)
	s, _ := l.Stats()
	t.Logf("%+v in %v, sent in %v", s, took, burst)
	sent := s.Packets + s.Lost
	if least := time.Duration(float64(sent-1) * size * 8 / rate * float64(time.Second)); took < least {
		t.Errorf("%d packets in %v: faster than the rate allows, %v", sent, took, least)
	}
	if s.Lost == 0 || s.Dropped == 0 || sent < queue/size {
		t.Errorf("%+v", s)
	}
}

func TestCloseTwice(t *testing.T) {
	l := startLink(t, Config{Delay: 10 * time.Second, Rate: 1e6})
	a, _ := udpPair(t, l)
	a.Write([]byte("on its way when the link is closed"))
	for range 2 {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A link whose process was killed is removed by the next process that creates one.
func TestRemoveAbandoned(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test must be run by root: it makes network namespaces")
	}
	const name = namespacePrefix + "2147483647-1a" // more than the largest process ID
	if err := ip("netns", "add", name); err != nil {
		t.Fatal(err)
	}
	startLink(t, Config{Rate: 1e6})
	if _, err := os.Stat(filepath.Join(namespaceFolder, name)); !os.IsNotExist(err) {
		t.Errorf("still there: %v", err)
	}
}

// BenchmarkTCP sends through one TCP connection over a link of 1 Gbit/s and 10 ms round trip with
// large packets.
func BenchmarkTCP(b *testing.B) {
	l := startLink(b, Config{Delay: 5 * time.Millisecond, Rate: 1e9, MTU: 9000})
	ln := on(b, l.B, func() (net.Listener, error) { return net.Listen("tcp", l.B.Addr.String()+":0") })
	defer ln.Close()
	var receiving sync.WaitGroup
	receiving.Go(func() {
		conn, err := ln.Accept()
		if err != nil {
			b.Error(err)
			return
		}
		defer conn.Close()
		io.Copy(io.Discard, conn)
	})
	conn := on(b, l.A, func() (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) })
	chunk := make([]byte, 1<<20)
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		if _, err := conn.Write(chunk); err != nil {
			b.Fatal(err)
		}
	}
	conn.(*net.TCPConn).CloseWrite()
	receiving.Wait()
	conn.Close()
}
