package tunnel

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"culvert/tunnel/mux"
	"culvert/tunnel/policy"
)

// A stream of datagrams is for one target, which its open frame names, or for any: then its target is empty, and each
// datagram begins with an address as RFC 1928, section 5, writes it, followed by the payload. On the way out it is the
// target's, on the way back the source's, which is never a name:
//
//	type 1 · IPv4 address 4, length 1 and name 1–255, or IPv6 address 16 · port 2, big-endian
const (
	addressIPv4 = 1
	addressName = 3
	addressIPv6 = 4

	sourceSize = 1 + 16 + 2 // of the longest address of a source
)

// endpoint is the address of a datagram: a name or, when that is empty, an address.
type endpoint struct {
	name string
	addr netip.Addr // never IPv4-mapped
	port uint16
}

// newEndpoint reads a host, which is a name or an address.
func newEndpoint(host string, port uint16) (endpoint, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return endpoint{addr: addr.Unmap().WithZone(""), port: port}, nil
	}
	if host == "" || len(host) > 255 {
		return endpoint{}, policy.ErrBadTarget
	}
	return endpoint{name: host, port: port}, nil
}

// size is the number of the endpoint's bytes.
func (e endpoint) size() int {
	switch {
	case e.name != "":
		return 1 + 1 + len(e.name) + 2
	case e.addr.Is4():
		return 1 + 4 + 2
	}
	return 1 + 16 + 2
}

// append appends the endpoint's bytes.
func (e endpoint) append(b []byte) []byte {
	switch {
	case e.name != "":
		b = append(append(b, addressName, byte(len(e.name))), e.name...)
	case e.addr.Is4():
		b = append(b, addressIPv4)
		b = append(b, e.addr.AsSlice()...)
	default:
		b = append(b, addressIPv6)
		b = append(b, e.addr.AsSlice()...)
	}
	return binary.BigEndian.AppendUint16(b, e.port)
}

// parseEndpoint splits a datagram into its address and its payload, which aliases it. It is total.
func parseEndpoint(p []byte) (e endpoint, payload []byte, err error) {
	if len(p) < 2 {
		return endpoint{}, nil, policy.ErrBadTarget
	}
	start, size := 1, 0
	switch p[0] {
	case addressIPv4:
		size = 4
	case addressIPv6:
		size = 16
	case addressName:
		start, size = 2, int(p[1])
	}
	end := start + size
	if size == 0 || len(p) < end+2 {
		return endpoint{}, nil, policy.ErrBadTarget
	}
	if p[0] == addressName {
		e.name = string(p[start:end])
	} else {
		addr, _ := netip.AddrFromSlice(p[start:end])
		e.addr = addr.Unmap()
	}
	if e.port = binary.BigEndian.Uint16(p[end:]); e.port == 0 {
		return endpoint{}, nil, policy.ErrBadTarget
	}
	return e, p[end+2:], nil
}

// packetConn is the part of *net.UDPConn that is used.
type packetConn interface {
	ReadFromUDPAddrPort(p []byte) (n int, from netip.AddrPort, err error)
	WriteToUDPAddrPort(p []byte, to netip.AddrPort) (int, error)
	Close() error
}

// isDatagramError tells an error about one datagram, such as the answer to an earlier one that nobody took, from that of a
// socket that is of no more use.
func isDatagramError(err error) bool {
	for _, errno := range []syscall.Errno{
		syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EMSGSIZE,
		syscall.EPERM, syscall.ENOBUFS,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// flow is a stream of datagrams that ends when nothing went through it for a while, in either direction.
type flow struct {
	stream *mux.Stream
	began  time.Time
	last   atomic.Int64 // when something last went through, in nanoseconds after began
}

func newFlow(stream *mux.Stream) *flow {
	f := &flow{stream: stream, began: time.Now()}
	stream.SetReadDeadline(f.expires())
	return f
}

func (f *flow) expires() time.Time { return f.began.Add(time.Duration(f.last.Load()) + udpIdle) }

func (f *flow) touch() { f.last.Store(int64(time.Since(f.began))) }

// send sends a datagram, or drops it.
func (f *flow) send(p []byte) {
	f.touch()
	f.stream.SendDatagram(p)
}

// receive hands each datagram to handle, which may keep no part of it, until the stream ends. It fails with
// os.ErrDeadlineExceeded when the flow was idle for too long. One goroutine calls it.
func (f *flow) receive(handle func(p []byte)) error {
	for {
		err := f.stream.AwaitDatagram()
		if err == nil {
			err = f.receiveOne(handle)
		}
		if err == nil {
			f.touch()
			continue
		}
		expires := f.expires()
		if !errors.Is(err, os.ErrDeadlineExceeded) || !time.Now().Before(expires) {
			return err
		}
		f.stream.SetReadDeadline(expires)
	}
}

// buffers holds buffers of mux.MaxDatagram bytes, so that a flow that is idle has none.
var buffers = sync.Pool{New: func() any { return new([mux.MaxDatagram]byte) }}

func (f *flow) receiveOne(handle func(p []byte)) error {
	buf := buffers.Get().(*[mux.MaxDatagram]byte)
	defer buffers.Put(buf)
	n, err := f.stream.ReceiveDatagram(buf[:])
	if err == nil {
		handle(buf[:n])
	}
	return err
}
