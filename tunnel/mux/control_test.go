package mux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// newRawResumable starts a session that can be resumed, as the client or the server, whose peer is
// the test.
func newRawResumable(t testing.TB, client bool, cfg Config) (*Session, *rawPeer) {
	t.Helper()
	near, far := newSecurePipe()
	near.delay, far.delay = 0, 0
	mine := rawHello
	mine.id, mine.window = sessionID{1}, time.Minute
	if client {
		mine.role = roleServer
		far.WriteRecords(appendHello(nil, mine)) // the pipe holds it
		s, err := NewClient(context.Background(), near, cfg)
		if err != nil {
			t.Fatal(err)
		}
		return s, startRaw(t, s, far.pipeCarrier)
	}
	mine.role = roleClient
	near.WriteRecords(appendHello(nil, mine))
	s, _, err := NewHost(HostConfig{}).Accept(context.Background(), far, cfg,
		Peer{Identity: owner})
	if err != nil {
		t.Fatal(err)
	}
	return s, startRaw(t, s, near.pipeCarrier)
}

// controlMemory returns the memory that a session holds for what it has sent and has to send.
func controlMemory(s *Session) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.retained.mem + s.out.control.mem
}

// attack is what a hostile peer sends to cause frames that it never acknowledges.
type attack struct {
	name string
	cfg  Config
	// frames appends the nth frames of the attack; first is the first id of the attacker's streams.
	frames func(b []byte, n, first uint32) []byte
	// use is what the session's user does with each stream that is opened.
	use func(in Incoming)
	own bool // the attack is on stream 1 or 2, which the session has opened itself
}

// data16 is a frame of 16 bytes on a stream.
func data16(b []byte, id uint32) []byte {
	return append(b, wire(kindData, id, make([]byte, 16))...)
}

var attacks = []attack{
	{name: "refused at once", cfg: Config{NoIncoming: true},
		frames: func(b []byte, n, first uint32) []byte {
			return append(b, wireOpen(first+2*n)...)
		}},
	{name: "refused by the user",
		frames: func(b []byte, n, first uint32) []byte {
			return append(b, wireOpen(first+2*n)...)
		},
		use: func(in Incoming) { in.Refuse(CodeDialFailed, strings.Repeat("x", maxText)) }},
	{name: "confirmed and ended",
		frames: func(b []byte, n, first uint32) []byte {
			return append(append(b, wireOpen(first+2*n)...), wire(kindFin, first+2*n)...)
		},
		use: func(in Incoming) {
			if st, err := in.(*IncomingStream).Confirm(); err == nil {
				st.Close()
			}
		}},
	{name: "confirmed and reset by the user",
		frames: func(b []byte, n, first uint32) []byte {
			return append(b, wireOpen(first+2*n)...)
		},
		use: func(in Incoming) {
			if st, err := in.(*IncomingStream).Confirm(); err == nil {
				st.Reset(CodeAborted)
			}
		}},
	{name: "credit of the peer's stream", cfg: Config{Window: 64},
		frames: func(b []byte, n, first uint32) []byte {
			if n == 0 {
				b = append(b, wireOpen(first)...)
			}
			return data16(b, first)
		},
		use: func(in Incoming) {
			if st, err := in.(*IncomingStream).Confirm(); err == nil {
				go io.Copy(io.Discard, st)
			}
		}},
	{name: "credit of the session's own stream", cfg: Config{Window: 64}, own: true,
		frames: func(b []byte, _, first uint32) []byte { return data16(b, 3-first) }},
}

// A peer that reads all and acknowledges nothing, at either end, has its session ended before much
// is retained for it. Each attack is of frames of one kind.
func TestUnacknowledgedAnswers(t *testing.T) {
	for _, a := range attacks {
		for _, client := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, client %v", a.name, client), func(t *testing.T) {
				testUnacknowledged(t, a, client)
			})
		}
	}
}

