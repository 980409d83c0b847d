package congestion

import (
	"errors"
	"os"
	"strings"
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

func TestApply(t *testing.T) {
	before, err := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control")
	if err != nil {
		t.Fatal(err)
	}
	system := strings.TrimSpace(string(before))
	here := system // nothing paces what stays on this machine
	if here == "bbr" {
		here = "reno"
	}
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
