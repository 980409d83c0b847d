package testnet

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
)

// udpReadBuffer in bytes absorbs bursts; the system charges datagrams more than their size.
const udpReadBuffer = 1 << 20

// ListenUDP binds a UDP socket to an address until the test ends.
func ListenUDP(tb testing.TB, address string) *net.UDPConn {
	tb.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(address)))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close() })
	conn.SetReadBuffer(udpReadBuffer)
	return conn
}

// ServeUDP binds a UDP socket to an address, and calls handle with each datagram that it receives
// until the test ends. handle must not retain the bytes. It returns the socket's address.
func ServeUDP(
	tb testing.TB, address string, handle func(conn *net.UDPConn, p []byte, from netip.AddrPort),
) netip.AddrPort {
	tb.Helper()
	return ServeUDPConn(tb, ListenUDP(tb, address), handle)
}

// ServeUDPConn is [ServeUDP] for a bound socket, which it takes ownership of.
func ServeUDPConn(
	tb testing.TB, conn *net.UDPConn, handle func(conn *net.UDPConn, p []byte, from netip.AddrPort),
) netip.AddrPort {
	tb.Helper()
	conn.SetReadBuffer(udpReadBuffer)
	var serving sync.WaitGroup
	serving.Go(func() {
		p := make([]byte, 64<<10)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(p)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil { // otherwise an ICMP error for an earlier datagram
				handle(conn, p[:n], from)
			}
		}
	})
	tb.Cleanup(func() {
		conn.Close()
		Await(tb, endTime, serving.Wait)
	})
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// EchoUDP sends a datagram back. It is a handler for [ServeUDP].
func EchoUDP(conn *net.UDPConn, p []byte, from netip.AddrPort) { conn.WriteToUDPAddrPort(p, from) }

// EchoUDPServer echoes the datagrams sent to an address until the test ends.
func EchoUDPServer(tb testing.TB, address string) netip.AddrPort {
	tb.Helper()
	return ServeUDP(tb, address, EchoUDP)
}
