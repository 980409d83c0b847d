package tunnel

import (
	"net"
	"net/netip"
	"syscall"
)

// udpPath is the addresses of a client's datagrams. The same source may send to several addresses
// of this host, and expects answers from each.
type udpPath struct {
	client netip.AddrPort
	local  localAddr // the zero value if the socket has one address, or it is not known
}

// messageConn is the part of *net.UDPConn that is for control messages (cmsg(3)).
type messageConn interface {
	syscall.Conn
	LocalAddr() net.Addr
	ReadMsgUDPAddrPort(p, oob []byte) (n, oobn, flags int, from netip.AddrPort, err error)
	WriteMsgUDPAddrPort(p, oob []byte, to netip.AddrPort) (n, oobn int, err error)
}

// controlRoom in bytes has room for what is asked for, and for more on a socket that was inherited.
const controlRoom = 256

// udpSocket is a socket whose answers come from the address that the client sent to. For a socket
// that is bound to all addresses the system would choose the source by its routes. A client that is
// connected or behind a NAT drops answers from any other address.
type udpSocket struct {
	packetConn
	messages messageConn // nil if all datagrams have the same destination, or it can't be known
	control  []byte      // read's buffer for control messages
}

func newUDPSocket(conn packetConn) *udpSocket {
	s := &udpSocket{packetConn: conn}
	messages, ok := conn.(messageConn)
	if !ok {
		return s
	}
	bound, ok := messages.LocalAddr().(*net.UDPAddr)
	if ok && bound.IP.IsUnspecified() && receiveDestinations(messages) {
		s.messages, s.control = messages, make([]byte, controlRoom)
	}
	return s
}

// read reads a datagram. Only one goroutine may call it.
func (s *udpSocket) read(p []byte) (n int, path udpPath, err error) {
	if s.messages == nil {
		n, path.client, err = s.ReadFromUDPAddrPort(p)
		return n, path, err
	}
	n, size, _, client, err := s.messages.ReadMsgUDPAddrPort(p, s.control)
	if err != nil {
		return 0, udpPath{}, err
	}
	return n, udpPath{client, destination(s.control[:size])}, nil
}

// answer sends a datagram to a client. control is what localAddr.control returns for the source.
func (s *udpSocket) answer(p []byte, client netip.AddrPort, control []byte) error {
	if control != nil {
		_, _, err := s.messages.WriteMsgUDPAddrPort(p, control, client)
		if err == nil {
			return nil
		}
		// It may be a broadcast address, or one that this host has lost. The system chooses another.
	}
	_, err := s.WriteToUDPAddrPort(p, client)
	return err
}
