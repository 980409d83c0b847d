package mux

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"culvert/internal/testnet"
	"culvert/tunnel/mux/pace"
)

// pipeCarrier is one end of a carrier over channels, in place of the network.
type pipeCarrier struct {
	in, out   chan []byte
	closed    chan struct{}
	closeOnce *sync.Once
}

func newPipe() (a, b *pipeCarrier) {
	x, y := make(chan []byte, 4), make(chan []byte, 4)
	closed, once := make(chan struct{}), new(sync.Once)
	return &pipeCarrier{x, y, closed, once}, &pipeCarrier{y, x, closed, once}
}

func (p *pipeCarrier) ReadRecord(buf []byte) ([]byte, error) {
	select {
	case b := <-p.in:
		return append(buf[:0], b...), nil
	case <-p.closed:
	}
	select { // what was written before the end still arrives
	case b := <-p.in:
		return append(buf[:0], b...), nil
	default:
		return nil, io.ErrUnexpectedEOF
	}
}

func (p *pipeCarrier) WriteRecords(records ...[]byte) error {
	for _, b := range records {
		select {
		case p.out <- append([]byte(nil), b...):
		case <-p.closed:
			return io.ErrClosedPipe
		}
	}
	return nil
}

func (p *pipeCarrier) Close() error {
	p.closeOnce.Do(func() { close(p.closed) })
	return nil
}

// newPair starts a session, and returns both ends, which are closed when the test ends.
func newPair(t testing.TB, clientCfg, serverCfg Config) (client, server *Session) {
	t.Helper()
	near, far := newPipe()
	return startPair(t, near, clientCfg, func() (*Session, error) {
		return NewServer(context.Background(), far, serverCfg)
	})
}

// startPair starts a client's session on a carrier together with the server's, which serve starts
// on the other end, and closes both at the end of the test.
func startPair(
	t testing.TB, near Carrier, clientCfg Config, serve func() (*Session, error),
) (client, server *Session) {
	t.Helper()
	var starting sync.WaitGroup
	starting.Go(func() {
		var err error
		if server, err = serve(); err != nil {
			t.Error(err)
		}
	})
	client, err := NewClient(context.Background(), near, clientCfg)
	if err != nil {
		t.Fatal(err)
	}
	if starting.Wait(); server == nil {
		t.FailNow()
	}
	t.Cleanup(func() {
		client.Close()
		server.Close()
	})
	return client, server
}

// openPair opens one stream and returns both ends.
func openPair(t testing.TB, client, server *Session) (opened, accepted *Stream) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	got := make(chan *Stream, 1)
	go func() {
		st, err := acceptStream(ctx, server)
		if err != nil {
			t.Error(err)
		}
		got <- st
	}()
	opened, err := client.Open(ctx, Target{StreamTCP, "example.test:80"})
	if err != nil {
		t.Fatal(err)
	}
	return opened, <-got
}

// acceptStream accepts the next stream of a session, and confirms it.
func acceptStream(ctx context.Context, s *Session) (*Stream, error) {
	in, err := s.Accept(ctx)
	if err != nil {
		return nil, err
	}
	return in.(*IncomingStream).Confirm()
}

// acceptFlow accepts the next flow of a session, and does not answer.
func acceptFlow(t testing.TB, s *Session) *Flow {
	t.Helper()
	in, err := s.Accept(testnet.Within(t, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return in.(*IncomingFlow).flow
}

// isRefused reports whether an error is a refusal with the code.
func isRefused(err error, code Code) bool {
	var refused *OpenError
	return errors.As(err, &refused) && refused.Code == code
}

func randomBytes(t testing.TB, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}

// answersOf returns the frames that a session's peer has caused and not acknowledged.
func answersOf(s *Session) frameCount {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.controlLoadLocked().answers
}

// lastRTT returns the round trip of a session's last ping, 0 before the first.
func lastRTT(s *Session) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pings.roundTrip
}

// waitStreams waits until the session has n streams.
func waitStreams(t testing.TB, s *Session, n int) {
	t.Helper()
	timeout := time.AfterFunc(10*time.Second, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})
	defer timeout.Stop()
	deadline := time.Now().Add(10 * time.Second)
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.streams.byID) != n {
		if !time.Now().Before(deadline) {
			t.Fatalf("%d streams, want %d", len(s.streams.byID), n)
		}
		s.changed.Wait()
	}
}

