package congestion

import (
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"culvert/internal/testnet"
)

func TestCheck(t *testing.T) {
	for _, choice := range []string{Auto, System, "reno"} { // reno is part of every kernel
		if err := Check(choice); err != nil {
			t.Errorf("%s: %v", choice, err)
		}
	}
	for _, choice := range []string{"", "none-such", "Reno", strings.Repeat("a", 100), "reno\x00x"} {
		if err := Check(choice); !errors.Is(err, ErrUnknown) {
			t.Errorf("%q: %v", choice, err)
		}
	}
}

// inForce returns what the system gives connections, and what those within this machine are to
// have, which nothing paces.
func inForce(t *testing.T) (system, here string) {
	t.Helper()
	choice, err := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control")
	if err != nil {
		t.Fatal(err)
	}
	system = strings.TrimSpace(string(choice))
	if system == "bbr" {
		return system, "reno"
	}
	return system, system
}

func TestApply(t *testing.T) {
	system, here := inForce(t)
	for _, test := range []struct{ choice, want string }{
		{System, system}, {"reno", "reno"}, {Auto, here}, {"bbr", "bbr"},
	} {
		near, _ := testnet.TCPPair(t, time.Minute)
		if err := Apply(near, test.choice); err != nil {
			t.Errorf("%s: %v", test.choice, err)
		}
		if got := Of(near); got != test.want {
			t.Errorf("%s: %q is in force, want %q", test.choice, got, test.want)
		}
	}
	near, _ := testnet.TCPPair(t, time.Minute)
	if err := Apply(near, "none-such"); !errors.Is(err, ErrUnknown) {
		t.Errorf("none-such: %v", err)
	}
	if got := Of(near); got != system {
		t.Errorf("after an error: %q", got)
	}
}

// TestUnpace: a connection that is dialed to this machine isn't paced, nor is one that is accepted
// where only this machine connects. Others are as the system has them.
func TestUnpace(t *testing.T) {
	system, here := inForce(t)
	for _, test := range []struct {
		listen, dial string
		unpaced      bool
	}{
		{"127.0.0.1:0", "127.0.0.1", true},
		{"[::1]:0", "::1", true},
		{"0.0.0.0:0", "127.0.0.1", false},
	} {
		ln, err := net.Listen("tcp", test.listen)
		if err != nil && strings.HasPrefix(test.listen, "[") {
			t.Logf("%s: %v", test.listen, err)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		UnpaceListener(ln)
		dialer := net.Dialer{
			Timeout: time.Minute,
			Control: func(network, address string, socket syscall.RawConn) error {
				UnpaceDial(network, address, socket)
				return nil
			},
		}
		_, port, _ := net.SplitHostPort(ln.Addr().String())
		near, err := dialer.Dial("tcp", net.JoinHostPort(test.dial, port))
		if err != nil {
			t.Fatal(err)
		}
		defer near.Close()
		far, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer far.Close()
		want := system
		if test.unpaced {
			want = here
		}
		if got := Of(near); got != here {
			t.Errorf("dialed to %s: %q, want %q", test.dial, got, here)
		}
		if got := Of(far); got != want {
			t.Errorf("accepted on %s: %q, want %q", test.listen, got, want)
		}
	}
}

// TestPacedElsewhere: what goes to another machine, or isn't TCP, is as the system has it.
func TestPacedElsewhere(t *testing.T) {
	system, _ := inForce(t)
	for _, to := range []struct{ network, address string }{
		{"tcp4", "192.0.2.1:80"}, {"tcp6", "[2001:db8::1]:80"}, {"tcp", "::1"}, {"udp", "127.0.0.1:53"},
	} {
		near, _ := testnet.TCPPair(t, time.Minute)
		socket, err := near.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		UnpaceDial(to.network, to.address, socket)
		if got := Of(near); got != system {
			t.Errorf("%s to %s: %q, want %q", to.network, to.address, got, system)
		}
	}
	ln, err := net.Listen("unix", t.TempDir()+"/socket")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	UnpaceListener(ln)
}

// A connection that is not one of TCP is left alone.
func TestNotTCP(t *testing.T) {
	near, _ := testnet.Pair(t, "unix", time.Minute)
	if err := Apply(near, "none-such"); err != nil {
		t.Error(err)
	}
	if got := Of(near); got != "" {
		t.Errorf("%q", got)
	}
}
