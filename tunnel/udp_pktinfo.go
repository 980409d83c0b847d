//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package tunnel

import (
	"encoding/binary"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// localAddr is an address of this host that a client sends to, or the zero value where it isn't
// known. Values are compared.
type localAddr struct {
	addr  netip.Addr // never IPv4-mapped
	index uint32     // of the interface of a link-local IPv6 address, else 0
}

// sizeIPv6 is the length of in6_pktinfo (RFC 3542, section 6): address 16, index 4.
const sizeIPv6 = 16 + 4

// receiveDestinations enables control messages with the destinations of datagrams, and reports
// whether there will be any. A socket of IPv6 may receive datagrams of IPv4 too. For these there is
// a message with an IPv4-mapped address, and on Linux also that of an IPv4 socket.
func receiveDestinations(conn syscall.Conn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	var err4, err6 error
	err = raw.Control(func(fd uintptr) {
		err4 = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, infoIPv4, 1)
		err6 = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	})
	return err == nil && (err4 == nil || err6 == nil)
}

// destination returns the destination that the control messages of a datagram report.
func destination(control []byte) (local localAddr) {
	for len(control) >= unix.CmsgLen(0) {
		header, info, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			break
		}
		control = rest
		switch {
		case header.Level == unix.IPPROTO_IP && header.Type == infoIPv4 && len(info) >= sizeIPv4:
			return destinationIPv4(info)
		case header.Level == unix.IPPROTO_IPV6 && header.Type == unix.IPV6_PKTINFO &&
			len(info) >= sizeIPv6:
			addr := netip.AddrFrom16([16]byte(info)).Unmap()
			local = newLocalAddr(addr, binary.NativeEndian.Uint32(info[16:]))
		}
	}
	return local
}

// destinationIPv4 prefers the address for answers. It is the interface's if the datagram was a
// broadcast, and is missing if the datagram came before these messages were enabled.
func destinationIPv4(info []byte) localAddr {
	addr := netip.AddrFrom4([4]byte(info[answerIPv4:]))
	if addr.IsUnspecified() {
		addr = netip.AddrFrom4([4]byte(info[sentIPv4:]))
	}
	return newLocalAddr(addr, 0)
}

// newLocalAddr returns the zero value for an address that can't be a source. It omits the interface
// unless the address needs it, so that answers may take another one.
func newLocalAddr(addr netip.Addr, index uint32) localAddr {
	switch {
	case addr.IsUnspecified(), addr.IsMulticast():
		return localAddr{}
	case addr.Is6() && addr.IsLinkLocalUnicast():
		return localAddr{addr, index}
	}
	return localAddr{addr: addr}
}

// control returns the control message that makes the address the source of a datagram, nil for the
// zero value.
func (l localAddr) control() []byte {
	switch {
	case !l.addr.IsValid():
		return nil
	case l.addr.Is4():
		var info [sizeIPv4]byte
		copy(info[answerIPv4:], l.addr.AsSlice())
		return controlMessage(unix.IPPROTO_IP, infoIPv4, info[:])
	}
	info := binary.NativeEndian.AppendUint32(l.addr.AsSlice(), l.index)
	return controlMessage(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, info)
}

func controlMessage(level, kind int32, data []byte) []byte {
	message := make([]byte, unix.CmsgSpace(len(data)))
	header := (*unix.Cmsghdr)(unsafe.Pointer(&message[0]))
	header.Level, header.Type = level, kind
	header.SetLen(unix.CmsgLen(len(data)))
	copy(message[unix.CmsgLen(0):], data)
	return message
}
