package mux

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const (
	// slowDelay is the one-way delay of the slow links.
	slowDelay = 50 * time.Millisecond

	// slowSocket is how many bytes a socket holds that are not on the link yet.
	slowSocket = 16 << 10

	// slowSegment is how many bytes arrive at once.
	slowSegment = 1448

	// proxyTrip is the round trip to a proxy.
	proxyTrip = 10 * time.Millisecond
)

// slowLine is one direction of a carrier over a link with a rate: a record arrives over time. It is
// for synctest bubbles.
type slowLine struct {
	rate    int           // bytes a second
	proxied bool          // TCP ends at a proxy before the link, which takes all at once
	changed chan struct{} // holds a token when there is news for the reader

	mu      sync.Mutex // guards what follows
	parcels []slowParcel
	free    time.Time // when the link has taken all that was sent
	dead    time.Time // what has not arrived by then never does; zero for never
	read    int       // parcels
}

// slowParcel is a record on a line.
type slowParcel struct {
	record []byte
	sent   time.Time
	begins time.Time // on the link
}

// after returns how long the line takes for n bytes.
func (l *slowLine) after(n int) time.Duration {
	return time.Duration(n) * time.Second / time.Duration(l.rate)
}

func (l *slowLine) send(record []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.free.Before(now) {
		l.free = now
	}
	l.parcels = append(l.parcels, slowParcel{bytes.Clone(record), now, l.free})
	l.free = l.free.Add(l.after(len(record)))
	notify(l.changed)
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// unwritten returns how many of the bytes that were sent the socket has yet to take.
func (l *slowLine) unwritten() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.proxied {
		return 0
	}
	unsent := int(time.Until(l.free) * time.Duration(l.rate) / time.Second)
	return max(0, unsent-slowSocket)
}

// die loses what has not arrived yet.
func (l *slowLine) die() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = time.Now()
}

// next returns the next record if it has arrived, and otherwise how long that takes: 0 if there is
// none that will.
func (l *slowLine) next() (record []byte, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.read == len(l.parcels) {
		return nil, 0
	}
	p := l.parcels[l.read]
	arrives := p.begins.Add(l.after(len(p.record)) + slowDelay)
	switch {
	case !l.dead.IsZero() && arrives.After(l.dead):
		return nil, 0
	case arrives.After(time.Now()):
		return nil, time.Until(arrives)
	}
	l.read++
	return p.record, 0
}

// arrived returns how many bytes have arrived by a time, and when the last of them did.
func (l *slowLine) arrived(by time.Time) (n int, last time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.dead.IsZero() && l.dead.Before(by) {
		by = l.dead
	}
	for _, p := range l.parcels {
		for size := 0; size < len(p.record); {
			more := min(slowSegment, len(p.record)-size)
			at := p.begins.Add(l.after(size+more) + slowDelay)
			if at.After(by) {
				return n, last
			}
			size += more
			n, last = n+more, at
		}
	}
	return n, last
}

