package mux

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"culvert/tunnel/mux/pace"
)

// tcpPipe is a pipeCarrier whose transport can be observed and limited, as TCP can.
type tcpPipe struct {
	*pipeCarrier
	observed atomic.Int64 // how often it was asked for what it knows of the path
	unsent   atomic.Int64 // the limit last set, bytes
	resent   atomic.Uint64
	behind   atomic.Uint64 // a gap, bytes
	lastRead func() time.Time
}

func (p *tcpPipe) TransportGap() uint64 { return p.behind.Load() }

func (p *tcpPipe) TransportPath() (
	rtt, minRTT time.Duration, retransmitted, window uint64, ok bool,
) {
	p.observed.Add(1)
	return 40 * time.Millisecond, 40 * time.Millisecond, p.resent.Load(), 0, true
}

func (p *tcpPipe) LimitUnsent(bytes int) { p.unsent.Store(int64(bytes)) }

func (p *tcpPipe) LastRead() time.Time { return p.lastRead() }

// newTCPClient starts a server session over a tcpPipe, whose client is the test. Its inflight data
// is bounded, other than newRawClient's.
func newTCPClient(t *testing.T) (*Session, *rawPeer, *tcpPipe) {
	t.Helper()
	near, far := newPipe()
	mine := rawHello
	mine.role = roleClient
	near.WriteRecords(appendHello(nil, mine))
	carrier := &tcpPipe{pipeCarrier: far, lastRead: func() time.Time { return time.Time{} }}
	s, err := NewServer(context.Background(), carrier, Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		near.Close()
		s.Wait()
	})
	p := &rawPeer{t: t, carrier: near}
	p.until(kindHello)
	return s, p, carrier
}

// TestCarrierIsObserved: the session asks a carrier's transport about the path, at first and with
// each round, and limits what its socket holds unsent by what it has measured.
func TestCarrierIsObserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p, carrier := newTCPClient(t)
		st := p.accept(s, 1)
		if n := carrier.observed.Load(); n != 1 {
			t.Errorf("the transport was asked %d times before anything was measured", n)
		}
		if unsent := carrier.unsent.Load(); unsent != 2*maxData {
			t.Errorf("%d bytes may be unsent at first, want %d", unsent, 2*maxData)
		}
		const size, rtt = 100 << 10, 40 * time.Millisecond
		go st.Write(make([]byte, size))
		frames := p.quiet()
		time.Sleep(rtt)
		sent := uint64(headerSize) // of the frame that confirmed the stream
		for _, f := range ofKind(frames, kindData) {
			sent += uint64(f.size())
		}
		if sent < size {
			t.Fatalf("%d bytes sent without an acknowledgement", sent)
		}
		p.send(wire(kindAck, 0, u64(sent)))
		p.quiet()
		go st.Write([]byte("more"))
		p.until(kindData)
		if n := carrier.observed.Load(); n != 2 {
			t.Errorf("the transport was asked %d times after a round", n)
		}
		// Startup doubles the rate, and the socket holds 4 ms of it.
		want := float64(size) / rtt.Seconds() * 2 * 0.004
		if got := float64(carrier.unsent.Load()); got < 0.9*want || got > 1.1*want {
			t.Errorf("%.0f bytes may be unsent after a round, want about %.0f", got, want)
		}
	})
}

// TestGap: once the transport has retransmitted, what the peer holds back behind a gap is not on
// the path: while no acknowledgement comes, as much more is sent.
func TestGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p, carrier := newTCPClient(t)
		st := p.accept(s, 1)
		p.send(wire(kindCredit, 1, u64(64<<20)))
		go st.Write(make([]byte, 32<<20))
		defer s.Close()
		position := uint64(headerSize) // of the frame that confirmed the stream
		sent := func() (n uint64) {
			for _, f := range ofKind(p.quiet(), kindData) {
				n += uint64(f.size())
			}
			position += n
			return n
		}
		sent()
		carrier.resent.Store(1)
		time.Sleep(40 * time.Millisecond)
		p.send(wire(kindAck, 0, u64(position)))
		if n := sent(); n < 128<<10 {
			t.Fatalf("%d bytes sent after a round", n)
		}
		time.Sleep(time.Second)
		if n := sent(); n != 0 {
			t.Errorf("%d bytes more sent without an acknowledgement or a gap", n)
		}
		const gap = 1 << 20
		carrier.behind.Store(gap)
		time.Sleep(2 * pace.GapInterval)
		// Frames are sent whole: the bound may be exceeded by a part of one, before and after.
		if n := sent(); n < gap-maxData || n > gap+maxData {
			t.Errorf("%d bytes more sent with %d behind a gap", n, gap)
		}
		time.Sleep(time.Second)
		if n := sent(); n != 0 {
			t.Errorf("%d bytes more sent with the same gap", n)
		}
	})
}

