package mux

import (
	"bytes"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"culvert/internal/testnet"
	"culvert/tunnel/mux/budget"
)

// pacer is a meter that permits rate bytes a second, without a burst.
type pacer struct {
	rate  int
	piece int

	mu   sync.Mutex
	free [2]time.Time // when the next byte may be carried, by direction
	sum  [2]int
}

func (p *pacer) Piece(Direction) int { return p.piece }

func (p *pacer) Reserve(d Direction, n int) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); p.free[d].Before(now) {
		p.free[d] = now
	}
	p.sum[d] += n
	p.free[d] = p.free[d].Add(time.Duration(n) * time.Second / time.Duration(p.rate))
	return time.Until(p.free[d])
}

// A meter decides how long it takes to carry data, in both directions, and counts each byte once.
func TestMeter(t *testing.T) {
	const size, rate = 1 << 20, 100 << 10
	for _, piece := range []int{0, 1000, 50 << 10} {
		synctest.Test(t, func(t *testing.T) {
			client, server := newPair(t, Config{}, Config{})
			opened, accepted := openPair(t, client, server)
			content := bytes.Repeat([]byte("0123456789abcdef"), size/16)
			m := &pacer{rate: rate, piece: piece}
			accepted.SetMeter(m)
			var got []byte
			var took [2]time.Duration
			began := time.Now()
			var working sync.WaitGroup
			working.Go(func() {
				got, _ = io.ReadAll(opened)
				took[ToPeer] = time.Since(began)
			})
			working.Go(func() {
				if _, err := accepted.ReadFrom(bytes.NewReader(content)); err != nil {
					t.Error(err)
				}
				accepted.CloseWrite()
			})
			var delivered bytes.Buffer
			done := make(chan error, 1)
			accepted.Deliver(&delivered, func(err error) {
				took[FromPeer] = time.Since(began)
				done <- err
			})
			if _, err := opened.Write(content); err != nil {
				t.Error(err)
			}
			opened.CloseWrite()
			if err := <-done; err != nil {
				t.Error(err)
			}
			working.Wait()
			if !bytes.Equal(got, content) || !bytes.Equal(delivered.Bytes(), content) {
				t.Errorf("pieces of %d: %d and %d bytes of %d", piece, len(got), delivered.Len(), size)
			}
			for d, took := range took {
				want := time.Duration(size) * time.Second / rate
				// Reserve rounds down.
				if took < want-time.Microsecond || took > want+time.Second {
					t.Errorf("pieces of %d, direction %d: took %v, want %v", piece, d, took, want)
				}
			}
			for _, s := range []*Session{client, server} {
				s.mu.Lock()
				if held := s.memory.buffered; held != 0 {
					t.Errorf("pieces of %d: %d bytes count as buffered in the end", piece, held)
				}
				s.mu.Unlock()
			}
			if m.sum != [2]int{size, size} {
				t.Errorf("pieces of %d: counted %v", piece, m.sum)
			}
		})
	}
}

// Streams that share a meter share the rate, and one that carries little need not wait until the
// others have carried all.
func TestMeterIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := newPair(t, Config{}, Config{})
		m := &pacer{rate: 100 << 10, piece: 5 << 10}
		var working sync.WaitGroup
		began := time.Now()
		var took [5]time.Duration
		for i := range took {
			size := 200 << 10
			if i == 4 {
				size = 1 << 10
			}
			opened, accepted := openPair(t, client, server)
			accepted.SetMeter(m)
			working.Go(func() {
				accepted.ReadFrom(bytes.NewReader(make([]byte, size)))
				accepted.CloseWrite()
			})
			working.Go(func() {
				io.Copy(io.Discard, opened)
				took[i] = time.Since(began)
			})
		}
		working.Wait()
		if took[4] > 500*time.Millisecond || slices.Max(took[:]) < 8*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// A stream that is cut short doesn't wait for its meter.
func TestMeterOfCutStream(t *testing.T) {
	for name, cut := range map[string]func(near, far *Stream){
		"by the peer": func(near, _ *Stream) { near.Reset(CodeAborted) },
		"here":        func(_, far *Stream) { far.Reset(CodeAborted) },
		"by a close":  func(_, far *Stream) { far.Close() },
		"session":     func(_, far *Stream) { far.session.Close() },
	} {
		synctest.Test(t, func(t *testing.T) {
			client, server := newPair(t, Config{}, Config{})
			opened, accepted := openPair(t, client, server)
			accepted.SetMeter(&pacer{rate: 1, piece: 100})
			var working sync.WaitGroup
			working.Go(func() { accepted.ReadFrom(bytes.NewReader(make([]byte, 1000))) })
			ended := make(chan error, 1)
			accepted.Deliver(io.Discard, func(err error) { ended <- err })
			opened.Write(make([]byte, 1000))
			synctest.Wait()
			began := time.Now()
			cut(opened, accepted)
			working.Wait()
			accepted.Reset(CodeAborted) // where the data before the cut would still be delivered
			<-ended
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("cut %s: took %v", name, took)
			}
		})
	}
}

