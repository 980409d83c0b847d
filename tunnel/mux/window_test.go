package mux

import (
	"context"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// delayedPipe is one end of a carrier of unlimited rate whose records are delayed.
type delayedPipe struct {
	*pipeCarrier
	delay   time.Duration
	in, out chan delayedRecord
}

type delayedRecord struct {
	due  time.Time
	data []byte
}

func newDelayedPipe(delay time.Duration) (a, b *delayedPipe) {
	x, y := newPipe()
	up, down := make(chan delayedRecord, 4096), make(chan delayedRecord, 4096)
	return &delayedPipe{pipeCarrier: x, delay: delay, in: down, out: up},
		&delayedPipe{pipeCarrier: y, delay: delay, in: up, out: down}
}

func (p *delayedPipe) ReadRecord([]byte) ([]byte, error) {
	select {
	case r := <-p.in:
		time.Sleep(time.Until(r.due)) // synctest
		return r.data, nil
	case <-p.closed:
		return nil, io.ErrUnexpectedEOF
	}
}

func (p *delayedPipe) WriteRecords(records ...[]byte) error {
	for _, b := range records {
		select {
		case p.out <- delayedRecord{time.Now().Add(p.delay), append([]byte(nil), b...)}:
		case <-p.closed:
			return io.ErrClosedPipe
		}
	}
	return nil
}

// newDelayedPair is newPair over a path with a round trip.
func newDelayedPair(t *testing.T, roundTrip time.Duration, cfg Config) (client, server *Session) {
	t.Helper()
	near, far := newDelayedPipe(roundTrip / 2)
	return startPair(t, near, cfg, func() (*Session, error) {
		return NewServer(context.Background(), far, cfg)
	})
}

// TestWindowGrows: at a long round trip the window grows until it no longer holds the stream back.
func TestWindowGrows(t *testing.T) {
	const roundTrip, size = 100 * time.Millisecond, 256 << 20
	synctest.Test(t, func(t *testing.T) {
		client, server := newDelayedPair(t, roundTrip, Config{})
		opened, accepted := openPair(t, client, server)
		began := time.Now()
		go func() {
			chunk := make([]byte, 1<<20)
			for range size / len(chunk) {
				if _, err := opened.Write(chunk); err != nil {
					t.Error(err)
					break
				}
			}
			opened.Close()
		}()
		n, err := io.Copy(io.Discard, accepted)
		took := time.Since(began)
		accepted.Close()
		if n != size || err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
		// 16 MiB a round trip when fully grown; six doublings, of a round trip each at the most, to
		// get there.
		if ideal := roundTrip * size / DefaultMaxWindow; took > ideal*3/2+10*roundTrip {
			t.Errorf("took %v, %v at the full window", took, ideal)
		}
		if w := accepted.recv.window; w != DefaultMaxWindow {
			t.Errorf("the window grew to %d", w)
		}
		synctest.Wait()
		time.Sleep(time.Second) // synctest
		if server.memory.grown != 0 || client.memory.grown != 0 {
			t.Errorf("%d and %d bytes of growth still counted", client.memory.grown, server.memory.grown)
		}
	})
}

// TestWindowStays: a stream whose reader is slow keeps its window, and growth is bounded by the
// session's memory.
func TestWindowStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := newDelayedPair(t, 100*time.Millisecond, Config{MaxBuffered: 2 << 20})
		slow, slowEnd := openPair(t, client, server)
		fast, fastEnd := openPair(t, client, server)
		var wg sync.WaitGroup
		for _, st := range []*Stream{slow, fast} {
			wg.Go(func() {
				st.Write(make([]byte, 8<<20))
				st.Close()
			})
		}
		wg.Go(func() {
			for {
				if _, err := io.CopyN(io.Discard, slowEnd, 64<<10); err != nil {
					break
				}
				time.Sleep(200 * time.Millisecond) // synctest
			}
			slowEnd.Close()
		})
		io.Copy(io.Discard, fastEnd)
		server.mu.Lock()
		slowWindow, fastWindow := slowEnd.recv.window, fastEnd.recv.window
		server.mu.Unlock()
		fastEnd.Close()
		wg.Wait()
		if slowWindow != DefaultWindow || fastWindow <= DefaultWindow ||
			fastWindow > DefaultWindow+1<<20 {
			t.Errorf("windows of %d and %d", slowWindow, fastWindow)
		}
	})
}

// TestStalledStreamsFit: the windows of streams grow, then all readers stall. What the peer may
// send fits into the session's memory, so that no stream is reset, however large its frames are.
func TestStalledStreamsFit(t *testing.T) {
	const limit = 32 << 20
	for _, test := range []struct{ streams, frame int }{
		{1, maxData}, {40, maxData}, {40, adoptFrom}, {80, maxData}, {80, adoptFrom},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, p := newRawClient(t, Config{MaxBuffered: limit}, rawHello)
			s.mu.Lock()
			s.link.rtt.least = time.Hour // so that every reader is quick
			s.mu.Unlock()
			var streams []*Stream
			for n := range test.streams {
				streams = append(streams, p.accept(s, uint32(2*n+1)))
			}
			var answers []frame
			// fill uses up the credit of a stream, and returns for how many bytes it was.
			fill := func(st *Stream) int {
				s.mu.Lock()
				credit := int(st.recv.limit - st.recv.received)
				s.mu.Unlock()
				for left := credit; left > 0; left -= test.frame {
					p.send(wire(kindData, st.id, make([]byte, min(left, test.frame))))
				}
				answers = append(answers, p.quiet()...)
				return credit
			}
			for range 8 {
				for _, st := range streams {
					if _, err := io.CopyN(io.Discard, st, int64(fill(st))); err != nil {
						t.Fatal(err)
					}
				}
			}
			total := 0
			for _, st := range streams {
				total += fill(st)
			}
			s.mu.Lock()
			grown, held := s.memory.grown, s.memory.buffered
			s.mu.Unlock()
			t.Logf("%d streams, frames of %d KiB: %d KiB of growth, %d KiB in %d KiB of memory",
				test.streams, test.frame>>10, grown>>10, total>>10, held>>10)
			if resets := ofKind(answers, kindReset); len(resets) > 0 {
				t.Errorf("%d streams were reset", len(resets))
			}
			if held > limit || held < total {
				t.Errorf("%d bytes take %d bytes of memory, of %d", total, held, limit)
			}
			if grown < limit/16 {
				t.Errorf("the windows have grown by %d bytes only", grown)
			}
			for _, st := range streams {
				st.Reset(CodeCancelled)
			}
		})
	}
}
