package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// bulk moves data over some connections as fast as possible.
type bulk struct {
	conns    []net.Conn
	received atomic.Int64 // bytes, of downloads
	tally    *tallyReader // of uploads
	began    time.Time    // before the first connection was dialed
	moving   sync.WaitGroup
	stopped  atomic.Bool
	broken   atomic.Int64 // connections that ended before stop
	failure  atomic.Value // a string, why the first of them did
}

// dialFunc opens a connection to the target.
type dialFunc func(ctx context.Context) (net.Conn, error)

// startBulk opens the connections and starts to move data. The caller must stop it.
func startBulk(ctx context.Context, r Request, streams int) (*bulk, error) {
	dials := slices.Repeat([]dialFunc{func(ctx context.Context) (net.Conn, error) {
		return r.dial(ctx, r.Target)
	}}, streams)
	if !r.Up {
		return startDownloads(ctx, dials, []byte{download})
	}
	b := &bulk{}
	id := binary.BigEndian.AppendUint64(nil, rand.Uint64())
	err := b.readTally(ctx, r.Target, id)
	if err == nil {
		err = b.start(ctx, dials, append([]byte{upload}, id...), b.upload)
	}
	if err != nil {
		b.stop()
		return nil, err
	}
	return b, nil
}

// startDownloads is startBulk for downloads, one over each dial, which the target sends when it is
// asked with order.
func startDownloads(ctx context.Context, dials []dialFunc, order []byte) (*bulk, error) {
	b := &bulk{}
	if err := b.start(ctx, dials, order, b.download); err != nil {
		b.stop()
		return nil, err
	}
	return b, nil
}

// readTally begins to read the tallies of uploads.
func (b *bulk) readTally(ctx context.Context, address string, id []byte) (err error) {
	if b.tally, err = readTally(ctx, address, id); err != nil {
		return fmt.Errorf("tally: %w", err)
	}
	return b.tally.await(ctx)
}

// start opens the connections, orders on each what it is for, and starts to move data.
func (b *bulk) start(ctx context.Context, dials []dialFunc, order []byte,
	move func(net.Conn) error) error {
	b.began = time.Now()
	for _, dial := range dials { // all of them, before any of them loads the proxy
		conn, err := dial(ctx)
		if err != nil {
			return fmt.Errorf("bulk: %w", err)
		}
		b.conns = append(b.conns, conn)
	}
	for _, conn := range b.conns {
		if _, err := conn.Write(order); err != nil {
			return fmt.Errorf("bulk: %w", err)
		}
	}
	for _, conn := range b.conns {
		b.moving.Go(func() {
			err := move(conn)
			if !b.stopped.Load() {
				b.broken.Add(1)
				b.failure.CompareAndSwap(nil, err.Error())
			}
		})
	}
	return nil
}

// download returns when the connection ends, or after stop without an error.
func (b *bulk) download(conn net.Conn) error {
	buffer := make([]byte, bulkBuffer)
	for !b.stopped.Load() {
		n, err := conn.Read(buffer)
		b.received.Add(int64(n))
		if err != nil {
			return err
		}
	}
	return nil
}

// upload returns when the connection ends, or after stop without an error.
func (b *bulk) upload(conn net.Conn) error {
	buffer := make([]byte, bulkBuffer)
	for !b.stopped.Load() {
		if _, err := conn.Write(buffer); err != nil {
			return err
		}
	}
	return nil
}

// moved returns how many bytes have arrived.
func (b *bulk) moved() int64 {
	if b.tally != nil {
		return b.tally.count()
	}
	return b.received.Load()
}

// stop ends the connections.
func (b *bulk) stop() {
	b.stopped.Store(true)
	for _, conn := range b.conns {
		conn.SetDeadline(time.Now()) // Close would wait for the reads and writes one by one
	}
	b.moving.Wait()
	for _, conn := range b.conns {
		conn.Close()
	}
	if b.tally != nil {
		b.tally.stop()
	}
}

// measured calls f and returns how many bytes per second arrived while it ran.
func (b *bulk) measured(f func() error) (rate float64, err error) {
	begin, before := time.Now(), b.received.Load()
	if err := f(); err != nil {
		return 0, err
	}
	end, after := time.Now(), b.received.Load()
	if n := b.broken.Load(); n > 0 {
		return 0, fmt.Errorf("%d of %d bulk connections broke: %v", n, len(b.conns), b.failure.Load())
	}
	moved := float64(after - before)
	if b.tally != nil {
		if moved, err = b.tally.between(begin, end); err != nil {
			return 0, err
		}
	}
	return moved / end.Sub(begin).Seconds(), nil
}

// sample is a tally.
type sample struct {
	at    int64 // nanoseconds since 1970
	bytes int64
}

// tallyReader collects the target's tallies.
type tallyReader struct {
	conn net.Conn
	done chan struct{}

	mu      sync.Mutex
	samples []sample
}

// readTally begins to read the tallies of the measurement with an id.
func readTally(ctx context.Context, address string, id []byte) (*tallyReader, error) {
	conn, err := Request{Target: address}.open(ctx, tally)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(id); err != nil {
		conn.Close()
		return nil, err
	}
	t := &tallyReader{conn: conn, done: make(chan struct{})}
	go func() {
		defer close(t.done)
		var message [tallySize]byte
		for {
			if _, err := io.ReadFull(conn, message[:]); err != nil {
				return
			}
			s := sample{int64(binary.BigEndian.Uint64(message[:8])),
				int64(binary.BigEndian.Uint64(message[8:]))}
			t.mu.Lock()
			t.samples = append(t.samples, s)
			t.mu.Unlock()
		}
	}()
	return t, nil
}

func (t *tallyReader) stop() {
	t.conn.Close()
	<-t.done
}

// await waits for the first sample.
func (t *tallyReader) await(ctx context.Context) error {
	deadline := time.Now().Add(tallyPatience)
	for time.Now().Before(deadline) {
		t.mu.Lock()
		samples := t.samples
		t.mu.Unlock()
		if len(samples) > 0 {
			return nil
		}
		if err := wait(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	return errors.New("no tally came from the target")
}

// count returns the number of bytes of the newest sample, 0 while there is none.
func (t *tallyReader) count() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.samples) == 0 {
		return 0
	}
	return t.samples[len(t.samples)-1].bytes
}

// between returns how many bytes arrived between two times. It waits for a tally from after the
// second one.
func (t *tallyReader) between(begin, end time.Time) (float64, error) {
	deadline := time.Now().Add(tallyPatience)
	for ; time.Now().Before(deadline); time.Sleep(tallyPause) {
		t.mu.Lock()
		samples := t.samples
		t.mu.Unlock()
		if len(samples) > 0 && samples[len(samples)-1].at >= end.UnixNano() {
			return at(samples, end.UnixNano()) - at(samples, begin.UnixNano()), nil
		}
	}
	return 0, errors.New("no tally came from the target")
}

// at interpolates the bytes at a time between two samples, which are ordered.
func at(samples []sample, when int64) float64 {
	for i, s := range samples {
		if s.at < when {
			continue
		}
		if i == 0 {
			return float64(s.bytes)
		}
		last := samples[i-1]
		share := float64(when-last.at) / float64(s.at-last.at)
		return float64(last.bytes) + share*float64(s.bytes-last.bytes)
	}
	return float64(samples[len(samples)-1].bytes)
}
