package mux

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// nextAfter waits for the session's next frame and says how long that took. For synctest bubbles.
func (p *rawPeer) nextAfter() (frame, time.Duration) {
	p.t.Helper()
	began := time.Now()
	f, ok := p.next()
	if !ok {
		p.t.Fatalf("the session ended after %v", time.Since(began))
	}
	return f, time.Since(began)
}

// every calls do at an interval until the test ends. For synctest bubbles.
func every(t *testing.T, interval time.Duration, do func()) {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	go func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				do()
			}
		}
	}()
}

// TestKeepalive keeps a carrier idle in one direction or both: a ping is sent after Keepalive.
func TestKeepalive(t *testing.T) {
	for _, c := range []struct {
		name  string
		begin func(t *testing.T, s *Session, p *rawPeer)
	}{
		{name: "both", begin: func(*testing.T, *Session, *rawPeer) {}},
		{name: "outward", begin: func(t *testing.T, s *Session, p *rawPeer) {
			every(t, 3*time.Second, func() { p.send(wire(0x81, 0)) })
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, p := newRawClient(t, Config{}, rawHello)
				began := time.Now()
				c.begin(t, s, p)
				for {
					f, _ := p.nextAfter()
					if f.kind == kindAck {
						continue
					}
					if took := time.Since(began); f.kind != kindPing || took != DefaultKeepalive {
						t.Errorf("frame 0x%02x after %v", uint8(f.kind), took)
					}
					return
				}
			})
		})
	}
}

// TestKeepaliveGoesOn: answered pings follow each other at Keepalive, even if that is less than the
// time that the peer has for its answer.
func TestKeepaliveGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const keepalive = DefaultPatience / 10
		_, p := newRawClient(t, Config{Keepalive: keepalive}, rawHello)
		last := time.Now()
		for range 5 {
			f, _ := p.nextAfter()
			for f.kind != kindPing {
				f, _ = p.nextAfter()
			}
			if took := time.Since(last); took > 2*keepalive {
				t.Errorf("a ping after %v, want one every %v", took, keepalive)
			}
			last = time.Now()
			time.Sleep(keepalive / 10) // the round trip
			p.send(wire(kindPong, 0, f.payload))
		}
	})
}

func TestNoKeepalive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := newRawClient(t, Config{Keepalive: -1}, rawHello)
		time.Sleep(24 * time.Hour)
		if frames := p.quiet(); len(frames) != 0 || s.Err() != nil {
			t.Errorf("frames %v, session %v", frames, s.Err())
		}
	})
}

func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := newRawClient(t, Config{}, rawHello)
		began := time.Now()
		p.until(kindPing)
		if err := s.Wait(); !errors.Is(err, ErrPeerSilent) {
			t.Errorf("the session ended with %v", err)
		}
		if took := time.Since(began); took != DefaultKeepalive+DefaultPatience {
			t.Errorf("after %v", took)
		}
	})
}

// TestUnacknowledgedData sends all the time to a peer that reads and never answers.
func TestUnacknowledgedData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := newRawClient(t, Config{Keepalive: -1}, rawHello)
		st := p.accept(s, 1)
		p.send(wire(kindAck, 0, u64(headerSize)))
		time.Sleep(time.Minute) // idle, which is no reason
		go func() {
			for ok := true; ok; {
				_, ok = p.next()
			}
		}()
		began := time.Now()
		every(t, 100*time.Millisecond, func() { st.Write([]byte("x")) })
		if err := s.Wait(); !errors.Is(err, ErrPeerSilent) {
			t.Errorf("the session ended with %v", err)
		}
		if took := time.Since(began); took < DefaultPatience ||
			took > DefaultPatience+200*time.Millisecond {
			t.Errorf("after %v", took)
		}
	})
}

// TestAnyRecordIsLife answers a ping with another frame: the session continues, and pings again
// when the carrier is idle again.
func TestAnyRecordIsLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := newRawClient(t, Config{}, rawHello)
		for range 10 {
			f, took := p.nextAfter()
			if f.kind != kindPing || took > DefaultKeepalive {
				t.Fatalf("frame 0x%02x after %v", uint8(f.kind), took)
			}
			time.Sleep(DefaultPatience - 1)
			p.send(wire(0x81, 0))
		}
		p.until(kindPing)
		began := time.Now()
		if err := s.Wait(); !errors.Is(err, ErrPeerSilent) || time.Since(began) != DefaultPatience {
			t.Errorf("after %v the session ended with %v", time.Since(began), err)
		}
	})
}

