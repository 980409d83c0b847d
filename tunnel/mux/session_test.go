package mux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"culvert/protocol"
)

// TestHelloTimeout: with a peer that sends nothing, the caller's own limit is distinguished from
// the peer's silence.
func TestHelloTimeout(t *testing.T) {
	starts := map[string]func(context.Context, Carrier, Config) (*Session, error){
		"client": NewClient,
		"server": NewServer,
	}
	for name, start := range starts {
		cases := []struct {
			name  string
			ctx   func() (context.Context, context.CancelFunc)
			after time.Duration
			want  error
		}{
			{"silent peer", func() (context.Context, context.CancelFunc) {
				return context.WithCancel(context.Background())
			}, DefaultHelloTimeout, ErrNotCulvert},
			{"caller's deadline", func() (context.Context, context.CancelFunc) {
				return context.WithTimeout(context.Background(), 3*time.Second)
			}, 3 * time.Second, context.DeadlineExceeded},
			{"cancelled", func() (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancel(context.Background())
				time.AfterFunc(2*time.Second, cancel)
				return ctx, cancel
			}, 2 * time.Second, context.Canceled},
		}
		for _, c := range cases {
			t.Run(name+", "+c.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx, cancel := c.ctx()
					defer cancel()
					carrier, _ := newPipe()
					began := time.Now()
					_, err := start(ctx, carrier, Config{})
					if took := time.Since(began); took != c.after || !errors.Is(err, c.want) {
						t.Errorf("after %v: %v, want after %v: %v", took, err, c.after, c.want)
					}
					if !isClosed(carrier) {
						t.Error("the carrier is still open")
					}
				})
			})
		}
	}
}

func isClosed(p *pipeCarrier) bool {
	select {
	case <-p.closed:
		return true
	default:
		return false
	}
}

// TestBadHello answers a client's hello with something else, or with an unusable hello.
func TestBadHello(t *testing.T) {
	good := rawHello
	good.role = roleServer
	with := func(change func(*hello)) []byte {
		h := good
		change(&h)
		return appendHello(nil, h)
	}
	flip := func(offset int) []byte {
		b := appendHello(nil, good)
		b[offset] ^= 0xff
		return b
	}
	const notCulvert, protocolErr = "not culvert", "protocol error"
	for _, c := range []struct {
		name   string
		record []byte
		want   string
	}{
		{"good", appendHello(nil, good), ""},
		{"with a later version's bytes", append(appendHeader(nil, kindHello, 0, helloSize+3),
			append(appendHello(nil, good)[headerSize:], 1, 2, 3)...), ""},
		{"empty record", nil, notCulvert},
		{"text", []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), notCulvert},
		{"another frame", wire(kindPing, 0, u64(1)), notCulvert},
		{"an echo", with(func(h *hello) { h.role = roleClient }), notCulvert},
		{"magic", flip(headerSize + 3), notCulvert},
		{"truncated", appendHello(nil, good)[:headerSize+helloSize-1], notCulvert},
		{"short payload", wire(kindHello, 0, appendHello(nil, good)[headerSize:headerSize+helloSize-1]),
			notCulvert},
		{"on a stream", flip(7), notCulvert},
		{"version", flip(headerSize + len(helloMagic)), protocolErr},
		{"small records", with(func(h *hello) { h.maxRecord = minRecordSize - 1 }), protocolErr},
		{"send position", with(func(h *hello) { h.sendPosition = 1 }), protocolErr},
		{"receive position", with(func(h *hello) { h.receivePosition = 1 }), protocolErr},
		{"followed by a frame", append(appendHello(nil, good), wire(kindPing, 0, u64(1))...),
			protocolErr},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := newPipe()
			b.WriteRecords(c.record)
			s, err := NewClient(context.Background(), a, Config{})
			var breach *ProtocolError
			got := fmt.Sprint(err)
			switch {
			case err == nil:
				got = ""
				s.Close()
			case errors.Is(err, ErrNotCulvert):
				got = notCulvert
			case errors.As(err, &breach):
				got = protocolErr
			}
			if got != c.want {
				t.Errorf("%q (%v), want %q", got, err, c.want)
			}
			if !isClosed(a) {
				t.Error("the carrier is still open")
			}
		})
	}
}

