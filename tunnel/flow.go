package tunnel

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"culvert/tunnel/mux"
)

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

// relayDatagrams carries datagrams between a stream and a socket that is connected to its target until the stream ends, was
// idle for too long, or ctx is done.
func relayDatagrams(ctx context.Context, stream *mux.Stream, conn *net.UDPConn) error {
	outward := func(p []byte) {
		conn.Write(p) // an error is about the target, as it was a moment ago
	}
	inward := func(p []byte) ([]byte, bool, error) {
		n, err := conn.Read(p)
		return p[:n], true, err
	}
	return newFlow(stream).join(ctx, conn, outward, inward)
}

// join hands the flow's datagrams to outward, and sends what inward reads into a buffer and approves of, until the flow
// ends, inward fails or ctx is done. Then the stream and conn are closed.
func (f *flow) join(ctx context.Context, conn *net.UDPConn, outward func(p []byte), inward func(p []byte) ([]byte, bool, error)) error {
	closeBoth := func() {
		f.stream.Close()
		conn.Close()
	}
	stop := context.AfterFunc(ctx, closeBoth)
	defer stop()
	var reading sync.WaitGroup
	defer reading.Wait()
	defer closeBoth()
	reading.Go(func() {
		defer closeBoth()
		buf := make([]byte, sourceSize+mux.MaxDatagram)
		for {
			p, ok, err := inward(buf)
			switch {
			case err == nil && ok:
				f.send(p)
			case err != nil && !isDatagramError(err):
				return
			}
		}
	})
	return f.receive(outward)
}
