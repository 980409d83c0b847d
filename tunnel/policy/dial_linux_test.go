package policy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"culvert/internal/testnet"
)

// An address that doesn't answer uses up neither the time of the other IP version, nor that of the
// next address.
func TestDialPastSilence(t *testing.T) {
	v4, v6, silent := listenOn(t, "127.0.0.1:0"), listenOn(t, "[::1]:0"), testnet.SilentPort(t)
	conn, err := dialAny(testnet.Within(t, 10*time.Second), "tcp", []netip.AddrPort{silent, v6})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.RemoteAddr().String(); got != v6.String() {
		t.Errorf("reached %s, want %s", got, v6)
	}
	conn, err = dialEach(testnet.Within(t, 2*minAttempt), "tcp", []netip.AddrPort{silent, v4})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.RemoteAddr().String(); got != v4.String() {
		t.Errorf("reached %s, want %s", got, v4)
	}
	var timeout net.Error
	_, err = dialAny(testnet.Within(t, 100*time.Millisecond), "tcp", []netip.AddrPort{silent, silent})
	if !errors.Is(err, context.DeadlineExceeded) && (!errors.As(err, &timeout) || !timeout.Timeout()) {
		t.Errorf("silence: %v", err)
	}
}
