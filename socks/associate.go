package socks

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"culvert/internal/bounds"
	"culvert/internal/netfault"
)

// Association carries datagrams between one client of UDP ASSOCIATE and any hosts. Its methods are
// called concurrently.
type Association interface {
	// Send sends a datagram to a host, which is an address or an unresolved name as in a Dialer's
	// address. It never blocks: if there is no room, it drops the datagram. It does not retain p.
	// An error concerns this datagram only.
	Send(host string, port uint16, p []byte) error

	// Receive waits for the next datagram and copies it to p, which has room for
	// the largest. An error ends the association.
	Receive(p []byte) (n int, from netip.AddrPort, err error)

	// Close ends the association and unblocks Receive.
	Close() error
}

// udpRequest is a client's request for an association.
type udpRequest struct {
	port uint16 // from which the client says it will send; 0 if it does not know
}

// packetConn is the part of *net.UDPConn that an association uses.
type packetConn interface {
	ReadFromUDPAddrPort(p []byte) (n int, from netip.AddrPort, err error)
	WriteToUDPAddrPort(p []byte, to netip.AddrPort) (int, error)
	SetReadDeadline(t time.Time) error
	LocalAddr() net.Addr
	Close() error
}

// listenUDP opens a socket at addr with a free port.
func listenUDP(addr netip.Addr) (packetConn, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
	if err != nil {
		return nil, err // not a typed nil
	}
	return conn, nil
}

var (
	errNotTCP              = errors.New("UDP ASSOCIATE from a client without an IP address")
	errPortUnnamed         = errors.New("UDP ASSOCIATE with a password must name the client's port")
	errTooManyAssociations = &bounds.Error{
		Bound: bounds.Associations, Err: errors.New("too many associations"),
	}
	errAssociationIdle = &bounds.Error{
		Bound: bounds.AssociationIdle, Err: errors.New("association idle for too long"),
	}
)

// associate serves an association until it ends. Its error is a *refusal while the
// client waits for the reply.
func (s *Server) associate(ctx context.Context, c *clientConn) error {
	local, localErr := addrOf(c.LocalAddr())
	client, clientErr := addrOf(c.RemoteAddr())
	if localErr != nil || clientErr != nil {
		return s.socks5.refuse(ReplyCommandNotSupported, errNotTCP)
	}
	if s.asked != nil && c.udp.port == 0 {
		return s.socks5.refuse(ReplyNotAllowed, errPortUnnamed)
	}
	if !s.beginAssociation() {
		return s.socks5.refuse(ReplyGeneralFailure, errTooManyAssociations)
	}
	defer s.endAssociation()
	var far Association
	err := s.watched(ctx, c, func(ctx context.Context) error {
		opened, err := s.cfg.Associate(ctx)
		if err != nil {
			return &dialError{s.cfg.Classify(err).failure(), err}
		}
		far = opened
		return nil
	})
	if far != nil {
		defer far.Close()
	}
	if failed, ok := errors.AsType[*dialError](err); ok {
		return s.socks5.refuse(failed.reply, failed.err)
	} else if err != nil {
		return err
	}
	conn, err := s.listenUDP(local)
	if err != nil {
		return s.socks5.refuse(ReplyGeneralFailure, err)
	}
	defer conn.Close()
	c.SetWriteDeadline(time.Now().Add(s.cfg.NegotiationTimeout))
	if _, err := c.Write(associatedReply(conn.LocalAddr().(*net.UDPAddr).AddrPort())); err != nil {
		return err
	}
	c.SetWriteDeadline(time.Time{})
	a := &association{
		far: far, near: conn, client: client, drops: s.drops,
		idle: s.cfg.UDPIdleTimeout, began: time.Now(),
	}
	if s.asked != nil {
		a.named = c.udp.port
	}
	if !c.stopReset() {
		return errDraining
	}
	return a.run(ctx, c)
}

// addrOf returns the IP address of a TCP connection's end.
func addrOf(a net.Addr) (netip.Addr, error) {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}, errNotTCP
	}
	return tcp.AddrPort().Addr().Unmap(), nil
}

// associatedReply is the reply with the address for a client's datagrams.
func associatedReply(bound netip.AddrPort) []byte {
	return appendSource([]byte{socks5Version, byte(ReplySucceeded), 0}, bound)
}

// appendSource appends an address in the form of RFC 1928 section 5.
func appendSource(b []byte, source netip.AddrPort) []byte {
	kind := byte(addressIPv6)
	if source.Addr().Unmap().Is4() {
		kind = addressIPv4
	}
	b = append(append(b, kind), source.Addr().Unmap().AsSlice()...)
	return binary.BigEndian.AppendUint16(b, source.Port())
}

