package tunnel

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"culvert/internal/testnet"

	"golang.org/x/sys/unix"
)

// wildcards are the networks for sockets that are bound to all addresses, each with addresses of
// loopback that such a socket has. On Linux all of 127.0.0.0/8 are, the broadcast address excepted.
var wildcards = map[string][]string{
	"udp4": {"127.0.0.2", "127.1.2.3", "127.0.0.1"},
	"udp6": {"::1"},
	"udp":  {"127.0.0.2", "::1", "127.1.2.3", "127.0.0.1"},
}

// listenWildcard binds a port of all addresses until the test ends.
func listenWildcard(t testing.TB, network string) (conn *net.UDPConn, port uint16) {
	t.Helper()
	bound, err := net.ListenPacket(network, ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bound.Close() })
	conn = bound.(*net.UDPConn)
	return conn, addrOf(conn).Port()
}

func sendUDP(t testing.TB, conn *net.UDPConn, text string, to netip.AddrPort) {
	t.Helper()
	if _, err := conn.WriteToUDPAddrPort([]byte(text), to); err != nil {
		t.Fatal(err)
	}
}

// wantAnswer receives a datagram on a socket that is not connected.
func wantAnswer(t testing.TB, conn *net.UDPConn, want string, source netip.AddrPort) {
	t.Helper()
	p := make([]byte, 100)
	conn.SetReadDeadline(time.Now().Add(patience))
	n, from, err := conn.ReadFromUDPAddrPort(p)
	if err != nil {
		t.Fatal(err)
	}
	if string(p[:n]) != want || from != source {
		t.Errorf("received %q from %v, want %q from %v", p[:n], from, want, source)
	}
}

// A client's connected socket receives answers, since they come from the address that it sends to,
// even those to what it sent before the socket was served.
func TestForwardUDPAnswersFromDestination(t *testing.T) {
	local, _ := startTunnel(t)
	target := testnet.EchoUDPServer(t, "127.0.0.1:0").String()
	for network, addresses := range wildcards {
		conn, port := listenWildcard(t, network)
		var clients []*net.UDPConn
		for _, address := range addresses {
			client := dialUDP(t, netip.AddrPortFrom(netip.MustParseAddr(address), port))
			if _, err := client.Write([]byte("early")); err != nil {
				t.Fatal(err)
			}
			clients = append(clients, client)
		}
		serveUDPForward(t, local, conn, target)
		for i, client := range clients {
			p := make([]byte, 100)
			client.SetReadDeadline(time.Now().Add(patience))
			if n, err := client.Read(p); err != nil || string(p[:n]) != "early" {
				t.Fatalf("%s, %s: %q, %v", network, addresses[i], p[:n], err)
			}
			large := randomBytes(t, udpSizes[len(udpSizes)-1])
			if got := askConn(t, client, large); !bytes.Equal(got, large) {
				t.Errorf("%s, %s: %d other bytes come back", network, addresses[i], len(got))
			}
		}
	}
}

// What one source sends to two addresses is two clients, each with a socket of its own.
func TestForwardUDPKeepsDestinationsApart(t *testing.T) {
	local, remote := startTunnel(t)
	target := testnet.EchoUDPServer(t, "127.0.0.1:0").String()
	for i, network := range []string{"udp4", "udp"} {
		conn, port := listenWildcard(t, network)
		serveUDPForward(t, local, conn, target)
		client := testnet.ListenUDP(t, "127.0.0.1:0")
		for range 2 {
			for _, address := range []string{"127.0.0.2", "127.0.0.3"} {
				to := netip.AddrPortFrom(netip.MustParseAddr(address), port)
				sendUDP(t, client, address, to)
				wantAnswer(t, client, address, to)
			}
		}
		if n := remote.exits.taken(); n != 2*(i+1) {
			t.Errorf("%s: %d sockets for %d clients", network, n, 2*(i+1))
		}
	}
}

// A broadcast address can't be a source. Answers come from the interface's address.
func TestForwardUDPBroadcast(t *testing.T) {
	local, _ := startTunnel(t)
	target := testnet.EchoUDPServer(t, "127.0.0.1:0").String()
	for _, network := range []string{"udp4", "udp"} {
		conn, port := listenWildcard(t, network)
		serveUDPForward(t, local, conn, target)
		client := testnet.ListenUDP(t, "127.0.0.1:0")
		to := netip.AddrPortFrom(netip.MustParseAddr("127.255.255.255"), port)
		sendUDP(t, client, "all", to)
		wantAnswer(t, client, "all", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port))
	}
}

// Link-local addresses, if this host has any, are known together with their interfaces, which
// answers to clients with other addresses need.
func TestForwardUDPLinkLocal(t *testing.T) {
	local, _ := startTunnel(t)
	target := testnet.EchoUDPServer(t, "127.0.0.1:0").String()
	for _, addr := range linkLocal(t) {
		conn, port := listenWildcard(t, "udp")
		to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, port))
		client, err := net.DialUDP("udp", nil, to)
		if err != nil { // an interface of another test, which has just come or is going
			t.Log(err)
			conn.Close()
			continue
		}
		t.Cleanup(func() { client.Close() })
		client.Write([]byte("where?"))
		_, path, err := newUDPSocket(conn).read(make([]byte, 10))
		if err != nil {
			t.Fatal(err)
		}
		i, err := net.InterfaceByName(addr.Zone())
		if err != nil {
			t.Fatal(err)
		}
		if want := (localAddr{addr.WithZone(""), uint32(i.Index)}); path.local != want {
			t.Errorf("sent to %v, want %v", path.local, want)
		}
		serveUDPForward(t, local, conn, target)
		if got := askConn(t, client, []byte("near")); string(got) != "near" {
			t.Errorf("%v: %q", addr, got)
		}
	}
}