// acknowledged returns how many bytes the sender's TCP knows to have arrived where it ends, when it
// last learned of some, and how many it waits for.
func (l *slowLine) acknowledged() (acked, pending int, last time.Time) {
	if !l.proxied {
		acked, last = l.arrived(time.Now().Add(-slowDelay))
		last = last.Add(slowDelay)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.parcels {
		pending += len(p.record)
		if at := p.sent.Add(proxyTrip); l.proxied && !at.After(time.Now()) {
			acked, last = acked+len(p.record), at
		}
	}
	return acked, pending - acked, last
}

// slowCarrier is one end of a carrier over a slow link. It knows nothing of its transport.
type slowCarrier struct {
	*securePipe // for Export and Close
	in, out     *slowLine
}

func (c *slowCarrier) ReadRecord(buf []byte) ([]byte, error) {
	for {
		record, wait := c.in.next()
		if record != nil {
			return append(buf[:0], record...), nil
		}
		var arrival <-chan time.Time
		if wait > 0 {
			arrival = time.After(wait) // synctest
		}
		select {
		case <-arrival:
		case <-c.in.changed:
		case <-c.closed:
			return nil, io.ErrUnexpectedEOF
		}
	}
}

func (c *slowCarrier) WriteRecords(records ...[]byte) error {
	for _, record := range records {
		c.out.send(record)
		select {
		case <-time.After(c.out.after(c.out.unwritten())): // synctest
		case <-c.closed:
			return io.ErrClosedPipe
		}
	}
	return nil
}

// slowTCP is a slowCarrier over TCP, which knows what has arrived.
type slowTCP struct{ *slowCarrier }

func (c slowTCP) LastRead() time.Time {
	_, last := c.in.arrived(time.Now())
	return last
}

func (c slowTCP) TransportSent() (acked, pending uint64, last time.Time, ok bool) {
	unwritten := c.out.unwritten()
	a, p, last := c.out.acknowledged()
	return uint64(a), uint64(p - unwritten), last, true
}

// slowLink is a session over slow links, one after the other.
type slowLink struct {
	t              testing.TB
	rate           [2]int // of what the client and the server send
	blind          bool   // the carriers know nothing of their transport
	proxied        bool   // TCP ends at proxies before the link
	host           *Host
	client, server *Session
	lines          [2]*slowLine // of the present link: what the client and the server send
	carrier        Carrier      // the client's end
}

// start starts the session.
func (l *slowLink) start() {
	l.t.Helper()
	l.host = NewHost(HostConfig{})
	near, far := l.connect()
	l.client, l.server = startPair(l.t, near, Config{}, func() (*Session, error) {
		s, _, err := l.host.Accept(context.Background(), far, Config{}, Peer{Identity: owner})
		return s, err
	})
}

// connect makes a carrier and returns its ends.
func (l *slowLink) connect() (near, far Carrier) {
	for i, rate := range l.rate {
		l.lines[i] = &slowLine{rate: rate, proxied: l.proxied, changed: make(chan struct{}, 1)}
	}
	a, b := newSecurePipe()
	client := &slowCarrier{securePipe: a, in: l.lines[1], out: l.lines[0]}
	server := &slowCarrier{securePipe: b, in: l.lines[0], out: l.lines[1]}
	if l.carrier = client; l.blind {
		return client, server
	}
	l.carrier = slowTCP{client}
	return l.carrier, slowTCP{server}
}

// resume cuts the link, and gives the session another.
func (l *slowLink) resume() {
	l.t.Helper()
	l.carrier.Close()
	for _, s := range []*Session{l.client, l.server} {
		if err := s.AwaitLoss(context.Background()); err != nil {
			l.t.Fatal(err)
		}
	}
	l.checkLosses()
	near, far := l.connect()
	accepted := make(chan error, 1)
	go func() {
		_, _, err := l.host.Accept(context.Background(), far, Config{}, Peer{Identity: owner})
		accepted <- err
	}()
	if _, err := l.client.Resume(context.Background(), near); err != nil {
		l.t.Fatal(err)
	}
	if err := <-accepted; err != nil {
		l.t.Fatal(err)
	}
}

// checkLosses checks that no end has given the carrier up.
func (l *slowLink) checkLosses() {
	l.t.Helper()
	for name, s := range map[string]*Session{"client": l.client, "server": l.server} {
		if err := s.LossCause(); errors.Is(err, ErrPeerSilent) {
			l.t.Errorf("the %s has lost a carrier: %v", name, err)
		}
	}
}

// die lets nothing arrive any more.
func (l *slowLink) die() {
	for _, line := range l.lines {
		line.die()
	}
}

// move sends size bytes on a stream, in pieces, and waits until they have arrived at its other end.
func (l *slowLink) move(from, to *Stream, size, piece int) {
	l.t.Helper()
	content := randomBytes(l.t, size)
	go func() {
		for rest := content; len(rest) > 0; rest = rest[min(piece, len(rest)):] {
			if _, err := from.Write(rest[:min(piece, len(rest))]); err != nil {
				l.t.Error(err)
				return
			}
			time.Sleep(time.Millisecond) // synctest
		}
	}()
	got := make([]byte, size)
	if n, err := io.ReadFull(to, got); err != nil || !bytes.Equal(got, content) {
		l.t.Errorf("%d bytes of %d, or others: %v", n, size, err)
	}
}

// open opens a stream from the client, at once or not, and returns its sending and receiving end.
func (l *slowLink) open(atOnce, reverse bool) (from, to *Stream) {
	l.t.Helper()
	if !atOnce {
		from, to = openPair(l.t, l.client, l.server)
	} else {
		var err error
		if from, err = l.client.OpenAtOnce(Target{StreamTCP, "h:1"}, nil); err != nil {
			l.t.Fatal(err)
		}
		if to, err = acceptStream(context.Background(), l.server); err != nil {
			l.t.Fatal(err)
		}
	}
	if reverse {
		return to, from
	}
	return from, to
}

// eachSlowLink runs a test over links on which a large record takes seconds, in either direction,
// whether or not the ends know what has arrived.
func eachSlowLink(t *testing.T, run func(l *slowLink, size int, reverse bool)) {
	for _, rate := range []int{2_000, 6_000, 8_000, 30_000} {
		for _, blind := range []bool{false, true} {
			for _, reverse := range []bool{false, true} {
				name := fmt.Sprintf("rate=%d/blind=%v/reverse=%v", rate, blind, reverse)
				t.Run(name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						l := &slowLink{t: t, rate: [2]int{rate, 10 * rate}, blind: blind}
						if reverse {
							l.rate[0], l.rate[1] = l.rate[1], l.rate[0]
						}
						l.start()
						run(l, 30*rate, reverse)
					})
				})
			}
		}
	}
}

