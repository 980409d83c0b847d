package tunnel

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"culvert/internal/testnet"
	"culvert/tunnel/policy"
)

func addrOf(conn *net.UDPConn) netip.AddrPort { return conn.LocalAddr().(*net.UDPAddr).AddrPort() }

// ask sends a datagram until one is received, as users of UDP must, and returns that.
func ask(
	t testing.TB,
	p []byte,
	send func([]byte) error,
	receive func(timeout time.Duration) ([]byte, error),
) []byte {
	t.Helper()
	for range 20 {
		if err := send(p); err != nil {
			t.Fatal(err)
		}
		got, err := receive(time.Second)
		if err == nil {
			return got
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
	}
	t.Fatalf("no answer to %d bytes", len(p))
	return nil
}

// askConn is ask over a connected socket.
func askConn(t testing.TB, conn *net.UDPConn, p []byte) []byte {
	t.Helper()
	return ask(t, p, func(p []byte) error {
		_, err := conn.Write(p)
		return err
	}, func(timeout time.Duration) ([]byte, error) {
		buf := make([]byte, 64<<10)
		conn.SetReadDeadline(time.Now().Add(timeout))
		n, err := conn.Read(buf)
		return buf[:n], err
	})
}

var udpSizes = []int{0, 1, 512, 1472, 9000, 32 << 10, 65507}

// startUDPTunnel starts a tunnel whose remote resolves known.test to loopback, both.test to that of
// both IP versions, and never slow.test. Its rules deny 127.0.0.66 and port 7.
func startUDPTunnel(t testing.TB) (*Local, *testRemote) {
	t.Helper()
	rules, err := policy.ParseRules(nil, []string{"127.0.0.66,*:7,denied.test"})
	if err != nil {
		t.Fatal(err)
	}
	useNames(t, map[string]string{
		"known.test": "127.0.0.1", "both.test": "127.0.0.1 ::1",
		"rebound.test": "127.0.0.66", "slow.test": "",
	})
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), func(cfg *RemoteConfig) { cfg.Rules = rules })
	local, _ := startLocal(t, remote.localConfig(t, key))
	if _, err := local.WaitSession(testnet.Within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	return local, remote
}

func dialUDP(t testing.TB, address netip.AddrPort) *net.UDPConn {
	t.Helper()
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(address))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetReadBuffer(1 << 20)
	return conn
}
