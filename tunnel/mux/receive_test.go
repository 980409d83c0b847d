package mux

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestCreditIsExact reads up to a quarter of the window, then one byte more.
func TestCreditIsExact(t *testing.T) {
	const window = 64 << 10
	synctest.Test(t, func(t *testing.T) {
		s, p := newRawClient(t, Config{Window: window}, rawHello)
		st := p.accept(s, 1)
		p.send(wire(kindData, 1, make([]byte, maxData)))
		p.send(wire(kindData, 1, make([]byte, maxData)))
		read := func(n int, want ...uint64) {
			t.Helper()
			if _, err := io.ReadFull(st, make([]byte, n)); err != nil {
				t.Fatal(err)
			}
			var got []uint64
			for _, f := range ofKind(p.quiet(), kindCredit) {
				got = append(got, f.uint64())
			}
			if !slices.Equal(got, want) {
				t.Fatalf("credit %v, want %v", got, want)
			}
		}
		read(window/4 - 1)
		read(1, window+window/4)
		read(window/4 - 1)
		read(window/2, 2*window-1)
		p.send(wire(kindFin, 1))
		read(1) // a half that has ended needs none
	})
}

// TestCreditOnce reads much while the writer is busy: only the newest credit is announced.
func TestCreditOnce(t *testing.T) {
	const window = 16 << 10
	synctest.Test(t, func(t *testing.T) {
		s := makeSession(Config{Window: window}, false)
		s.peer = rawHello
		s.link = newLink(s, nil, 0)
		st := newStream(s, 1, Target{}, false)
		s.streams.byID[st.id] = &st.stream
		for range 10 {
			st.recv.queue.write(make([]byte, window))
			io.ReadFull(st, make([]byte, window))
		}
		_, record, _ := s.link.packLocked()
		if want := wire(kindCredit, 1, u64(11*window)); !bytes.Equal(record, want) {
			t.Errorf("record %x, want %x", record, want)
		}
	})
}

// TestLowerCreditIsIgnored sends credit below and at the present limit before it raises it.
func TestLowerCreditIsIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine := rawHello
		mine.firstCredit = 10
		s, p := newRawClient(t, Config{}, mine)
		st := p.accept(s, 1)
		st.Write(make([]byte, 100))
		for _, c := range []struct{ limit, sent uint64 }{{0, 10}, {5, 0}, {10, 0}, {25, 15}, {24, 0},
			{1 << 63, 75}, {1<<64 - 1, 0}} {
			p.send(wire(kindCredit, 1, u64(c.limit)))
			sent := uint64(0)
			for _, f := range ofKind(p.quiet(), kindData) {
				sent += uint64(len(f.payload))
			}
			if sent != c.sent {
				t.Errorf("credit %d: %d bytes, want %d", c.limit, sent, c.sent)
			}
		}
	})
}

// TestHugeCredit announces unlimited windows and then reads nothing: what is held for such a peer
// stays within the send buffer and what the carrier was given.
func TestHugeCredit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const buffer = 128 << 10
		mine := rawHello
		mine.firstCredit = math.MaxUint32
		s, p := newRawClient(t, Config{SendBuffer: buffer}, mine)
		st := p.accept(s, 1)
		p.send(wire(kindCredit, 1, u64(math.MaxUint64)))
		var writing sync.WaitGroup
		writing.Go(func() {
			if n, err := st.Write(make([]byte, 64<<20)); err == nil || n > 8<<20 {
				t.Errorf("%d bytes were taken, %v", n, err)
			}
		})
		synctest.Wait()
		s.mu.Lock()
		queued, given := st.send.queue.len, st.send.sent
		s.mu.Unlock()
		if queued == 0 || queued > buffer || given > 4<<20 {
			t.Errorf("%d bytes queued, %d given to the carrier", queued, given)
		}
		st.Reset(CodeClosed)
		writing.Wait()
	})
}