func testUnacknowledged(t *testing.T, a attack, client bool) {
	a.cfg.MaxStreams = leastLoadedStreams
	s, p := newRawResumable(t, client, a.cfg)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var users sync.WaitGroup
	if a.use != nil {
		users.Go(func() {
			for {
				in, err := s.Accept(ctx)
				if err != nil {
					return
				}
				a.use(in)
			}
		})
	}
	if a.own {
		st, err := s.OpenAtOnce(Target{StreamTCP, "h:1"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		p.until(kindOpen)
		users.Go(func() { io.Copy(io.Discard, st) })
	}
	closed := make(chan Code, 1)
	caused := make(chan int, 1024) // answers that have come
	users.Go(func() {
		defer close(caused)
		for {
			f, ok := p.next()
			switch {
			case !ok:
				return
			case f.kind == kindClose:
				code, _ := f.code()
				closed <- code
			case f.kind == kindCredit:
				caused <- 1
			}
		}
	})
	first := uint32(1)
	if client {
		first = 2
	}
	peak, sent := 0, 0
	const most = 64 << 20 // bytes of the attacker
	const perRecord = 16 << 10
	inflight := 0 // data of the attack on credit that is not answered yet
	for n := uint32(0); s.Err() == nil && sent < most && ctx.Err() == nil; {
		var record []byte
		if a.cfg.Window == 0 {
			for len(record) < perRecord {
				record = a.frames(record, n, first)
				n++
			}
		} else { // one credit frame for each data frame
			for ; inflight < 4; inflight++ {
				record = a.frames(record, n, first)
				n++
			}
		}
		p.send(record)
		sent += len(record)
		if a.cfg.Window != 0 {
			got, ok := <-caused
			if !ok {
				break
			}
			inflight -= got
		}
		peak = max(peak, controlMemory(s))
	}
	err := s.Err()
	s.Close()
	users.Wait()
	var breach *ProtocolError
	if !errors.As(err, &breach) || len(closed) != 1 || <-closed != CodeProtocol {
		t.Errorf("after %d bytes the session ended with %v", sent, err)
	}
	if peak > 8<<20 {
		t.Errorf("%d KiB were held for %d KiB of the peer", peak>>10, sent>>10)
	}
	t.Logf("ended after %d KiB with %d KiB held: %v", sent>>10, peak>>10, err)
}

// openMany opens n streams at once, and returns how many were refused with a code.
func openMany(t *testing.T, s *Session, n int, code Code) (refused int) {
	t.Helper()
	results := make(chan error, n)
	for i := range n {
		go func() {
			target := Target{StreamTCP, fmt.Sprintf("host-%d.example.test:443", i)}
			_, err := s.Open(context.Background(), target)
			results <- err
		}()
	}
	for range n {
		if isRefused(<-results, code) {
			refused++
		}
	}
	return refused
}

// refuseAll refuses all streams that come to a session.
func refuseAll(s *Session, code Code) {
	for {
		in, err := s.Accept(context.Background())
		if err != nil {
			return
		}
		in.Refuse(code, strings.Repeat("x", maxText))
	}
}

// slowDown resumes a rig's session on a carrier that takes its time for each record, as all later
// ones do.
func (r *rig) slowDown(delay time.Duration) {
	r.t.Helper()
	r.delay = delay
	r.cut()
	r.resume()
}

// disturb cuts and resumes a rig's session every two seconds until stop is closed. It returns the
// answers that the server had to retain when they were most.
func (r *rig) disturb(stop <-chan struct{}) (peak frameCount) {
	for {
		select {
		case <-stop:
			return peak
		default:
		}
		time.Sleep(time.Second) // synctest
		r.cut()
		if answers := answersOf(r.server); answers.frames > peak.frames {
			peak = answers
		}
		time.Sleep(time.Second) // synctest
		r.resume()
	}
}

// An honest peer on a slow link that loses its carrier again and again never comes near the bound,
// though it opens as many streams as it may and all are refused.
func TestManyRefusalsOnASlowLink(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
		code Code
	}{
		{"by the user", Config{}, CodeDialFailed},
		{"by the limit", Config{MaxStreams: DefaultMaxStreams, NoIncoming: true}, CodeNotAllowed},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, HostConfig{}, c.cfg)
				r.slowDown(100 * time.Millisecond)
				go refuseAll(r.server, c.code)
				stop, peak := make(chan struct{}), make(chan frameCount)
				go func() { peak <- r.disturb(stop) }()
				refused := 0
				for range 2 {
					refused += openMany(t, r.client, DefaultMaxStreams, c.code)
				}
				close(stop)
				most := <-peak
				if refused != 2*DefaultMaxStreams || r.server.Err() != nil || r.client.Err() != nil {
					t.Errorf("%d refused, %v, %v", refused, r.server.Err(), r.client.Err())
				}
				if most.frames > DefaultMaxStreams*maxStreamControl/2 ||
					most.bytes > DefaultMaxStreams*maxStreamControlBytes/2 {
					t.Errorf("%d answers of %d bytes", most.frames, most.bytes)
				}
				t.Logf("at most %d answers of %d bytes", most.frames, most.bytes)
				expectNoLoad(t, r)
			})
		})
	}
}