// TestPingsDoNotHideSilence measures the round trip again and again, also more often than the
// session's patience, and than it remembers pings.
func TestPingsDoNotHideSilence(t *testing.T) {
	for _, interval := range []time.Duration{5 * time.Second, time.Second, 50 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			s, p := newRawClient(t, Config{}, rawHello)
			every(t, interval, func() {
				ctx, cancel := context.WithTimeout(context.Background(), min(interval, time.Second))
				defer cancel()
				s.Ping(ctx)
			})
			go func() {
				for ok := true; ok; {
					_, ok = p.next()
				}
			}()
			began := time.Now()
			select {
			case <-s.Done():
				if took := time.Since(began); !errors.Is(s.Err(), ErrPeerSilent) ||
					took > interval+DefaultPatience {
					t.Errorf("a ping every %v: after %v: %v", interval, took, s.Err())
				}
			case <-time.After(time.Hour):
				t.Errorf("a ping every %v: the session lives on", interval)
			}
		})
	}
}

func TestPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := newRawClient(t, Config{}, rawHello)
		go func() {
			f := p.until(kindPing)
			time.Sleep(30 * time.Millisecond) // in a synctest bubble
			p.send(wire(kindPong, 0, f.payload))
		}()
		if rtt, err := s.Ping(context.Background()); rtt != 30*time.Millisecond || err != nil {
			t.Errorf("%v, %v", rtt, err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := s.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ping without an answer: %v", err)
		}
		if rtt := lastRTT(s); rtt != 30*time.Millisecond {
			t.Errorf("round trip %v", rtt)
		}
	})
}

// TestPingIsAnsweredByAnyPong: a pong answers its ping and those before it, although others were
// sent since. It is timed from its own ping.
func TestPingIsAnsweredByAnyPong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := newRawClient(t, Config{}, rawHello)
		const pause, trip = 100 * time.Millisecond, 250 * time.Millisecond
		var answered [5]time.Duration
		var tokens [5][]byte
		var pinging sync.WaitGroup
		for i := range answered {
			pinging.Go(func() { answered[i], _ = s.Ping(context.Background()) })
			tokens[i] = bytes.Clone(p.until(kindPing).payload)
			time.Sleep(pause) // synctest
		}
		pong := func(i int) {
			p.send(wire(kindPong, 0, tokens[i]))
			p.quiet()
		}
		began := time.Now()
		pong(1)
		if got, want := lastRTT(s), 4*pause; got != want {
			t.Errorf("a round trip of %v, want %v", got, want)
		}
		if answered != [5]time.Duration{4 * pause, 4 * pause} {
			t.Errorf("answered: %v", answered)
		}
		pong(0) // which is late
		pong(1) // again
		time.Sleep(trip)
		pong(4)
		pinging.Wait()
		want := pause + time.Since(began)
		if answered != [5]time.Duration{4 * pause, 4 * pause, want, want, want} {
			t.Errorf("answered: %v, want %v for the last", answered, want)
		}
	})
}

// TestFirstFrames: a record is cut between frames only.
func TestFirstFrames(t *testing.T) {
	record := slices.Concat(wire(kindData, 1, make([]byte, 92)), wire(kindFin, 1),
		wire(kindData, 3, make([]byte, 192)))
	for _, c := range []struct{ from, room, want int }{
		{0, 1000, 308}, {0, 308, 308}, {0, 307, 108}, {0, 108, 108}, {0, 107, 100}, {0, 10, 100},
		{108, 10, 200}, {1, 100, 307},
	} {
		if got := firstFrames(record[c.from:], c.room); len(got) != c.want || &got[0] != &record[c.from] {
			t.Errorf("from %d, with room for %d: %d bytes, want %d", c.from, c.room, len(got), c.want)
		}
	}
}

// TestAcks checks when acks are sent: with another record, after ackDelay, after ackInterval for a
// moderate amount, or at once for a large one.
func TestAcks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, p := newRawClient(t, Config{}, rawHello)
		ack := func(after time.Duration, position int) {
			t.Helper()
			f, took := p.nextAfter()
			if f.kind != kindAck || took != after || f.uint64() != uint64(position) {
				t.Fatalf("frame 0x%02x %x after %v, want an ack of %d after %v", uint8(f.kind), f.payload,
					took, position, after)
			}
		}
		p.send(wireOpen(1))
		sent := len(wireOpen(1))
		ack(ackDelay, sent)

		p.send(wire(kindData, 1, make([]byte, 100)))
		time.Sleep(ackDelay - 1)
		p.send(wire(kindData, 1, make([]byte, 100)))
		sent += 2 * (headerSize + 100)
		ack(1, sent) // the first one's wait counts

		p.send(wire(kindData, 1, make([]byte, 100)), wire(kindPing, 0, u64(1)))
		sent += headerSize + 100
		if f, took := p.nextAfter(); f.kind != kindPong || took != 0 {
			t.Fatalf("frame 0x%02x after %v", uint8(f.kind), took)
		}
		ack(0, sent) // in the pong's record

		for range 2 {
			p.send(wire(kindData, 1, make([]byte, maxData)))
			sent += headerSize + maxData
		}
		ack(ackInterval, sent)
		time.Sleep(ackInterval)
		p.send(wire(kindData, 1, make([]byte, ackSome)))
		sent += headerSize + ackSome
		ack(0, sent) // the last one was a while ago
		time.Sleep(quietTime - 1)
		if frames := p.quiet(); len(frames) != 0 {
			t.Errorf("frames %v", frames)
		}
	})
}

