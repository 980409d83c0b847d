package policy

import (
	"context"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"culvert/internal/netfault"
)

// udpConn is a UDP socket that is connected to one of several addresses of a target. Connecting
// sends nothing: only when datagrams are refused is it known that nobody listens at an address, as
// often at ::1 for localhost. Until the target has answered, the socket then goes on with the next
// address, which gets the last datagrams again. No address gets one twice.
//
// Read, Write and Close may be called concurrently. There are no deadlines.
type udpConn struct {
	dial dialUDP

	mu     sync.Mutex // guards all below
	conn   net.Conn
	closed bool
	addrs  []netip.AddrPort // nil once the target has answered
	at     int              // which of addrs conn is connected to
	left   int              // how many of addrs are left to try for the last datagrams
	last   [][]byte         // without large ones, at most maxUnanswered
}

// dialUDP connects a socket to an address.
type dialUDP func(ctx context.Context, addr netip.AddrPort) (net.Conn, error)

// connectUDP connects a socket to a target at the first of its addresses to which the system has a
// route. The others are for when that refuses what is sent. The error is the first one.
func connectUDP(ctx context.Context, addrs []netip.AddrPort, dial dialUDP) (net.Conn, error) {
	var firstErr error
	for i, addr := range addrs {
		conn, err := dial(ctx, addr)
		switch {
		case err == nil && len(addrs) == 1:
			return conn, nil
		case err == nil:
			return &udpConn{dial: dial, conn: conn, addrs: addrs, at: i}, nil
		case firstErr == nil:
			firstErr = err
		}
	}
	return nil, firstErr
}

// connectUDPName is connectUDP for a host:port without rules.
func connectUDPName(
	ctx context.Context, dialer net.Dialer, network, address string,
) (net.Conn, error) {
	addrs, err := lookUpTarget(ctx, network, address)
	switch {
	case err != nil:
		return nil, err
	case addrs == nil:
		return dialer.DialContext(ctx, network, address)
	}
	return connectUDP(ctx, addrs, udpDialer(dialer, network))
}

// lookUpTarget returns the addresses of a host:port without rules, by the system's resolver and in
// the places that ctx has for lookups. They are nil where there is no name to look up.
func lookUpTarget(ctx context.Context, network, address string) ([]netip.AddrPort, error) {
	host, port, err := splitTarget(address)
	if _, notAddress := netip.ParseAddr(host); err != nil || notAddress == nil {
		return nil, nil
	}
	var unruled *Rules
	hosts, err := unruled.lookUp(ctx, "ip"+network[len("udp"):], host) // or tcp
	if err != nil {
		return nil, err
	}
	var addrs []netip.AddrPort
	for _, addr := range hosts[:min(len(hosts), maxTargetAddresses)] {
		addrs = append(addrs, netip.AddrPortFrom(addr.Unmap(), port))
	}
	return addrs, nil
}

func udpDialer(dialer net.Dialer, network string) dialUDP {
	return func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
		return dialer.DialContext(ctx, network, addr.String())
	}
}

func (c *udpConn) Read(p []byte) (int, error) {
	for {
		conn := c.current()
		n, err := conn.Read(p)
		if err == nil {
			c.settle()
		}
		if err == nil || !c.moveOn(conn, err) {
			return n, err
		}
	}
}

func (c *udpConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	conn := c.conn
	c.keepLocked(p)
	c.mu.Unlock()
	n, err := conn.Write(p)
	if err != nil && c.moveOn(conn, err) { // which has sent p, unless it is large
		return len(p), nil
	}
	return n, err
}

func (c *udpConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return c.conn.Close()
}

func (c *udpConn) LocalAddr() net.Addr  { return c.current().LocalAddr() }
func (c *udpConn) RemoteAddr() net.Addr { return c.current().RemoteAddr() }

func (c *udpConn) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (c *udpConn) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (c *udpConn) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

func (c *udpConn) current() net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn
}

// settle notes that the target has answered.
func (c *udpConn) settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addrs, c.left, c.last = nil, 0, nil
}

// keepLocked keeps a datagram for the next address. When none is left to try for those before, all
// are tried for this one.
func (c *udpConn) keepLocked(p []byte) {
	if c.addrs == nil {
		return
	}
	if c.left == 0 {
		c.left, c.last = len(c.addrs)-1, nil
	}
	if len(p) > maxUnansweredSize {
		return
	}
	var oldest []byte
	if len(c.last) == maxUnanswered {
		oldest = c.last[0]
		c.last = slices.Delete(c.last, 0, 1)
	}
	c.last = append(c.last, append(oldest[:0], p...))
}

// moveOn connects to the next address when err, of the socket from, is a refusal. It reports
// whether there is another socket now, to which the last datagrams were sent.
func (c *udpConn) moveOn(from net.Conn, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != from || c.closed {
		return c.conn != from
	}
	i := c.at
	for refused := refusesDatagrams(err); refused && c.left > 0; {
		c.left--
		i = (i + 1) % len(c.addrs)
		next, err := c.dial(context.Background(), c.addrs[i])
		if err != nil {
			continue
		}
		c.conn.Close()
		c.conn, c.at = next, i
		refused = c.sendLastLocked()
	}
	return c.conn != from
}

// sendLastLocked sends the last datagrams, and reports whether one was refused meanwhile: the next
// write may return that in place of a read.
func (c *udpConn) sendLastLocked() (refused bool) {
	for _, p := range c.last {
		if _, err := c.conn.Write(p); refusesDatagrams(err) {
			return true
		}
	}
	return false
}

// refusesDatagrams reports whether err is a connected socket's for a datagram that can't arrive:
// nobody listens there, which Windows calls a reset, or a router or a firewall refuses it, which is
// EACCES with IPv6.
func refusesDatagrams(err error) bool {
	return slices.ContainsFunc([]syscall.Errno{
		syscall.ECONNREFUSED, syscall.ECONNRESET,
		syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EACCES,
	}, func(errno syscall.Errno) bool { return netfault.Is(err, errno) })
}
