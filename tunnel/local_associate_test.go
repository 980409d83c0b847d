package tunnel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"culvert/internal/bounds"
	"culvert/internal/testnet"
	"culvert/tunnel/mux"
	"culvert/tunnel/policy"
)

func associate(t testing.TB, local *Local) *Association {
	t.Helper()
	a, err := local.Associate(testnet.Within(t, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// askAssociation is ask over an association; the answer must come from source.
func askAssociation(
	t testing.TB, a *Association, host string, port uint16, p []byte, source netip.AddrPort,
) []byte {
	t.Helper()
	send := func(p []byte) error { return a.Send(host, port, p) }
	return ask(t, p, send, func(timeout time.Duration) ([]byte, error) {
		buf := make([]byte, mux.MaxDatagram)
		a.flow.SetReadDeadline(time.Now().Add(timeout))
		n, from, err := a.Receive(buf)
		if err == nil && from != source {
			t.Errorf("the answer comes from %v, want %v", from, source)
		}
		return buf[:n], err
	})
}

func TestAssociation(t *testing.T) {
	local, _ := startUDPTunnel(t)
	v4, v6 := testnet.EchoUDPServer(t, "127.0.0.1:0"), testnet.EchoUDPServer(t, "[::1]:0")
	a := associate(t, local)
	for _, size := range udpSizes {
		p := randomBytes(t, size)
		if got := askAssociation(t, a, "127.0.0.1", v4.Port(), p, v4); !bytes.Equal(got, p) {
			t.Errorf("%d bytes come back as %d others", size, len(got))
		}
		if got := askAssociation(t, a, "::1", v6.Port(), p, v6); !bytes.Equal(got, p) {
			t.Errorf("%d bytes come back by IPv6 as %d others", size, len(got))
		}
	}
	if got := askAssociation(
		t, a, "::ffff:127.0.0.1", v4.Port(), []byte("mapped"), v4,
	); string(got) != "mapped" {
		t.Errorf("mapped address: %q", got)
	}
	for i := range 3 { // of which the first has to wait for the name
		p := fmt.Append(nil, i)
		if got := askAssociation(t, a, "known.test", v4.Port(), p, v4); !bytes.Equal(got, p) {
			t.Errorf("by name: %q", got)
		}
	}
	// A service of the remote's machine need not listen at ::1 as well.
	if got := askAssociation(
		t, a, "both.test", v4.Port(), []byte("both"), v4,
	); string(got) != "both" {
		t.Errorf("by a name of two addresses: %q", got)
	}
	for _, host := range []string{"", string(make([]byte, 256))} {
		if err := a.Send(host, 1, nil); !errors.Is(err, policy.ErrBadTarget) {
			t.Errorf("host of %d bytes: %v", len(host), err)
		}
	}
	if err := a.Send(
		"127.0.0.1", v4.Port(), make([]byte, mux.MaxDatagram),
	); !errors.Is(err, mux.ErrDatagramSize) {
		t.Errorf("too large: %v", err)
	}
	a.Close()
	if _, _, err := a.Receive(nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// A host to which the association has not sent can't send to it.
func TestAssociationStrangers(t *testing.T) {
	local, _ := startTunnel(t)
	stranger := testnet.ListenUDP(t, "127.0.0.2:0")
	exits := make(chan netip.AddrPort, 100)
	echo := testnet.ServeUDP(t, "127.0.0.1:0", func(conn *net.UDPConn, p []byte, from netip.AddrPort) {
		exits <- from
		stranger.WriteToUDPAddrPort([]byte("unasked"), from)
		conn.WriteToUDPAddrPort(p, from)
	})
	a := associate(t, local)
	for range 10 {
		if got := askAssociation(
			t, a, "127.0.0.1", echo.Port(), []byte("asked"), echo,
		); string(got) != "asked" {
			t.Fatalf("received %q", got)
		}
	}
	// Once it has sent to the stranger's host, the association hears it.
	if err := a.Send("127.0.0.2", addrOf(stranger).Port(), []byte("hello")); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 100)
	stranger.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, from, err := stranger.ReadFromUDPAddrPort(p); err != nil || string(p[:n]) != "hello" ||
		from != receive(t, exits) {
		t.Fatalf("the stranger got %q from %v, %v", p[:n], from, err)
	}
	if got := askAssociation(
		t, a, "127.0.0.1", echo.Port(), []byte("asked"), addrOf(stranger),
	); string(got) != "unasked" {
		t.Errorf("received %q", got)
	}
}

// A socket at the remote lives as long as its association.
func TestAssociationEnds(t *testing.T) {
	local, remote := startTunnel(t)
	a := associate(t, local)
	if n := remote.exits.taken(); n != 1 {
		t.Errorf("%d sockets, want 1", n)
	}
	a.Close()
	waitExits(t, remote.Remote, 0)
	b := associate(t, local)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	remote.Shutdown(ctx)
	if _, _, err := b.Receive(make([]byte, 10)); err == nil {
		t.Error("an association outlives the remote")
	}
	waitExits(t, remote.Remote, 0)
}

// TestMemoryOfAssociations: associations count in the local's memory budget. Those that it has no
// room for are refused, and one that was closed makes room.
func TestMemoryOfAssociations(t *testing.T) {
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), nil)
	counts := new(bounds.Counts)
	cfg := remote.localConfig(t, key)
	cfg.Memory, cfg.Bounds = 16*associationMemory, counts
	local, _ := startLocal(t, cfg)
	var open []*Association
	var err error
	for err == nil && len(open) <= 16 {
		var a *Association
		if a, err = local.Associate(testnet.Within(t, patience)); err == nil {
			open = append(open, a)
		}
	}
	if openCode(err) != mux.CodeOverload || counts.Of(bounds.Memory) != 1 {
		t.Fatalf("%d associations, then %v; %d counted", len(open), err, counts.Of(bounds.Memory))
	}
	if len(open) < 4 || len(open) > 9 {
		t.Errorf("%d associations with a budget for 16", len(open))
	}
	open[0].Close()
	open[0].Close() // which gives nothing back again
	again, err := local.Associate(testnet.Within(t, patience))
	if err != nil {
		t.Fatalf("after one was closed: %v", err)
	}
	if _, err := local.Associate(testnet.Within(t, patience)); openCode(err) != mux.CodeOverload {
		t.Errorf("another one: %v", err)
	}
	for _, a := range append(open, again) {
		a.Close()
	}
}