// TestAnyByteIsLife: a carrier whose bytes trickle in, too few for a record, is not given up; it is
// once they stop.
func TestAnyByteIsLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p, carrier := newTCPClient(t)
		st := p.accept(s, 1)
		stopped := time.Now().Add(time.Minute)
		carrier.lastRead = func() time.Time {
			if now := time.Now(); now.Before(stopped) {
				return now
			}
			return stopped
		}
		st.Write([]byte("to be acknowledged"))
		err := s.Wait()
		took := time.Since(stopped)
		if !errors.Is(err, ErrPeerSilent) || took < 0 || took > DefaultPatience {
			t.Errorf("%v after the last byte the session ended with %v", took, err)
		}
	})
}

// TestAwaitCarrier: while a session is without a carrier, the error of the last one is known, and
// whoever waits for the next one gets it.
func TestAwaitCarrier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, HostConfig{}, Config{})
		if err := r.client.LossCause(); err != nil {
			t.Errorf("before any loss: %v", err)
		}
		if err := r.client.AwaitCarrier(context.Background()); err != nil {
			t.Errorf("with a carrier: %v", err)
		}
		r.cut()
		if err := r.client.LossCause(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("the carrier was lost with %v", err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := r.client.AwaitCarrier(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("without a carrier: %v", err)
		}
		arrived := make(chan error, 1)
		go func() { arrived <- r.client.AwaitCarrier(context.Background()) }()
		synctest.Wait()
		r.resume()
		if err := <-arrived; err != nil {
			t.Errorf("when the next carrier came: %v", err)
		}
	})
}

// awaitingPipe is a pipeCarrier that waits for a record before it needs a buffer.
type awaitingPipe struct {
	*pipeCarrier
	arrived []byte // nil for nothing
	idle    atomic.Int64
	buffers atomic.Int64 // of records that came after a wait, with room for any record
}

func (p *awaitingPipe) AwaitRecord(idle func()) {
	if p.arrived != nil || len(p.in) > 0 {
		return
	}
	idle()
	p.idle.Add(1)
	p.arrived, _ = p.pipeCarrier.ReadRecord(nil)
}

func (p *awaitingPipe) ReadRecord(buf []byte) ([]byte, error) {
	if p.arrived == nil {
		return p.pipeCarrier.ReadRecord(buf)
	}
	record := append(buf[:0], p.arrived...)
	p.arrived = nil
	if cap(buf) >= maxRecord {
		p.buffers.Add(1)
	}
	return record, nil
}

// TestNoBufferWhileIdle: the reader gives its buffer back before it waits, and has another for what
// comes then.
func TestNoBufferWhileIdle(t *testing.T) {
	near, far := newPipe()
	carrier := &awaitingPipe{pipeCarrier: far}
	client, server := startPair(t, near, Config{}, func() (*Session, error) {
		return NewServer(context.Background(), carrier, Config{})
	})
	st, accepted := openPair(t, client, server)
	sent := make([]byte, 1<<20)
	for i := range sent {
		sent[i] = byte(i >> 7)
	}
	var writing sync.WaitGroup
	writing.Go(func() {
		for rest := sent; len(rest) > 0; {
			n := min(len(rest), 50_000)
			if _, err := st.Write(rest[:n]); err != nil {
				t.Error(err)
				return
			}
			rest = rest[n:]
		}
	})
	received := make([]byte, len(sent))
	_, err := io.ReadFull(accepted, received)
	writing.Wait()
	if err != nil || !bytes.Equal(received, sent) {
		t.Fatalf("the data isn't what was sent; %v", err)
	}
	client.Close()
	<-server.done
	server.Wait()
	if carrier.idle.Load() == 0 || carrier.buffers.Load() == 0 {
		t.Errorf("%d waits without a buffer, %d buffers after one", carrier.idle.Load(),
			carrier.buffers.Load())
	}
}
