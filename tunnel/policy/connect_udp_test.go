package policy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"culvert/internal/testnet"
)

// lonePort returns a UDP port that echoes at one loopback address, and where nobody listens at the
// other.
func lonePort(t *testing.T, answering, refusing netip.Addr) uint16 {
	t.Helper()
	for range 20 {
		conn := testnet.ListenUDP(t, netip.AddrPortFrom(answering, 0).String())
		port := conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		other, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(refusing, port)))
		if err == nil {
			other.Close()
			testnet.ServeUDPConn(t, conn, testnet.EchoUDP)
			return port
		}
		conn.Close()
	}
	t.Fatal("no port is free at both addresses")
	return 0
}

// A UDP service that listens at one address of its name is found, although a socket connects to
// the others too.
func TestDialUDPFindsTheAddress(t *testing.T) {
	v4, v6 := netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()
	for _, order := range [][]netip.Addr{{v4, v6}, {v6, v4}} {
		port := lonePort(t, order[1], order[0])
		rules, err := ParseRules([]string{"127.0.0.0/8,[::1]"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		rules.lookup = func(context.Context, string, string) ([]netip.Addr, error) { return order, nil }
		ctx := testnet.Within(t, 20*time.Second)
		conn, err := rules.Dial(ctx, "udp", fmt.Sprintf("both.test:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { conn.Close() })()
		for i := range 3 {
			if _, err := conn.Write([]byte{byte(i)}); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 3 {
			p := make([]byte, 10)
			if n, err := conn.Read(p); err != nil || n != 1 || p[0] != byte(i) {
				t.Fatalf("%v: received %v, %v", order, p[:n], err)
			}
		}
		want := netip.AddrPortFrom(order[1], port)
		if got := conn.RemoteAddr().String(); got != want.String() {
			t.Errorf("reached %s, want %s", got, want)
		}
	}
}

// udpTargets are the addresses of a target, by their last byte, and the sockets connected to them.
type udpTargets struct {
	mu        sync.Mutex // guards all below
	behaviour []string
	sockets   []*fakeUDP
	got       [][]string
}

func (u *udpTargets) dial(_ context.Context, addr netip.AddrPort) (net.Conn, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	to := addr.Addr().As4()[3]
	if u.behaviour[to] == "unreachable" {
		return nil, syscall.ENETUNREACH
	}
	closed := make(chan struct{})
	socket := &fakeUDP{
		targets: u,
		to:      to,
		failed:  make(chan error, 1),
		answers: make(chan []byte, 100),
		closed:  closed,
		close:   sync.OnceFunc(func() { close(closed) }),
	}
	u.sockets = append(u.sockets, socket)
	return socket, nil
}

// fakeUDP is a connected socket for synctest bubbles. Its target answers each datagram, refuses it,
// or is silent. As in a kernel, either a read or a write returns the error of an earlier datagram,
// and such a write sends nothing.
type fakeUDP struct {
	net.Conn
	targets *udpTargets
	to      byte
	failed  chan error
	answers chan []byte
	closed  chan struct{}
	close   func()
}

func (f *fakeUDP) Read(p []byte) (int, error) {
	select {
	case err := <-f.failed:
		return 0, err
	case answer := <-f.answers:
		return copy(p, answer), nil
	case <-f.closed:
		return 0, net.ErrClosed
	}
}

func (f *fakeUDP) Write(p []byte) (int, error) {
	select {
	case err := <-f.failed:
		return 0, err
	case <-f.closed:
		return 0, net.ErrClosed
	default:
	}
	u := f.targets
	u.mu.Lock()
	defer u.mu.Unlock()
	u.got[f.to] = append(u.got[f.to], string(p))
	switch u.behaviour[f.to] {
	case "refuses":
		f.failed <- &net.OpError{Op: "read", Net: "udp", Err: syscall.ECONNREFUSED}
	case "answers":
		f.answers <- slices.Clone(p)
	}
	return len(p), nil
}

func (f *fakeUDP) Close() error {
	f.close()
	return nil
}

// Until an address has answered, those that refuse are left for the next, which gets the last
// datagrams again. No address gets one twice.
func TestUDPConn(t *testing.T) {
	large := strings.Repeat("L", maxUnansweredSize+1)
	for name, test := range map[string]struct {
		behaviour string // of each address
		first     string // datagrams, with a pause at each space
		later     string // more, once the first address refuses all
		want      string // what the addresses get; a star for anything
	}{
		"one refuses":             {"refuses answers", "a b c", "", "a|a b c"},
		"two refuse":              {"refuses refuses answers", "a b", "", "a|a|a b"},
		"a burst":                 {"refuses answers", "a,b,c d", "", "*|a b c d"},
		"a burst, and two refuse": {"refuses refuses answers", "a,b c", "", "*|*|a b c"},
		"no route to the first":   {"unreachable answers", "a b", "", "|a b"},
		"no route to the second":  {"refuses unreachable answers", "a b", "", "a||a b"},
		"no route to the others":  {"refuses unreachable unreachable", "a b", "", "a b||"},
		"all refuse":              {"refuses refuses", "a b c", "", "a b c|a b c"},
		"silence":                 {"silent answers", "a b", "", "a b|"},
		"the last are sent again": {"silent silent", "a b c d e", "f g", "a b c d e f|c d e f g"},
		"large ones are not":      {"silent silent", "a " + large, "b c", "a " + large + " b|a b c"},
		"it has answered":         {"answers answers", "a", "b c", "a b c|"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := &udpTargets{behaviour: strings.Fields(test.behaviour)}
				send, stop := startUDPConn(t, u)
				send(test.first)
				u.mu.Lock()
				u.behaviour[0] = "refuses"
				u.mu.Unlock()
				send(test.later)
				stop()
				for i, want := range strings.Split(test.want, "|") {
					if got := strings.Join(u.got[i], " "); want != "*" && got != want {
						t.Errorf("address %d got %.100q, want %.100q", i, got, want)
					}
				}
				for _, socket := range u.sockets {
					<-socket.closed
				}
			})
		})
	}
}

// startUDPConn connects to targets, and returns a function that sends datagrams, with a pause at
// each space, and one that closes the socket.
func startUDPConn(t *testing.T, u *udpTargets) (send func(datagrams string), stop func()) {
	t.Helper()
	u.got = make([][]string, len(u.behaviour))
	var addrs []netip.AddrPort
	for i := range u.behaviour {
		addrs = append(addrs, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 9))
	}
	conn, err := connectUDP(t.Context(), addrs, u.dial)
	if err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			if _, err := conn.Read(make([]byte, 10)); errors.Is(err, net.ErrClosed) {
				return
			}
		}
	})
	send = func(datagrams string) {
		for burst := range strings.FieldsSeq(datagrams) {
			for p := range strings.SplitSeq(burst, ",") {
				conn.Write([]byte(p))
			}
			synctest.Wait()
		}
	}
	stop = func() {
		conn.Close()
		reading.Wait()
	}
	return send, stop
}