// What Write sends counts at once, and what ReadFrom sends then waits for it.
func TestMeterOfWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := newPair(t, Config{}, Config{})
		opened, accepted := openPair(t, client, server)
		m := &pacer{rate: 1000}
		accepted.SetMeter(m)
		began := time.Now()
		if _, err := accepted.Write(make([]byte, 5000)); err != nil || time.Since(began) != 0 {
			t.Errorf("written after %v: %v", time.Since(began), err)
		}
		if _, err := accepted.ReadFrom(bytes.NewReader(make([]byte, 1000))); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != 6*time.Second || m.sum[ToPeer] != 6000 {
			t.Errorf("%d bytes are counted, and took %v", m.sum[ToPeer], took)
		}
		accepted.CloseWrite()
		if got, err := io.ReadAll(opened); len(got) != 6000 || err != nil {
			t.Errorf("%d bytes arrived: %v", len(got), err)
		}
	})
}

// What streams have read and wait to send, because of their meter, counts in the budget, until the
// streams end in any way.
func TestMeteredMemoryCounts(t *testing.T) {
	const streams = 200
	for name, end := range map[string]func(m *memory, near, far *Session, accepted []*Stream){
		"session": func(_ *memory, _, far *Session, _ []*Stream) { far.Close() },
		"peer":    func(_ *memory, near, _ *Session, _ []*Stream) { near.Close() },
		"expelled": func(m *memory, _, far *Session, _ []*Stream) {
			far.mu.Lock()
			defer far.mu.Unlock()
			far.expelLocked()
			if m.metered != 0 || m.sending.Load() > leastSending {
				t.Errorf("%d bytes count once it is expelled", m.metered)
			}
		},
		"resets": func(_ *memory, _, _ *Session, accepted []*Stream) {
			for _, st := range accepted {
				st.Reset(CodeAborted)
			}
		},
		"ends": func(_ *memory, _, _ *Session, accepted []*Stream) {
			for _, st := range accepted {
				st.CloseWrite()
			}
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			memory := budget.New(4 << 20)
			client, server := joinClient(t, "metered", Config{}, Config{Memory: memory})
			meter := &pacer{rate: 1, piece: 128 << 10}
			var reading sync.WaitGroup
			var all []*Stream
			for range streams {
				_, accepted := openPair(t, client, server)
				accepted.SetMeter(meter)
				all = append(all, accepted)
				reading.Go(func() { accepted.ReadFrom(endless{}) })
			}
			synctest.Wait()
			share := memory.Limit() * 5 / 12
			held := memory.Held()
			if held < share-largeBlock || server.Stats().Queued < int(share)-2*largeBlock {
				t.Errorf("%s: %d KiB are held, %d queued, of a share of %d", name, held>>10,
					server.Stats().Queued>>10, share>>10)
			}
			end(&server.memory, client, server, all)
			reading.Wait()
			time.Sleep(time.Second) // synctest: until all is acknowledged
			server.mu.Lock()
			if m := &server.memory; m.metered != 0 || m.reading.Load() != 0 {
				t.Errorf("%s: %d bytes wait for the meter in the end, %d are read", name, m.metered,
					m.reading.Load())
			}
			server.mu.Unlock()
			client.Close()
			server.Close()
			synctest.Wait()
			if held := memory.Held(); held != 0 {
				t.Errorf("%s: %d bytes are held in the end", name, held)
			}
		})
	}
}

// Sessions of a client whose sources are sockets hold no more than the client's share of what waits
// for the client's meter.
func TestMeteredSocketsShare(t *testing.T) {
	t.Parallel()
	memory := budget.New(4 << 20)
	meter := &pacer{rate: 1, piece: 128 << 10}
	var reading sync.WaitGroup
	defer reading.Wait()
	waits := func(s *Session, streams int) func() bool {
		return func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			n := 0
			for _, st := range s.streams.byID {
				if st.send.metered > 0 || st.send.pausing.list != nil {
					n++
				}
			}
			return n == streams
		}
	}
	const sessions, streams = 3, 30
	metered := 0
	for range sessions {
		client, server := joinClient(t, "metered", Config{}, Config{Memory: memory})
		defer server.Close()
		for range streams {
			_, accepted := openPair(t, client, server)
			accepted.SetMeter(meter)
			near, far := testnet.TCPPair(t, time.Minute)
			defer far.Close()
			reading.Go(func() { accepted.ReadFrom(near) })
			reading.Go(func() { far.Write(make([]byte, 1<<20)) })
		}
		testnet.Poll(t, time.Minute, "all wait for memory or the meter", waits(server, streams))
		metered += server.Stats().Queued
	}
	share := int(memory.Limit() * 5 / 12)
	if metered < share-5*largeBlock || metered > share+sessions*(leastSending+4*largeBlock) {
		t.Errorf("%d KiB wait for the meter, of a share of %d", metered>>10, share>>10)
	}
}