// linkLocal returns the link-local IPv6 addresses of this host's interfaces that are up.
func linkLocal(t testing.TB) (all []netip.Addr) {
	t.Helper()
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		addrs, _ := i.Addrs()
		for _, addr := range addrs {
			ip, _ := netip.ParsePrefix(addr.String())
			if ip.Addr().Is6() && ip.Addr().IsLinkLocalUnicast() {
				all = append(all, ip.Addr().WithZone(i.Name))
			}
		}
	}
	return all
}

// The remote answers the clients of its port likewise.
func TestReverseUDPAnswersFromDestination(t *testing.T) {
	local, _ := reverseTunnel(t, "*")
	target := testnet.EchoUDPServer(t, "127.0.0.1:0").String()
	for bind, network := range map[string]string{"*:0": "udp", "0.0.0.0:0": "udp4"} {
		port, _ := serveReverseUDPTo(t, local, bind, target)
		for i, address := range wildcards[network] {
			client := dialUDP(t, netip.AddrPortFrom(netip.MustParseAddr(address), port.Port()))
			p := fmt.Append(nil, network, i)
			if got := askConn(t, client, p); !bytes.Equal(got, p) {
				t.Errorf("%s, %s: %q", bind, address, got)
			}
		}
	}
}

// A destination is read from the message that sends from it, and from those of other forms. What
// can't be a source is none.
func TestDestination(t *testing.T) {
	local := func(addr string, index uint32) localAddr {
		return localAddr{netip.MustParseAddr(addr), index}
	}
	for _, want := range []localAddr{
		{}, local("192.0.2.1", 0), local("2001:db8::1", 0), local("fe80::1", 7),
	} {
		if got := destination(want.control()); got != want {
			t.Errorf("%v: %v", want, got)
		}
	}
	ofIPv6 := func(addr string) []byte {
		info := netip.MustParseAddr(addr).As16()
		return controlMessage(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, append(info[:], 7, 7, 7, 7))
	}
	other := controlMessage(unix.SOL_SOCKET, unix.SCM_TIMESTAMP, make([]byte, 16))
	for _, test := range []struct {
		control []byte
		want    localAddr
	}{
		{ofIPv6("::ffff:192.0.2.1"), local("192.0.2.1", 0)},
		{ofIPv6("2001:db8::1"), local("2001:db8::1", 0)},
		{ofIPv6("ff02::1"), localAddr{}},
		{ofIPv6("::"), localAddr{}},
		{append(other, ofIPv6("2001:db8::1")...), local("2001:db8::1", 0)},
		{append(ofIPv6("::ffff:192.0.2.255"), local("192.0.2.1", 0).control()...),
			local("192.0.2.1", 0)},
		{other, localAddr{}},
		{ofIPv6("2001:db8::1")[:30], localAddr{}},
	} {
		if got := destination(test.control); got != test.want {
			t.Errorf("%x: %v, want %v", test.control, got, test.want)
		}
	}
}

// Only a socket that is bound to all addresses is asked for destinations.
func TestUDPSocketOfOneAddress(t *testing.T) {
	s := newUDPSocket(testnet.ListenUDP(t, "127.0.0.1:0"))
	client := dialUDP(t, addrOf(s.packetConn.(*net.UDPConn)))
	client.Write([]byte("hello"))
	n, path, err := s.read(make([]byte, 10))
	if want := (udpPath{client: addrOf(client)}); n != 5 || path != want || err != nil {
		t.Errorf("%d bytes over %v, %v", n, path, err)
	}
}

// When the address that a client sends to is this host's no longer, answers come from another one.
func TestUDPSocketLosesAddress(t *testing.T) {
	for gone, network := range map[string]string{"192.0.2.99": "udp4", "2001:db8::99": "udp6"} {
		conn, port := listenWildcard(t, network)
		loopback := netip.MustParseAddr(wildcards[network][len(wildcards[network])-1])
		client := testnet.ListenUDP(t, netip.AddrPortFrom(loopback, 0).String())
		control := localAddr{addr: netip.MustParseAddr(gone)}.control()
		if err := newUDPSocket(conn).answer([]byte("still"), addrOf(client), control); err != nil {
			t.Fatal(err)
		}
		wantAnswer(t, client, "still", netip.AddrPortFrom(loopback, port))
	}
}

// Datagrams cost no allocation.
func TestUDPSocketAllocations(t *testing.T) {
	for network, addresses := range wildcards {
		conn, port := listenWildcard(t, network)
		s := newUDPSocket(conn)
		client := dialUDP(t, netip.AddrPortFrom(netip.MustParseAddr(addresses[0]), port))
		conn.SetDeadline(time.Now().Add(patience))
		client.SetDeadline(time.Now().Add(patience))
		p := make([]byte, 100)
		var control []byte
		once := func() {
			client.Write(p)
			_, path, err := s.read(p)
			if err != nil {
				t.Fatal(err)
			}
			if control == nil {
				control = path.local.control()
			}
			if err := s.answer(p, path.client, control); err != nil {
				t.Fatal(err)
			}
			if _, err := client.Read(p); err != nil {
				t.Fatal(err)
			}
		}
		if n := testing.AllocsPerRun(100, once); n != 0 {
			t.Errorf("%s: %v allocations", network, n)
		}
	}
}
