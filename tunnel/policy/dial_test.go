package policy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"culvert/internal/testnet"
)

func listenOn(t *testing.T, address string) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

func TestDialAny(t *testing.T) {
	v4, v6 := listenOn(t, "127.0.0.1:0"), listenOn(t, "[::1]:0")
	refusing4, refusing6 := netip.MustParseAddrPort(
		"127.0.0.1:1",
	), netip.MustParseAddrPort(
		"[::1]:1",
	)
	for name, test := range map[string]struct {
		addrs []netip.AddrPort
		want  netip.AddrPort
	}{
		"one":                            {[]netip.AddrPort{v4}, v4},
		"the first of a version":         {[]netip.AddrPort{v6, v4}, v6},
		"the second, the first refuses":  {[]netip.AddrPort{refusing4, v4}, v4},
		"the other version, one refuses": {[]netip.AddrPort{refusing6, v4}, v4},
		"after all of a version":         {[]netip.AddrPort{refusing6, refusing6, refusing4, v4}, v4},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := dialAny(testnet.Within(t, 10*time.Second), "tcp", test.addrs)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if got := conn.RemoteAddr().String(); got != test.want.String() {
				t.Errorf("reached %s, want %s", got, test.want)
			}
		})
	}
	if _, err := dialAny(
		t.Context(), "tcp", []netip.AddrPort{refusing4, refusing6},
	); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("nobody there: %v", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if conn, err := dialAny(cancelled, "tcp", []netip.AddrPort{v4, v6}); err == nil {
		conn.Close()
		t.Error("a cancelled dial connects")
	}
}

// One silent address does not use up the time of the next.
func TestDialEachSharesTime(t *testing.T) {
	ctx, cancel := shareTime(testnet.Within(t, 40*time.Second), 4)
	defer cancel()
	deadline, ok := ctx.Deadline()
	if left := time.Until(deadline); !ok || left > 10*time.Second || left < 9*time.Second {
		t.Errorf("%v of 40 s for one of four", left)
	}
	ctx, cancel = shareTime(testnet.Within(t, 4*time.Second), 32)
	defer cancel()
	deadline, _ = ctx.Deadline()
	if left := time.Until(deadline); left > minAttempt || left < minAttempt/2 {
		t.Errorf("%v of 4 s for one of 32", left)
	}
}

func TestSplitTarget(t *testing.T) {
	if host, port, err := splitTarget("[2001:db8::1]:65535"); host != "2001:db8::1" ||
		port != 65535 ||
		err != nil {
		t.Errorf("%s, %d, %v", host, port, err)
	}
	for _, bad := range []string{
		"", "a", ":80", "a:0", "a:65536", "a:+1", "a:http", "a:80:80", "[a:80",
	} {
		if _, _, err := splitTarget(bad); !errors.Is(err, ErrBadTarget) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