// All streams that a session may have send, get credit and end while there is no carrier for
// almost the whole resume window.
func TestManyStreamsWithoutACarrier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, HostConfig{}, Config{Window: 64})
		ends := [2][]*Stream{}
		for range DefaultMaxStreams / 4 {
			opened, accepted := openPair(t, r.client, r.server)
			back, far := openPair(t, r.server, r.client)
			ends[0] = append(ends[0], opened, far)
			ends[1] = append(ends[1], accepted, back)
		}
		var busy sync.WaitGroup
		for i, st := range ends[0] {
			busy.Go(func() { st.Write(make([]byte, 640)) })
			busy.Go(func() { io.CopyN(io.Discard, ends[1][i], 640) })
			busy.Go(func() { ends[1][i].Write(make([]byte, 640)) })
			busy.Go(func() { io.CopyN(io.Discard, st, 640) })
		}
		var most [2]frameCount
		r.delay = 2 * time.Millisecond
		for range 20 {
			r.resume()
			time.Sleep(100 * time.Millisecond) // synctest
			r.cut()
			for i, s := range []*Session{r.client, r.server} {
				if answers := answersOf(s); answers.frames > most[i].frames {
					most[i] = answers
				}
			}
		}
		time.Sleep(DefaultResumeWindow - time.Second) // synctest
		for i, st := range ends[0] {
			if i%2 == 0 {
				st.Close()
			} else {
				ends[1][i].Reset(CodeAborted)
			}
		}
		r.resume()
		busy.Wait()
		for _, st := range ends[1] {
			st.Close()
		}
		for _, st := range ends[0] {
			st.Close()
		}
		waitStreams(t, r.client, 0)
		waitStreams(t, r.server, 0)
		for _, m := range most {
			if m.frames < DefaultMaxStreams/16 || m.frames > DefaultMaxStreams*maxStreamControl/2 {
				t.Errorf("at most %d answers of %d bytes", m.frames, m.bytes)
			}
		}
		t.Logf("at most %d and %d answers", most[0].frames, most[1].frames)
		expectNoLoad(t, r)
	})
}

