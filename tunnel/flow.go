package tunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"culvert/internal/netfault"
	"culvert/tunnel/mux"
)

// packetConn is the part of *net.UDPConn that forwards use.
type packetConn interface {
	ReadFromUDPAddrPort(p []byte) (n int, from netip.AddrPort, err error)
	WriteToUDPAddrPort(p []byte, to netip.AddrPort) (int, error)
	Close() error
}

// flow is a flow of the session that ends after udpIdle without traffic in either direction.
type flow struct {
	datagrams *mux.Flow
	meter     *clientMeter // nil at a local; set before its use
	began     time.Time
	last      atomic.Int64 // time of the last datagram, in nanoseconds after began
}

func newFlow(datagrams *mux.Flow) *flow {
	f := &flow{datagrams: datagrams, began: time.Now()}
	datagrams.SetReadDeadline(f.expires())
	return f
}

func (f *flow) expires() time.Time { return f.began.Add(time.Duration(f.last.Load()) + udpIdle) }

func (f *flow) touch() { f.last.Store(int64(time.Since(f.began))) }

// send sends a datagram, or drops it.
func (f *flow) send(p []byte) {
	f.touch()
	if !f.meter.admits(mux.ToPeer, len(p)) {
		return
	}
	if queued, _ := f.datagrams.Send(p); queued { // what is dropped is not carried
		f.meter.Reserve(mux.ToPeer, len(p))
	}
}

// receive calls handle with each datagram until the flow ends. handle must not retain it. The
// error is os.ErrDeadlineExceeded when the flow was idle for too long. Only one goroutine may call
// receive.
func (f *flow) receive(handle func(p []byte)) error {
	for {
		err := f.datagrams.Await()
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
		f.datagrams.SetReadDeadline(expires)
	}
}

// buffers holds buffers of mux.MaxDatagram bytes, so that an idle flow holds none.
var buffers = sync.Pool{New: func() any { return new([mux.MaxDatagram]byte) }}

func (f *flow) receiveOne(handle func(p []byte)) error {
	buf := buffers.Get().(*[mux.MaxDatagram]byte)
	defer buffers.Put(buf)
	n, err := f.datagrams.Receive(buf[:])
	if err == nil && f.meter.passes(mux.FromPeer, n) {
		handle(buf[:n])
	}
	return err
}

// relayDatagrams carries datagrams between a flow and a connected socket until the flow ends, is
// idle for too long, or ctx is done.
func relayDatagrams(ctx context.Context, datagrams *flow, conn net.Conn) error {
	outward := func(p []byte) {
		conn.Write(p) // an error may be about an earlier datagram
	}
	inward := func(p []byte) ([]byte, bool, error) {
		n, err := conn.Read(p)
		return p[:n], true, err
	}
	return datagrams.join(ctx, conn, outward, inward)
}

// join calls outward with the datagrams of the flow and sends those that inward reads into a
// buffer, unless its second result is false. When the flow ends, inward fails or ctx is done, join
// closes the flow and conn and returns.
func (f *flow) join(
	ctx context.Context, conn io.Closer,
	outward func(p []byte), inward func(p []byte) ([]byte, bool, error),
) error {
	closeBoth := func() {
		f.datagrams.Close()
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
			case err != nil && !netfault.Temporary(err):
				return
			}
		}
	})
	return f.receive(outward)
}