// TestPositionsAgree moves much data both ways and compares the counters of both ends once the
// session is idle.
func TestPositionsAgree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := newPair(t, Config{}, Config{})
		for range 3 {
			a, b := openPair(t, client, server)
			for _, st := range []*Stream{a, b} {
				go func() {
					st.Write(make([]byte, 700_001))
					st.CloseWrite()
				}()
			}
			for _, st := range []*Stream{a, b} {
				if n, err := io.Copy(io.Discard, st); n != 700_001 || err != nil {
					t.Errorf("%d bytes, %v", n, err)
				}
			}
		}
		time.Sleep(ackDelay)
		synctest.Wait()
		c, s := client.Stats(), server.Stats()
		if c.Sent != s.Received || c.Sent != c.Acknowledged || s.Sent != c.Received ||
			s.Sent != s.Acknowledged {
			t.Errorf("client %+v, server %+v", c, s)
		}
		if c.Sent < 2_100_003 || s.Sent < 2_100_003 {
			t.Errorf("sent %d and %d", c.Sent, s.Sent)
		}
	})
}

// TestSmallWritesLeaveTogether writes to many streams while the carrier is busy: few records then
// carry it all.
func TestSmallWritesLeaveTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := newRawClient(t, Config{}, rawHello)
		var streams []*Stream
		for i := range 10 {
			streams = append(streams, p.accept(s, uint32(2*i+1)))
		}
		p.quiet()
		for len(p.carrier.in) < cap(p.carrier.in) { // one record each, until the carrier is full
			streams[0].Write([]byte("x"))
			synctest.Wait()
		}
		streams[0].Write([]byte("x")) // the writer waits with this one
		synctest.Wait()
		for range 100 {
			for _, st := range streams {
				st.Write([]byte("ten bytes."))
			}
		}
		for range cap(p.carrier.in) + 1 {
			if _, err := p.carrier.ReadRecord(nil); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if n := len(p.carrier.in); n != 1 {
			t.Errorf("%d records", n)
		}
		frames := p.quiet()
		if len(frames) != len(streams) {
			t.Errorf("%d frames", len(frames))
		}
		for _, f := range frames {
			if f.kind != kindData || len(f.payload) != 1000 {
				t.Errorf("frame 0x%02x of %d bytes", uint8(f.kind), len(f.payload))
			}
		}
	})
}

// TestReadyStreamsShareRecords: streams that are all ready to send something send it together,
// where there is one processor.
func TestReadyStreamsShareRecords(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	synctest.Test(t, func(t *testing.T) {
		s, p := newRawClient(t, Config{}, rawHello)
		const streams = 4 // as many records as the carrier takes at once
		start := make(chan struct{})
		var sending sync.WaitGroup
		defer sending.Wait()
		for i := range streams {
			p.send(wireOpen(uint32(2*i + 1)))
			st, err := acceptStream(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			sending.Go(func() {
				<-start
				st.Write([]byte("x"))
			})
		}
		p.quiet()
		close(start)
		synctest.Wait()
		records, frames := len(p.carrier.in), len(p.quiet())
		// Go looks at the goroutines that have yielded before the others now and then.
		if frames != streams || records > streams/2 {
			t.Errorf("%d frames in %d records", frames, records)
		}
	})
}

// TestRecordSizes checks that no record is larger than the peer takes, nor than maxRecord.
func TestRecordSizes(t *testing.T) {
	for _, c := range []struct{ announced, limit int }{
		{minRecordSize, minRecordSize}, {5000, 5000}, {MaxRecordSize, maxRecord}, {1 << 30, maxRecord},
	} {
		synctest.Test(t, func(t *testing.T) {
			mine := rawHello
			mine.maxRecord = uint32(c.announced)
			s, p := newRawClient(t, Config{}, mine)
			for i := range 40 {
				p.send(wireOpen(uint32(2*i+1), make([]byte, 1000)...))
				in, err := s.Accept(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				go func() {
					if i%3 == 0 {
						in.Refuse(CodeNotAllowed, string(make([]byte, maxText)))
						return
					}
					st, err := in.(*IncomingStream).Confirm()
					if err != nil {
						return
					}
					st.Write(make([]byte, 50_000+i))
					st.Close()
				}()
				go s.Open(context.Background(), Target{StreamTCP, string(make([]byte, maxTarget))})
			}
			largest, total := 0, 0
			for {
				synctest.Wait()
				if len(p.carrier.in) == 0 {
					break
				}
				record, err := p.carrier.ReadRecord(nil)
				if err != nil {
					t.Fatal(err)
				}
				largest = max(largest, len(record))
				total += len(record)
			}
			if largest > c.limit || largest < c.limit-minFill-2*headerSize-creditSize || total < 26*50_000 {
				t.Errorf("largest record %d, limit %d; %d bytes in all", largest, c.limit, total)
			}
		})
	}
}