// Streams that are given up before they are answered cause answers as well, as fast as a slow link
// brings them.
func TestManyCancelledStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, HostConfig{}, Config{NoIncoming: true})
		r.slowDown(100 * time.Millisecond)
		cancelled, cancel := context.WithCancel(context.Background())
		cancel()
		peak := 0
		for i := range 4 * DefaultMaxStreams {
			_, err := r.client.Open(cancelled, Target{StreamTCP, "host.example.test:443"})
			if !errors.Is(err, context.Canceled) {
				t.Fatalf("open %d: %v", i, err)
			}
			if i%100 == 0 {
				time.Sleep(10 * time.Millisecond) // synctest
				peak = max(peak, answersOf(r.server).frames)
			}
		}
		time.Sleep(time.Minute) // synctest
		if r.server.Err() != nil || r.client.Err() != nil {
			t.Errorf("%v, %v", r.server.Err(), r.client.Err())
		}
		t.Logf("at most %d answers", peak)
		expectNoLoad(t, r)
	})
}

// A side whose user opens and gives up streams while there is no carrier stops to open them, and
// goes on once its frames are acknowledged.
func TestOpensAreBoundedWithoutACarrier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, HostConfig{}, Config{})
		r.cut()
		cancelled, cancel := context.WithCancel(context.Background())
		cancel()
		target := Target{StreamTCP, strings.Repeat("x", 250) + ":443"}
		opened := 0
		for ; opened < 10*DefaultMaxStreams*maxStreamControl; opened++ {
			_, err := r.client.Open(cancelled, target)
			if isRefused(err, CodeTooManyStreams) {
				break
			}
			if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		}
		if held := controlMemory(r.client); opened < DefaultMaxStreams || held > 16<<20 {
			t.Errorf("%d streams, %d KiB held", opened, held>>10)
		}
		r.resume()
		time.Sleep(time.Second) // synctest
		go refuseAll(r.server, CodeDialFailed)
		_, err := r.client.Open(context.Background(), target)
		if !isRefused(err, CodeDialFailed) {
			t.Errorf("open after the resumption: %v", err)
		}
		expectNoLoad(t, r)
	})
}

// expectNoLoad checks that neither end counts a frame once all is acknowledged.
func expectNoLoad(t *testing.T, r *rig) {
	t.Helper()
	time.Sleep(10 * time.Second) // synctest
	synctest.Wait()
	for _, s := range []*Session{r.client, r.server} {
		checkLoad(t, s)
		s.mu.Lock()
		if load := s.controlLoadLocked(); load != (controlLoad{}) || s.out.retained.mem != 0 {
			t.Errorf("%+v, %d bytes of memory are left", load, s.out.retained.mem)
		}
		s.mu.Unlock()
	}
}

// checkLoad compares a session's count of control frames with the frames that it holds. What is
// acknowledged counts until all of its block is.
func checkLoad(t *testing.T, s *Session) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	checkLoadLocked(t, s)
}

func checkLoadLocked(t *testing.T, s *Session) {
	t.Helper()
	queued := make([]byte, s.out.control.len)
	s.out.control.peek(queued)
	if got := s.loadIn(t, queued); got != s.out.queued {
		t.Errorf("%+v queued, %+v counted", got, s.out.queued)
	}
	var all, held controlLoad
	for g := s.out.retained.head; g != nil; g = g.next {
		all.add(g.record.load)
		held.add(s.loadIn(t, g.buf[g.r:g.w]))
	}
	first := controlLoad{}
	if g := s.out.retained.head; g != nil {
		first = g.record.load
	}
	if all != s.out.retained.load || held.answers.frames > all.answers.frames ||
		held.requests.bytes > all.requests.bytes ||
		all.answers.bytes-held.answers.bytes > first.answers.bytes {
		t.Errorf("%+v retained, %+v in blocks, %+v counted", held, all, s.out.retained.load)
	}
}

// loadIn counts the control frames among some frames.
func (s *Session) loadIn(t *testing.T, b []byte) (load controlLoad) {
	for len(b) > 0 {
		f, rest, err := parseFrame(b)
		if err != nil {
			t.Fatal(err)
		}
		if f.kind != kindData {
			load.add(s.loadOf(f.kind, f.stream, len(f.payload)))
		}
		b = rest
	}
	return load
}