// TestCloseIsBounded closes a session whose carrier blocks: its writer waits in WriteRecords.
func TestCloseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, p := newRawClient(t, Config{}, rawHello)
		st := p.accept(server, 1)
		go st.Write(make([]byte, DefaultWindow))
		synctest.Wait()
		if free := cap(p.carrier.in) - len(p.carrier.in); free != 0 {
			t.Fatalf("the carrier has room for %d records", free)
		}
		began := time.Now()
		closed := make(chan time.Duration, 2)
		for range 2 {
			go func() {
				server.Close()
				closed <- time.Since(began)
			}()
		}
		for range 2 {
			if took := <-closed; took != closeTimeout {
				t.Errorf("Close took %v", took)
			}
		}
		if err := server.Wait(); !errors.Is(err, ErrSessionClosed) || !errors.Is(err, net.ErrClosed) {
			t.Errorf("the session ended with %v", err)
		}
		if _, err := st.Write([]byte("x")); !errors.Is(err, ErrSessionClosed) {
			t.Errorf("write: %v", err)
		}
		if _, err := server.Accept(context.Background()); !errors.Is(err, ErrSessionClosed) {
			t.Errorf("accept: %v", err)
		}
		if _, err := server.Open(context.Background(), Target{}); !errors.Is(err, ErrSessionClosed) {
			t.Errorf("open: %v", err)
		}
		if _, err := server.Ping(context.Background()); !errors.Is(err, ErrSessionClosed) {
			t.Errorf("ping: %v", err)
		}
	})
}

func TestCloseTellsThePeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := newPair(t, Config{}, Config{})
		began := time.Now()
		server.CloseWith(CodeInternal, "ran out of\tpaper")
		var closed *CloseError
		if err := client.Wait(); !errors.As(err, &closed) ||
			*closed != (CloseError{CodeInternal, "ran out of?paper"}) {
			t.Errorf("client: %v", err)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("Close took %v", took)
		}
		if err := server.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
	})
}

// TestCarrierLost checks that a session fails with its carrier's error, and its streams with the
// session's.
func TestCarrierLost(t *testing.T) {
	client, server := newPair(t, Config{}, Config{})
	a, b := openPair(t, client, server)
	client.link.carrier.Close()
	for _, s := range []*Session{client, server} {
		if err := s.Wait(); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("the session ended with %v", err)
		}
	}
	for _, st := range []*Stream{a, b} {
		var lost *SessionError
		if _, err := st.Read(make([]byte, 1)); !errors.As(err, &lost) {
			t.Errorf("read: %v", err)
		}
		st.Close()
	}
}

// TestOpenSeesEnd answers a client's open oddly: each answer must end it, and leave nothing behind.
func TestOpenSeesEnd(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer func(p *rawPeer)
		want   Code
	}{
		{"reset", func(p *rawPeer) { p.send(wire(kindReset, 1, u16(CodeAborted))) }, CodeAborted},
		{"fin", func(p *rawPeer) { p.send(wire(kindFin, 1)) }, 0},
		{"data, then reset", func(p *rawPeer) {
			p.send(wire(kindData, 1, []byte("early")), wire(kindReset, 1, u16(CodeAborted)))
		}, CodeAborted},
		{"data, then the session's end", func(p *rawPeer) {
			p.send(wire(kindData, 1, []byte("early")))
			p.carrier.Close()
		}, 0},
		{"data, then refused", func(p *rawPeer) {
			p.send(wire(kindData, 1, []byte("early")), wire(kindRefused, 1, u16(CodeTimeout)))
		}, CodeTimeout},
		{"the session's end", func(p *rawPeer) { p.carrier.Close() }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, p := newRawServer(t, Config{}, rawHello)
			go func() {
				if f, ok := p.next(); !ok || f.kind != kindOpen {
					t.Errorf("frame %v", f)
				}
				c.answer(p)
			}()
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			_, err := client.Open(ctx, Target{StreamTCP, "h:1"})
			var refused *OpenError
			var lost *SessionError
			switch {
			case errors.As(err, &refused) && refused.Code == c.want:
			case errors.As(err, &lost) && c.want == 0:
			default:
				t.Errorf("open: %v", err)
			}
			if stats := client.Stats(); stats.Buffered != 0 || stats.Streams != 0 {
				t.Errorf("left behind: %+v", stats)
			}
		})
	}
}

func TestOpenKeepsToLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine := rawHello
		mine.maxStreams = 2
		client, p := newRawServer(t, Config{}, mine)
		long := make([]byte, maxTarget+1)
		_, err := client.Open(context.Background(), Target{StreamTCP, string(long)})
		if !isRefused(err, CodeBadTarget) {
			t.Errorf("long target: %v", err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		for range 2 {
			go client.Open(ctx, Target{StreamTCP, string(long[1:])})
		}
		if opens := ofKind(p.quiet(), kindOpen); len(opens) != 2 || opens[0].stream != 1 ||
			opens[1].stream != 3 {
			t.Errorf("frames %v", opens)
		}
		if _, err := client.Open(context.Background(), Target{}); !isRefused(err, CodeTooManyStreams) {
			t.Errorf("third open: %v", err)
		}
		cancel()
		p.quiet()
		client.mu.Lock()
		client.streams.nextID = 1<<32 - 3
		client.mu.Unlock()
		ctx, cancel = context.WithCancel(context.Background())
		go client.Open(ctx, Target{})
		if opens := ofKind(p.quiet(), kindOpen); len(opens) != 1 || opens[0].stream != 1<<32-3 {
			t.Errorf("the last open: %v", opens)
		}
		for range 2 {
			if _, err := client.Open(context.Background(), Target{}); !isRefused(err, CodeDraining) {
				t.Errorf("open without ids: %v", err)
			}
		}
		if drains := ofKind(p.quiet(), kindDraining); len(drains) != 1 {
			t.Errorf("the peer is told: %v", drains)
		}
		cancel()
	})
}

// TestResetsDoNotRaiseTheLimit resets each stream as soon as it is opened, so that few are ever in
// the table: what this side has to work on stays bounded all the same. Of those that were reset,
// only the ones with data to deliver are accepted.
func TestResetsDoNotRaiseTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit, flood = 10, 1000
		server, p := newRawClient(t, Config{MaxStreams: limit}, rawHello)
		var sent []frame
		for i := range flood {
			id, code := uint32(2*i+1), CodeCancelled
			if i%2 == 1 {
				code = CodeAborted
			}
			p.send(wireOpen(id, 'x'), wire(kindReset, id, u16(code)))
			sent = append(sent, p.quiet()...)
		}
		if refused := ofKind(sent, kindRefused); len(refused) != flood-limit {
			t.Errorf("%d of %d opens were refused", len(refused), flood)
		}
		for i := range limit / 2 {
			in, err := server.Accept(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if in.ID() != uint32(4*i+3) {
				t.Errorf("stream %d is accepted", in.ID())
			}
			in.unanswered().Close()
		}
		soon, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if in, err := server.Accept(soon); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("accepted %v, %v", in, err)
		}
		server.mu.Lock()
		if len(server.streams.incoming) != 0 || server.streams.theirs != 0 ||
			server.memory.buffered != 0 {
			t.Errorf("%d streams to accept, %d counted, %d bytes buffered", len(server.streams.incoming),
				server.streams.theirs, server.memory.buffered)
		}
		server.mu.Unlock()
		p.send(wireOpen(2*flood + 1))
		if refused := ofKind(p.quiet(), kindRefused); len(refused) != 0 {
			t.Error("refused with no stream left")
		}
	})
}

// TestPlannedCloseCutsShort closes a session's WebSocket as planned, which is not the clean end of
// a stream: what reads from one must not take its content for complete.
func TestPlannedCloseCutsShort(t *testing.T) {
	for _, read := range []struct {
		name string
		all  func(st *Stream) error
	}{
		{"read", func(st *Stream) error {
			_, err := io.ReadAll(st)
			return err
		}},
		{"write to", func(st *Stream) error {
			_, err := st.WriteTo(io.Discard)
			return err
		}},
		{"deliver", func(st *Stream) error {
			ended := make(chan error)
			st.Deliver(io.Discard, func(err error) { ended <- err })
			return <-ended
		}},
	} {
		t.Run(read.name, func(t *testing.T) {
			near, far := newSecuredPair(t)
			client, server := joinEnds(t, near, far, false)
			opened, accepted := openPair(t, client, server)
			if _, err := opened.Write([]byte("some")); err != nil {
				t.Fatal(err)
			}
			near.Close()
			err := read.all(accepted)
			var closed *protocol.PeerClosedError
			if err == nil || errors.Is(err, io.EOF) || !errors.As(err, &closed) {
				t.Errorf("a stream cut short ended with %v", err)
			}
		})
	}
}
