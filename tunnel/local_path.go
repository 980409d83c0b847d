package tunnel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"culvert/internal/congestion"
)

// localPath is the two ends of a carrier's connection, as the system has them, and how it sends
// between them. With a proxy the path leads to that.
type localPath struct {
	local, remote netip.AddrPort
	congestion    string // control in force; "" if it is not known
}

// pathOf returns the path of a connection, the zero path if it is not one of TCP.
func pathOf(conn net.Conn) localPath {
	local, ok := conn.LocalAddr().(*net.TCPAddr)
	remote, ok2 := conn.RemoteAddr().(*net.TCPAddr)
	if !ok || !ok2 {
		return localPath{}
	}
	return localPath{
		unmapped(local.AddrPort()), unmapped(remote.AddrPort()), congestion.Of(conn),
	}
}

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// check returns an error if the path is gone for good: the machine has no longer the local address,
// or from there no route to the remote one. A path to the machine itself always is there; what
// relays from its end, such as a proxy, may have lost its own.
func (p localPath) check() error {
	if !p.remote.IsValid() || p.remote.Addr().IsLoopback() {
		return nil
	}
	conn, err := connectUDP(netip.AddrPortFrom(p.local.Addr(), 0), p.remote)
	if err == nil {
		conn.Close()
		return nil
	}
	errno, ok := errors.AsType[syscall.Errno](err)
	if !ok || !slices.Contains(pathGone[:], errno) {
		return nil // out of descriptors, say
	}
	return fmt.Errorf("the path from %v is gone: %w", p.local.Addr(), errno)
}

// sourceFor returns the address from which the system would connect to a remote, the zero address
// if it has no route or the remote is not known.
func sourceFor(remote netip.AddrPort) netip.Addr {
	if !remote.IsValid() {
		return netip.Addr{}
	}
	conn, err := connectUDP(netip.AddrPort{}, remote)
	if err != nil {
		return netip.Addr{}
	}
	defer conn.Close()
	return unmapped(conn.LocalAddr().(*net.UDPAddr).AddrPort()).Addr()
}

// connectUDP connects a socket for datagrams, which looks up the route and sends nothing.
func connectUDP(local, remote netip.AddrPort) (*net.UDPConn, error) {
	var from *net.UDPAddr
	if local.IsValid() {
		from = net.UDPAddrFromAddrPort(local)
	}
	return net.DialUDP("udp", from, net.UDPAddrFromAddrPort(remote))
}