// TestSlowLink moves data over links on which a large record takes seconds, whether or not they
// have been measured before: no carrier is given up.
func TestSlowLink(t *testing.T) {
	for _, atOnce := range []bool{false, true} {
		eachSlowLink(t, func(l *slowLink, size int, reverse bool) {
			from, to := l.open(atOnce, reverse)
			began := time.Now()
			l.move(from, to, size, size)
			took := time.Since(began)
			l.checkLosses()
			if took > 33*time.Second {
				l.t.Errorf("what the link carries in 30 s took %v", took)
			}
		})
	}
}

// TestSlowLinkResumed cuts such links: what is sent again arrives, and no carrier is given up. It
// was written at once, or in small pieces, which are retained together.
func TestSlowLinkResumed(t *testing.T) {
	for _, piece := range []int{1 << 20, 1000} {
		eachSlowLink(t, func(l *slowLink, size int, reverse bool) {
			from, to := l.open(false, reverse)
			var moving sync.WaitGroup
			moving.Go(func() { l.move(from, to, size, piece) })
			for range 3 {
				time.Sleep(7 * time.Second) // synctest
				l.resume()
			}
			moving.Wait()
			l.checkLosses()
			if l.client.Stats().Resent+l.server.Stats().Resent == 0 {
				l.t.Error("nothing was sent again")
			}
		})
	}
}

// TestLinkBecomesSlow fills a fast link with large records, and slows it down: they arrive, and so
// do those that are sent again on the next one, also where the sender doesn't see what has left.
func TestLinkBecomesSlow(t *testing.T) {
	for _, slow := range []int{3_000, 8_000} {
		for _, proxied := range []bool{false, true} {
			for _, reverse := range []bool{false, true} {
				name := fmt.Sprintf("rate=%d/proxied=%v/reverse=%v", slow, proxied, reverse)
				t.Run(name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						testLinkBecomesSlow(t, slow, proxied, reverse)
					})
				})
			}
		}
	}
}

func testLinkBecomesSlow(t *testing.T, slow int, proxied, reverse bool) {
	const fast = 20 << 20
	l := &slowLink{t: t, rate: [2]int{fast, fast}, proxied: proxied}
	l.start()
	from, to := l.open(false, reverse)
	var moving sync.WaitGroup
	moving.Go(func() { l.move(from, to, 2*fast, 2*fast) })
	time.Sleep(time.Second) // synctest: the session knows the rate
	l.rate = [2]int{slow, slow}
	l.resume()
	before := l.client.Stats().Received + l.server.Stats().Received
	time.Sleep(time.Minute) // synctest
	l.checkLosses()
	after := l.client.Stats().Received + l.server.Stats().Received
	if moved := after - before; moved < uint64(40*slow) {
		t.Errorf("%d bytes in a minute", moved)
	}
	l.rate = [2]int{fast, fast}
	l.resume()
	moving.Wait()
	l.checkLosses()
}

// TestProbeOfSlowLink probes while large records are on their way: the carriers stay.
func TestProbeOfSlowLink(t *testing.T) {
	for _, reverse := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			l := &slowLink{t: t, rate: [2]int{8_000, 8_000}}
			l.start()
			from, to := l.open(false, reverse)
			var moving sync.WaitGroup
			moving.Go(func() { l.move(from, to, 200_000, 200_000) })
			for range 100 {
				time.Sleep(200 * time.Millisecond) // synctest
				l.client.Probe()
				l.server.Probe()
			}
			moving.Wait()
			l.checkLosses()
		})
	}
}