// rawPeer is the other end of a session under test, which sends and sees single frames.
type rawPeer struct {
	t       testing.TB
	carrier *pipeCarrier
	record  []byte // what is left of the record last read
}

// rawHello is what a rawPeer announces unless a test says otherwise.
var rawHello = hello{maxRecord: MaxRecordSize, firstCredit: DefaultWindow,
	maxStreams: DefaultMaxStreams}

// unboundInflight lets a session send without acknowledgements, to a peer that is the test, in
// records as large as those on a fast path.
func unboundInflight(s *Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cfg := paceConfig
	cfg.InitialInflight, cfg.FirstRecord = math.MaxUint64, maxData
	s.link.pace = pace.New(cfg, pace.Start{Now: time.Now()})
	s.out.wake.Broadcast()
}

// newRawClient starts a server session whose client is the test.
func newRawClient(t testing.TB, cfg Config, mine hello) (*Session, *rawPeer) {
	t.Helper()
	a, b := newPipe()
	mine.role = roleClient
	a.WriteRecords(appendHello(nil, mine))
	s, err := NewServer(context.Background(), b, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s, startRaw(t, s, a)
}

// newRawServer starts a client session whose server is the test.
func newRawServer(t testing.TB, cfg Config, mine hello) (*Session, *rawPeer) {
	t.Helper()
	a, b := newPipe()
	mine.role = roleServer
	b.WriteRecords(appendHello(nil, mine)) // the pipe holds it until the client has sent its own
	s, err := NewClient(context.Background(), a, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s, startRaw(t, s, b)
}

// startRaw reads the session's hello.
func startRaw(t testing.TB, s *Session, carrier *pipeCarrier) *rawPeer {
	unboundInflight(s)
	p := &rawPeer{t: t, carrier: carrier}
	if f, ok := p.next(); !ok || f.kind != kindHello {
		t.Fatal("the session sent no hello")
	}
	t.Cleanup(func() {
		carrier.Close()
		s.Wait()
	})
	return p
}

// send sends one record of frames. It ignores the end of the session.
func (p *rawPeer) send(frames ...[]byte) {
	p.carrier.WriteRecords(slices.Concat(frames...))
}

// next returns the next frame of the session, false when the carrier has ended.
func (p *rawPeer) next() (frame, bool) {
	p.t.Helper()
	for len(p.record) == 0 {
		var err error
		if p.record, err = p.carrier.ReadRecord(nil); err != nil {
			return frame{}, false
		}
	}
	f, rest, err := parseFrame(p.record)
	if err != nil {
		p.t.Fatal(err)
	}
	p.record = rest
	return f, true
}

// until returns the next frame of a kind and drops those before it.
func (p *rawPeer) until(k kind) frame {
	p.t.Helper()
	for {
		f, ok := p.next()
		if !ok {
			p.t.Fatalf("no frame 0x%02x before the end", uint8(k))
		}
		if f.kind == k {
			return f
		}
	}
}

// quiet waits until the session has nothing more to do, and returns what it has sent. For synctest
// bubbles only.
func (p *rawPeer) quiet() []frame {
	p.t.Helper()
	var frames []frame
	for {
		synctest.Wait()
		if len(p.record) == 0 && len(p.carrier.in) == 0 {
			return frames
		}
		f, ok := p.next()
		if !ok {
			p.t.Fatal("the session has ended")
		}
		frames = append(frames, f)
	}
}

// ofKind returns the frames of a kind.
func ofKind(frames []frame, k kind) []frame {
	return slices.DeleteFunc(slices.Clone(frames), func(f frame) bool { return f.kind != k })
}

// wire is a frame's bytes.
func wire(k kind, stream uint32, payload ...[]byte) []byte {
	return appendFrame(nil, k, stream, slices.Concat(payload...))
}

// wireOpen is an open frame's bytes.
func wireOpen(stream uint32, first ...byte) []byte {
	return wire(kindOpen, stream, openPayload(Target{StreamTCP, "h:1"}, first))
}

func u64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

func u16(v Code) []byte { return binary.BigEndian.AppendUint16(nil, uint16(v)) }

// accept opens a stream from the test's end, and accepts and confirms it at the session.
func (p *rawPeer) accept(s *Session, id uint32) *Stream {
	p.t.Helper()
	p.send(wireOpen(id))
	st, err := acceptStream(testnet.Within(p.t, 10*time.Second), s)
	if err != nil {
		p.t.Fatal(err)
	}
	p.until(kindOpened)
	return st
}