// TestCreditIsNeverPassed gives credit in random steps to streams that always have more to send.
func TestCreditIsNeverPassed(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			mine := rawHello
			mine.firstCredit = r.Uint32N(100 << 10)
			s, p := newRawClient(t, Config{SendBuffer: 1 + r.IntN(100<<10)}, mine)
			limits, sent := map[uint32]uint64{}, map[uint32]uint64{}
			streams := map[uint32]*Stream{}
			for id := uint32(1); id < 10; id += 2 {
				streams[id] = p.accept(s, id)
				limits[id] = uint64(mine.firstCredit)
			}
			for id, st := range streams {
				sizes := rand.New(rand.NewPCG(seed, uint64(id)))
				go func() {
					for err := error(nil); err == nil; {
						_, err = st.Write(make([]byte, 1+sizes.IntN(100_000)))
					}
				}()
			}
			for range 100 {
				for _, f := range ofKind(p.quiet(), kindData) {
					sent[f.stream] += uint64(len(f.payload))
				}
				for id, limit := range limits {
					if sent[id] != limit {
						t.Fatalf("seed %d: stream %d sent %d bytes with credit for %d", seed, id, sent[id], limit)
					}
				}
				id := 1 + 2*r.Uint32N(5)
				limits[id] += r.Uint64N(200 << 10)
				p.send(wire(kindCredit, id, u64(limits[id])))
			}
		})
	}
}

// TestTransferWithOddSizes moves data through windows, send buffers and reads of random sizes. A
// peer past its credit would end the session.
func TestTransferWithOddSizes(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			cfg := func() Config {
				return Config{Window: 1 + r.IntN(20<<10), SendBuffer: 1 + r.IntN(20<<10)}
			}
			client, server := newPair(t, cfg(), cfg())
			a, b := openPair(t, client, server)
			content := randomBytes(t, 100<<10+r.IntN(1000))
			sizes := make([]int, 50)
			for i := range sizes {
				sizes[i] = 1 + r.IntN(5000)
			}
			go func() {
				rest := content
				for i := 0; len(rest) > 0; i++ {
					n, err := a.Write(rest[:min(len(rest), sizes[i%len(sizes)])])
					if err != nil {
						t.Error(err)
						return
					}
					rest = rest[n:]
				}
				a.Close()
			}()
			var got []byte
			for i := 0; ; i++ {
				p := make([]byte, sizes[(i+7)%len(sizes)])
				n, err := b.Read(p)
				got = append(got, p[:n]...)
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(got, content) {
				t.Errorf("%d of %d bytes", len(got), len(content))
			}
			b.Close()
			waitStreams(t, client, 0)
			waitStreams(t, server, 0)
		})
	}
}

// TestUnreadDataIsGivenBack counts the memory of data that nobody reads, in streams that are open
// and that have ended.
func TestUnreadDataIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := newRawClient(t, Config{}, rawHello)
		ends := []struct {
			peer []byte
			user func(*Stream)
		}{
			{wire(kindFin, 0), func(st *Stream) { st.Close() }},
			{wire(kindReset, 0, u16(CodeAborted)), func(st *Stream) { st.Close() }},
			{wire(0x81, 0), func(st *Stream) { st.Reset(CodeAborted) }},
			{wire(0x81, 0), func(st *Stream) { st.Close() }},
			{wire(kindReset, 0, u16(CodeAborted)), func(st *Stream) { io.Copy(io.Discard, st) }},
		}
		for i, end := range ends {
			id := uint32(2*i + 1)
			last := slices.Clone(end.peer)
			last[7] = byte(id)
			p.send(wireOpen(id), wire(kindData, id, make([]byte, 5000)), last)
		}
		p.quiet()
		if n := s.Stats().Buffered; n != 5*largeBlock {
			t.Errorf("%d bytes buffered", n)
		}
		for _, end := range ends {
			in, err := s.Accept(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			end.user(in.(*IncomingStream).stream)
		}
		s.mu.Lock()
		if s.memory.buffered != 0 || len(s.streams.leftovers) != 0 {
			t.Errorf("%d bytes buffered, %d leftovers", s.memory.buffered, len(s.streams.leftovers))
		}
		s.mu.Unlock()
	})
}

// A stream that has adopted the block of a record can end by a later frame of the same record. The
// block is somebody else's from then on, whatever frames are behind that one.
func TestAdoptedBlockIsFreed(t *testing.T) {
	s, peer := newRawClient(t, Config{}, rawHello)
	first, second := peer.accept(s, 1), peer.accept(s, 3)
	first.NotifyEnd(func(bool) {
		for range 64 { // of which one is that
			other := newBlock(largeBlock)
			for i := range other.buf {
				other.buf[i] = 0xff
			}
		}
	})
	peer.send(slices.Concat(
		wire(kindData, 1, make([]byte, adoptFrom)), wire(kindReset, 1, u16(CodeStalled)),
		wire(kindData, 3, []byte("all of it")), wire(kindFin, 3)))
	second.SetReadDeadline(time.Now().Add(10 * time.Second))
	if got, err := io.ReadAll(second); string(got) != "all of it" || err != nil {
		t.Errorf("read %q, %v; the session: %v", got, err, s.Err())
	}
	second.Close()
}