// parseDatagram splits a client's datagram (RFC 1928 section 7) into its target
// and its payload, which aliases it:
//
//	reserved 2 · fragment 1 · address type 1 · address 4, 16 or 1–256 · port 2 · payload
//
// The reason is that for dropping the datagram, or empty. Fragments are dropped, as the RFC allows.
func parseDatagram(p []byte) (host string, port uint16, payload []byte, reason dropReason) {
	if len(p) < 5 {
		return "", 0, nil, dropMalformed
	}
	if p[2] != 0 {
		return "", 0, nil, dropFragment
	}
	start, size := 4, 0
	switch p[3] {
	case addressIPv4:
		size = 4
	case addressIPv6:
		size = 16
	case addressName:
		start, size = 5, int(p[4])
	}
	end := start + size
	if size == 0 || len(p) < end+2 {
		return "", 0, nil, dropMalformed
	}
	if p[3] == addressName {
		host = string(p[start:end])
	} else {
		addr, _ := netip.AddrFromSlice(p[start:end])
		host = addr.Unmap().String()
	}
	port = binary.BigEndian.Uint16(p[end:])
	if checkTarget(host, int(port)) != nil {
		return "", 0, nil, dropMalformed
	}
	return host, port, p[end+2:], ""
}

// association is a running association, between the client's datagrams and far.
//
// RFC 1928 section 7 tells a client's datagrams by their address alone: clients send from another
// port than they named, from several, or from one opened later. So any port of the client's address
// may send, and the last that did gets the answers. A password would be worth nothing then, since
// every program on the client's machine could use what it opened: after authentication, only the
// port that the client named in its request may send.
type association struct {
	far    Association
	near   packetConn
	client netip.Addr // datagrams from elsewhere are dropped
	named  uint16     // the only port that may send; 0 for any
	drops  drops
	port   atomic.Uint32 // the client's, as its last datagram had it; 0 before the first
	idle   time.Duration

	began time.Time
	last  atomic.Int64 // time of the last datagram, in nanoseconds after began
}

// run carries datagrams until the client closes its connection, the association is idle for too
// long, either side fails, or ctx ends. It then closes everything. It returns nil only after the
// client's close.
func (a *association) run(ctx context.Context, c *clientConn) error {
	var cause error
	var once sync.Once
	end := func(err error) {
		once.Do(func() { cause = err })
		c.Close()
		a.near.Close()
		a.far.Close()
	}
	stop := context.AfterFunc(ctx, func() { end(errDraining) })
	defer stop()
	conn := c.release()
	var running sync.WaitGroup
	running.Go(func() { end(awaitClose(conn)) })
	running.Go(func() { end(a.inward()) })
	end(a.outward())
	running.Wait()
	return cause
}

// awaitClose waits until a client closes its half, and discards what it sends.
func awaitClose(conn net.Conn) error {
	var b [64]byte
	for {
		if _, err := conn.Read(b[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func (a *association) touch() { a.last.Store(int64(time.Since(a.began))) }

func (a *association) expires() time.Time {
	return a.began.Add(time.Duration(a.last.Load()) + a.idle)
}

// outward sends on the client's datagrams.
func (a *association) outward() error {
	buf := make([]byte, maxDatagram)
	a.near.SetReadDeadline(a.expires())
	for {
		n, from, err := a.near.ReadFromUDPAddrPort(buf)
		switch {
		case err == nil:
			a.pass(buf[:n], from)
		case errors.Is(err, os.ErrDeadlineExceeded):
			if !time.Now().Before(a.expires()) {
				return errAssociationIdle
			}
			a.near.SetReadDeadline(a.expires())
		case !netfault.Temporary(err):
			return err
		}
	}
}

// pass sends on a datagram if it is the client's.
func (a *association) pass(p []byte, from netip.AddrPort) {
	host, targetPort, payload, reason := parseDatagram(p)
	switch {
	case from.Addr().Unmap() != a.client:
		reason = dropAddress
	case a.named != 0 && a.named != from.Port():
		reason = dropPort
	}
	if reason != "" {
		a.drops.note(reason, a.client, from, nil)
		return
	}
	a.port.Store(uint32(from.Port()))
	a.touch()
	if err := a.far.Send(host, targetPort, payload); err != nil {
		a.drops.note(dropSend, a.client, from, err)
	}
}

// inward returns datagrams to the client.
func (a *association) inward() error {
	const room = 4 + 16 + 2 // before the payload
	buf := make([]byte, room+maxDatagram)
	for {
		n, from, err := a.far.Receive(buf[room:])
		if err != nil {
			return err
		}
		port := a.port.Load()
		if port == 0 {
			a.drops.note(dropUnasked, a.client, from, nil)
			continue
		}
		a.touch()
		start := room - 4 - from.Addr().Unmap().BitLen()/8 - 2
		appendSource(append(buf[start:start], 0, 0, 0), from)
		to := netip.AddrPortFrom(a.client, uint16(port))
		if _, err := a.near.WriteToUDPAddrPort(buf[start:room+n], to); err != nil {
			a.drops.note(dropDeliver, a.client, from, err)
		}
	}
}

// beginAssociation counts an association. It reports whether MaxAssociations permits it.
func (s *Server) beginAssociation() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.associations >= s.cfg.MaxAssociations {
		return false
	}
	s.associations++
	return true
}

func (s *Server) endAssociation() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.associations--
}