// TestDeadLink lets links die under load: that is noticed as soon as the peer has been silent for
// long enough, however much was on its way.
func TestDeadLink(t *testing.T) {
	for _, rate := range []int{8_000, 100_000, 10 << 20} {
		for _, probed := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				l := &slowLink{t: t, rate: [2]int{rate, rate}}
				l.start()
				from, to := l.open(false, false)
				go io.Copy(from, zeros{})
				go io.Copy(io.Discard, to)
				time.Sleep(20 * time.Second) // synctest
				l.die()
				want := max(DefaultPatience, 4*l.client.Stats().SmoothedRTT)
				if probed {
					l.client.Probe()
					want = max(probePatience, 4*l.client.Stats().SmoothedRTT)
				}
				died := time.Now()
				if err := l.client.AwaitLoss(context.Background()); err != nil {
					t.Fatal(err)
				}
				// What arrived before it died is still acknowledged, by TCP and by the peer.
				took := time.Since(died)
				if took > want+2*slowDelay+ackDelay {
					t.Errorf("%d bytes a second, probed: %v: after %v, want %v", rate, probed, took, want)
				}
				from.Close()
			})
		}
	}
}

// zeros is an endless source.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// TestDeadLinkBehindProxy lets links die behind a proxy that takes all that is written, of new
// streams and datagrams, too: that hides nothing.
func TestDeadLinkBehindProxy(t *testing.T) {
	for _, pause := range []time.Duration{time.Millisecond, 7 * time.Millisecond, time.Second} {
		synctest.Test(t, func(t *testing.T) {
			l := &slowLink{t: t, rate: [2]int{10 << 20, 10 << 20}, proxied: true}
			l.start()
			from, _ := l.open(false, false)
			flow, err := l.client.OpenFlowAtOnce("h:1")
			if err != nil {
				t.Fatal(err)
			}
			acceptFlow(t, l.server)
			defer flow.Close()
			every(t, pause, func() {
				flow.Send(make([]byte, 100))
				from.Write([]byte("x"))
			})
			time.Sleep(10 * time.Second) // synctest
			l.die()
			most := DefaultPatience + probePatience
			if took := lossAfter(t, l.client); took < DefaultPatience-slowDelay || took > most {
				t.Errorf("pauses of %v: after %v, want %v at most", pause, took, most)
			}
			from.Close()
		})
	}
}

// TestResetAmongManyStreams: on a slow link a stream may wait long for its turn. That is no reason
// to drop what was written before it was reset.
func TestResetAmongManyStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &slowLink{t: t, rate: [2]int{8_000, 80_000}}
		l.start()
		for range 40 {
			from, to := l.open(false, false)
			go io.Copy(from, zeros{})
			go io.Copy(io.Discard, to)
		}
		from, to := l.open(false, false)
		sent := randomBytes(t, 32<<10)
		from.Write(sent)
		from.CloseWithReset(CodeAborted)
		got, err := io.ReadAll(to)
		var reset *ResetError
		if !bytes.Equal(got, sent) || !errors.As(err, &reset) || reset.Code != CodeAborted {
			t.Errorf("read %d bytes of %d, %v", len(got), len(sent), err)
		}
		to.Close()
	})
}

// TestAwaitSent waits for what a slow link carries.
func TestAwaitSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate = 8_000
		l := &slowLink{t: t, rate: [2]int{rate, 10 * rate}}
		l.start()
		from, to := l.open(false, false)
		from.Write(make([]byte, 10*rate))
		from.CloseWrite()
		began := time.Now()
		if err := from.AwaitSent(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took < 10*time.Second || took > 12*time.Second {
			t.Errorf("what takes 10 s took %v", took)
		}
		if n := l.server.Stats().Buffered; n < 10*rate {
			t.Errorf("%d bytes have arrived", n)
		}
		from.Close()
		to.Close()

		from, to = l.open(false, false)
		from.Write(make([]byte, 10*rate))
		from.CloseWrite()
		to.Reset(CodeAborted) // it wants no more
		if err := from.AwaitSent(t.Context()); err != nil {
			t.Error(err)
		}

		from, _ = l.open(false, false)
		from.Write(make([]byte, 10*rate))
		from.CloseWrite()
		ended := make(chan error, 1)
		go func() { ended <- from.AwaitSent(t.Context()) }()
		time.Sleep(time.Second) // synctest
		l.client.Close()
		var lost *SessionError
		if err := <-ended; !errors.As(err, &lost) {
			t.Errorf("the session has ended, and AwaitSent returns %v", err)
		}
	})
}
