package mux

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"culvert/internal/testnet"
)

// openFlowPair opens a flow and returns both ends.
func openFlowPair(t testing.TB, client, server *Session) (opened, accepted *Flow) {
	t.Helper()
	opened, err := client.OpenFlowAtOnce("example.test:53")
	if err != nil {
		t.Fatal(err)
	}
	in, err := server.Accept(testnet.Within(t, 10*time.Second))
	if err == nil {
		accepted, err = in.(*IncomingFlow).Confirm()
	}
	if err != nil {
		t.Fatal(err)
	}
	if want := (Target{StreamUDP, "example.test:53"}); accepted.Target() != want {
		t.Fatalf("target %v, want %v", accepted.Target(), want)
	}
	return opened, accepted
}

// mustReceive returns the flow's next datagram.
func mustReceive(t testing.TB, f *Flow) []byte {
	t.Helper()
	p := make([]byte, MaxDatagram)
	f.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, err := f.Receive(p)
	if err != nil {
		t.Fatal(err)
	}
	return p[:n]
}

func mustSend(t testing.TB, f *Flow, p []byte) {
	t.Helper()
	if _, err := f.Send(p); err != nil {
		t.Fatal(err)
	}
}

var datagramSizes = []int{0, 1, 512, 1472, 9000, maxPiece - 1, maxPiece, maxPiece + 1,
	2 * maxPiece, 65507, MaxDatagram}

// TestDatagramBoundaries sends datagrams of many sizes both ways: each arrives whole and alone.
func TestDatagramBoundaries(t *testing.T) {
	client, server := newPair(t, Config{}, Config{})
	opened, accepted := openFlowPair(t, client, server)
	for _, ends := range [][2]*Flow{{opened, accepted}, {accepted, opened}} {
		for _, size := range datagramSizes {
			want := randomBytes(t, size)
			mustSend(t, ends[0], want)
			if got := mustReceive(t, ends[1]); !bytes.Equal(got, want) {
				t.Errorf("a datagram of %d bytes arrives as %d others", size, len(got))
			}
		}
		for _, size := range []int{3, 0, 40000, 0, 5} {
			mustSend(t, ends[0], make([]byte, size))
		}
		for _, size := range []int{3, 0, 40000, 0, 5} {
			if got := mustReceive(t, ends[1]); len(got) != size {
				t.Errorf("%d bytes, want %d", len(got), size)
			}
		}
	}
	for _, s := range []*Session{client, server} {
		want := uint64(len(datagramSizes) + 5)
		if got := s.Stats().Datagrams; got != (DatagramStats{Sent: want, Received: want}) {
			t.Errorf("counted %+v", got)
		}
		if n := s.Stats().Buffered; n != 0 {
			t.Errorf("%d bytes held", n)
		}
	}
}

// TestDatagramWire shows the literal bytes, and that they count in no position.
func TestDatagramWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine := rawHello
		mine.maxRecord = minRecordSize
		s, p := newRawServer(t, Config{}, mine)
		before := s.Stats()
		st, err := s.OpenFlowAtOnce("h:1")
		if err != nil {
			t.Fatal(err)
		}
		mustSend(t, st, nil)
		mustSend(t, st, []byte("ab"))
		large := randomBytes(t, 5000)
		mustSend(t, st, large)
		frames := p.quiet()
		want := openPayload(Target{StreamUDP, "h:1"}, nil)
		if frames[0].kind != kindOpen || !bytes.Equal(frames[0].payload, want) {
			t.Errorf("first frame 0x%02x %q", uint8(frames[0].kind), frames[0].payload)
		}
		const room = minRecordSize
		const piece = room/2 - headerSize - 1
		for i, want := range [][]byte{{0}, []byte("\x00ab"), append([]byte{2}, large[:piece]...),
			append([]byte{3}, large[piece:2*piece]...), append([]byte{1}, large[2*piece:]...)} {
			if f := frames[1+i]; f.kind != kindDatagram || f.stream != 1 || !bytes.Equal(f.payload, want) {
				t.Errorf("frame 0x%02x for %d with %d bytes, want %d", uint8(f.kind), f.stream,
					len(f.payload), len(want))
			}
		}
		p.send(wire(kindOpened, 1), wire(kindDatagram, 1, []byte{2, 'c'}),
			wire(kindDatagram, 1, []byte{1, 'd'}))
		if got := mustReceive(t, st); string(got) != "cd" {
			t.Errorf("received %q", got)
		}
		after := s.Stats()
		sent, received := after.Sent-before.Sent, after.Received
		if sent != uint64(frames[0].size()) || received != headerSize {
			t.Errorf("positions %d and %d", sent, received)
		}
	})
}

// implements reports whether v has the methods of the interface T.
func implements[T any](v any) bool {
	_, ok := v.(T)
	return ok
}

// TestDatagramErrors asks for what is impossible. A flow and a stream can't be mistaken for each
// other.
func TestDatagramErrors(t *testing.T) {
	client, server := newPair(t, Config{}, Config{})
	stream, _ := openPair(t, client, server)
	opened, accepted := openFlowPair(t, client, server)
	for name, mistaken := range map[string]bool{
		"a stream is a Flow": implements[interface{ Send(p []byte) error }](stream) ||
			implements[interface{ Receive(p []byte) (int, error) }](stream),
		"a flow is a Reader":     implements[io.Reader](opened),
		"a flow is a Writer":     implements[io.Writer](opened),
		"a flow is a WriterTo":   implements[io.WriterTo](opened),
		"a flow is a ReaderFrom": implements[io.ReaderFrom](opened),
	} {
		if mistaken {
			t.Error(name)
		}
	}
	var refused *OpenError
	asStream := Target{StreamUDP, "h:1"}
	_, err := client.Open(context.Background(), asStream)
	if !errors.As(err, &refused) || refused.Code != CodeBadTarget {
		t.Errorf("a flow opened as a stream: %v", err)
	}
	_, err = client.OpenAtOnce(asStream, nil)
	if !errors.As(err, &refused) || refused.Code != CodeBadTarget {
		t.Errorf("a flow opened at once as a stream: %v", err)
	}
	if _, err := opened.Send(make([]byte, MaxDatagram+1)); !errors.Is(err, ErrDatagramSize) {
		t.Errorf("too large: %v", err)
	}
	if n := client.Stats().Datagrams.Dropped; n != 1 {
		t.Errorf("%d counted as dropped", n)
	}

	mustSend(t, accepted, []byte("longer"))
	mustSend(t, accepted, []byte("next"))
	short := make([]byte, 4)
	if n, err := opened.Receive(short); n != 4 || err != io.ErrShortBuffer || string(short) != "long" {
		t.Errorf("into a short buffer: %d, %v, %q", n, err, short)
	}
	if err := opened.Await(); err != nil {
		t.Errorf("waiting: %v", err)
	}
	if got := mustReceive(t, opened); string(got) != "next" {
		t.Errorf("after it: %q", got)
	}
	opened.SetReadDeadline(time.Now().Add(-1))
	if _, err := opened.Receive(short); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
	if err := opened.Await(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("waiting after the deadline: %v", err)
	}
}

// TestDatagramEnds ends flows in each way.
func TestDatagramEnds(t *testing.T) {
	client, server := newPair(t, Config{}, Config{})
	receive := func(f *Flow) error {
		f.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, err := f.Receive(make([]byte, 10))
		return err
	}

	opened, accepted := openFlowPair(t, client, server)
	mustSend(t, accepted, []byte("the answer to open has come before this"))
	mustReceive(t, opened)
	mustSend(t, opened, []byte("last"))
	opened.Close()
	if _, err := opened.Send(nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("sending after Close: %v", err)
	}
	if got := mustReceive(t, accepted); string(got) != "last" {
		t.Errorf("before the end: %q", got)
	}
	if err := receive(accepted); err != io.EOF {
		t.Errorf("after the peer's Close: %v", err)
	}
	accepted.Close()

	opened, accepted = openFlowPair(t, client, server)
	accepted.Reset(CodeOverload)
	var reset *ResetError
	if err := receive(opened); !errors.As(err, &reset) || reset.Code != CodeOverload {
		t.Errorf("after a reset: %v", err)
	}
	if _, err := opened.Send(nil); !errors.As(err, &reset) {
		t.Errorf("sending after a reset: %v", err)
	}
	opened.Close()

	refused, err := client.OpenFlowAtOnce("h:1")
	if err != nil {
		t.Fatal(err)
	}
	mustSend(t, refused, []byte("early"))
	in, err := server.Accept(testnet.Within(t, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	in.Refuse(CodeNameNotFound, "")
	var refusal *OpenError
	if err := receive(refused); !errors.As(err, &refusal) || refusal.Code != CodeNameNotFound {
		t.Errorf("after a refusal: %v", err)
	}
	if _, err := refused.Send(nil); !errors.As(err, &refusal) {
		t.Errorf("sending after a refusal: %v", err)
	}
	refused.Close()

	_, err = client.OpenFlowAtOnce(string(make([]byte, maxTarget+1)))
	if !errors.As(err, &refusal) || refusal.Code != CodeBadTarget {
		t.Errorf("a long address: %v", err)
	}
	waitStreams(t, client, 0)
	waitStreams(t, server, 0)

	opened, _ = openFlowPair(t, client, server)
	server.Close()
	var lost *SessionError
	if err := receive(opened); !errors.As(err, &lost) {
		t.Errorf("after the session: %v", err)
	}
	if _, err := opened.Send(nil); !errors.As(err, &lost) {
		t.Errorf("sending after the session: %v", err)
	}
}

// TestEarlyDatagrams sends before the flow is accepted: nothing is lost, and there is no round trip
// to wait for.
func TestEarlyDatagrams(t *testing.T) {
	client, server := newPair(t, Config{}, Config{})
	opened, err := client.OpenFlowAtOnce("h:1")
	if err != nil {
		t.Fatal(err)
	}
	mustSend(t, opened, []byte("question"))
	accepted := acceptFlow(t, server)
	if got := mustReceive(t, accepted); string(got) != "question" {
		t.Errorf("received %q", got)
	}
}

// numbered returns a datagram that begins with its number.
func numbered(i, size int) []byte {
	p := make([]byte, size)
	binary.BigEndian.PutUint32(p, uint32(i))
	return p
}

// TestDatagramSendQueue floods a carrier that does not move: memory is bounded, and the newest are
// sent.
func TestDatagramSendQueue(t *testing.T) {
	for _, size := range []int{4, 1000, 40000} {
		synctest.Test(t, func(t *testing.T) {
			s, p := newRawServer(t, Config{}, rawHello)
			st, err := s.OpenFlowAtOnce("h:1")
			if err != nil {
				t.Fatal(err)
			}
			const sent = 100_000
			for i := range sent {
				mustSend(t, st, numbered(i, size))
				if i%1000 == 0 {
					synctest.Wait() // what the carrier takes is gone
				}
			}
			s.mu.Lock()
			if q := &st.queue; q.len > maxDatagramQueue || q.mem > maxDatagramQueue+2*largeBlock {
				t.Errorf("%d bytes in %d of memory", q.len, q.mem)
			}
			s.mu.Unlock()
			last, got := -1, 0
			var row []byte
			for _, f := range ofKind(p.quiet(), kindDatagram) {
				if f.payload[0]&pieceContinues == 0 {
					row = row[:0]
				}
				row = append(row, f.payload[1:]...)
				if f.payload[0]&pieceMore != 0 {
					continue
				}
				i := int(binary.BigEndian.Uint32(row))
				if i <= last || len(row) != size {
					t.Fatalf("%d of %d bytes after %d", i, len(row), last)
				}
				last = i
				got++
			}
			stats := s.Stats().Datagrams
			if last != sent-1 || stats.Sent != uint64(got) || stats.Sent+stats.Dropped != sent ||
				stats.Dropped == 0 {
				t.Errorf("%d arrived, the last is %d; %+v", got, last, stats)
			}
		})
	}
}

// TestDatagramWait lets datagrams wait too long: they are dropped, and what comes later is sent.
func TestDatagramWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := newRawServer(t, Config{Keepalive: -1}, rawHello)
		st, err := s.OpenFlowAtOnce("h:1")
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for len(p.carrier.in) < cap(p.carrier.in) { // nobody reads
			mustSend(t, st, []byte("on its way"))
			synctest.Wait()
		}
		mustSend(t, st, []byte("in the writer's hands"))
		synctest.Wait()
		for range 100 {
			mustSend(t, st, []byte("stale"))
		}
		time.Sleep(maxDatagramWait + time.Nanosecond)
		mustSend(t, st, []byte("fresh"))
		var got []string
		for _, f := range ofKind(p.quiet(), kindDatagram) {
			got = append(got, string(f.payload[1:]))
		}
		if slices.Contains(got, "stale") || got[len(got)-1] != "fresh" {
			t.Errorf("sent: %q", got)
		}
		if n := s.Stats().Datagrams.Dropped; n != 100 {
			t.Errorf("%d dropped, want 100", n)
		}
	})
}

// TestDatagramReceiveQueue floods flows that nobody reads: memory is bounded, the oldest datagrams
// are kept, and streams are not affected.
func TestDatagramReceiveQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 1 << 20
		s, p := newRawClient(t, Config{MaxBuffered: limit}, rawHello)
		data := p.accept(s, 1)
		var flows []*Flow
		for i := range 10 {
			p.send(wire(kindOpen, uint32(3+2*i), openPayload(Target{StreamUDP, ""}, nil)))
			flows = append(flows, acceptFlow(t, s))
		}
		const sent = 500
		for i := range sent {
			for _, f := range flows {
				p.send(wire(kindDatagram, f.id, []byte{0}, numbered(i, 1000)))
			}
			p.send(wire(kindData, 1, []byte("x")))
		}
		synctest.Wait()
		stats := s.Stats()
		if stats.Buffered > limit/2+2*largeBlock {
			t.Errorf("%d bytes held", stats.Buffered)
		}
		if d := stats.Datagrams; d.Dropped == 0 || d.Dropped+d.Received != sent*10 {
			t.Errorf("counted %+v", d)
		}
		if n, err := io.ReadFull(data, make([]byte, sent)); err != nil {
			t.Errorf("the stream of data gave %d bytes, %v", n, err)
		}
		for i := range 40 {
			if got := mustReceive(t, flows[0]); !bytes.Equal(got, numbered(i, 1000)) {
				t.Fatalf("datagram %d is %d", i, binary.BigEndian.Uint32(got))
			}
		}
		p.send(wire(kindDatagram, flows[0].id, []byte("\x00room again")))
		for _, f := range flows {
			f.Close()
		}
		synctest.Wait()
		if n := s.Stats().Buffered; n != 0 {
			t.Errorf("%d bytes held after all were closed", n)
		}
	})
}

// TestDatagramsAway breaks carriers while datagrams are on their way. Those that arrive are whole
// and in order, and what is sent while there is no carrier is dropped. The flow itself continues.
func TestDatagramsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, HostConfig{}, Config{})
		opened, accepted := openFlowPair(t, r.client, r.server)
		sent := uint64(0)
		for round := range 20 {
			for range 10 {
				mustSend(t, opened, bytes.Repeat([]byte{byte(round)}, 40000+round))
				sent++
			}
			time.Sleep(time.Duration(round) * time.Millisecond)
			r.cut()
			synctest.Wait()
			r.client.mu.Lock()
			if n := opened.queue.len; n != 0 {
				t.Errorf("%d bytes are still queued", n)
			}
			r.client.mu.Unlock()
			mustSend(t, opened, []byte("while away"))
			sent++
			r.resume()
			mustSend(t, opened, []byte{byte(round)})
			sent++
			for got := []byte{0, 0}; len(got) > 1; {
				got = mustReceive(t, accepted)
				if !bytes.Equal(got, bytes.Repeat([]byte{byte(round)}, len(got))) ||
					(len(got) != 1 && len(got) != 40000+round) {
					t.Fatalf("round %d: %d bytes of %x", round, len(got), got[:min(len(got), 10)])
				}
			}
		}
		stats := r.client.Stats().Datagrams
		if stats.Sent+stats.Dropped != sent || stats.Dropped < 20 ||
			r.server.Stats().Datagrams.Received < 20 {
			t.Errorf("%d sent; %+v, then %+v", sent, stats, r.server.Stats().Datagrams)
		}
	})
}

// TestResetFlows ends the flows that one side opened, also one that waits for the answer, while
// there is no carrier. The other side's flows and all streams go on.
func TestResetFlows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, HostConfig{}, Config{})
		opened, accepted := openFlowPair(t, r.client, r.server)
		theirs, ours := openFlowPair(t, r.server, r.client)
		near, far := openPair(t, r.client, r.server)
		r.cut()
		waiting := make(chan error, 1)
		go func() {
			_, err := r.client.OpenFlow(context.Background(), "h:1")
			waiting <- err
		}()
		synctest.Wait()
		if n := r.client.ResetFlows(CodeDraining); n != 2 {
			t.Errorf("%d flows were reset, want 2", n)
		}
		if err := <-waiting; !isRefused(err, CodeDraining) {
			t.Errorf("the one that waited: %v", err)
		}
		var reset *ResetError
		if _, err := opened.Send(nil); !errors.As(err, &reset) || reset.Remote {
			t.Errorf("send: %v", err)
		}
		if err := opened.Await(); !errors.As(err, &reset) || reset.Remote {
			t.Errorf("receive: %v", err)
		}
		r.resume()
		if err := accepted.Await(); !errors.As(err, &reset) || !reset.Remote {
			t.Errorf("the peer receives: %v", err)
		}
		mustSend(t, theirs, []byte("on"))
		if got := mustReceive(t, ours); string(got) != "on" {
			t.Errorf("the peer's flow brings %q", got)
		}
		go io.WriteString(far, "on")
		got := make([]byte, 2)
		if _, err := io.ReadFull(near, got); err != nil || string(got) != "on" {
			t.Errorf("the stream brings %q, %v", got, err)
		}
	})
}

// piece is a frame of a datagram.
type piece struct {
	flags byte
	text  string
}

// TestBrokenDatagrams interrupts rows of frames at each place: an incomplete datagram is never
// received.
func TestBrokenDatagrams(t *testing.T) {
	for _, test := range []struct {
		pieces []piece
		want   []string
	}{
		{[]piece{{2, "a"}, {0, "b"}}, []string{"b"}},
		{[]piece{{2, "a"}, {3, "b"}, {2, "c"}, {1, "d"}}, []string{"cd"}},
		{[]piece{{1, "a"}, {3, "b"}, {1, "c"}, {0, "d"}}, []string{"d"}},
		{[]piece{{0, "a"}, {1, "b"}, {0, ""}}, []string{"a", ""}},
		{[]piece{{0, "a"}, {2, "b"}, {0, "c"}, {2, "d"}, {1, "e"}}, []string{"a", "c", "de"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, p := newRawClient(t, Config{}, rawHello)
			p.send(wire(kindOpen, 1, openPayload(Target{StreamUDP, "h:1"}, nil)))
			f := acceptFlow(t, s)
			for _, piece := range test.pieces {
				p.send(wire(kindDatagram, 1, []byte{piece.flags}, []byte(piece.text)))
			}
			for _, want := range test.want {
				if got := mustReceive(t, f); string(got) != want {
					t.Errorf("%v: received %q, want %q", test.pieces, got, want)
				}
			}
			f.SetReadDeadline(time.Now().Add(time.Second))
			if n, err := f.Receive(nil); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%v: one more of %d bytes, %v", test.pieces, n, err)
			}
		})
	}
}

// TestDatagramBreaches sends what the format forbids, and what it only drops.
func TestDatagramBreaches(t *testing.T) {
	open := wire(kindOpen, 1, openPayload(Target{StreamUDP, "h:1"}, nil))
	first := wire(kindDatagram, 1, []byte{2}, make([]byte, maxData))
	for name, frames := range map[string][][]byte{
		"no flags":          {open, wire(kindDatagram, 1)},
		"unknown flags":     {open, wire(kindDatagram, 1, []byte{4})},
		"empty first piece": {open, wire(kindDatagram, 1, []byte{2})},
		"empty further piece": {open, wire(kindDatagram, 1, []byte{2, 'x'}),
			wire(kindDatagram, 1, []byte{1})},
		"too large":            {open, first, wire(kindDatagram, 1, []byte{1}, make([]byte, maxData))},
		"of the session":       {wire(kindDatagram, 0, []byte{0})},
		"on a stream of bytes": {wireOpen(1), wire(kindDatagram, 1, []byte{0})},
		"data":                 {open, wire(kindData, 1, []byte("x"))},
		"data in the open":     {wire(kindOpen, 1, openPayload(Target{StreamUDP, "h:1"}, []byte("x")))},
	} {
		s, p := newRawClient(t, Config{}, rawHello)
		for _, f := range frames {
			p.send(f)
		}
		if code, _ := p.until(kindClose).code(); code != CodeProtocol {
			t.Errorf("%s: closed with %v", name, code)
		}
		var breach *ProtocolError
		if err := s.Wait(); !errors.As(err, &breach) {
			t.Errorf("%s: the session ended with %v", name, err)
		}
	}
	s, p := newRawClient(t, Config{}, rawHello)
	p.send(wire(kindDatagram, 7, []byte{0}), wire(kindDatagram, 2, []byte{0}),
		wire(kindPing, 0, u64(1)))
	p.until(kindPong)
	if n := s.Stats().Datagrams.Dropped; n != 2 {
		t.Errorf("%d dropped, want the 2 for streams that are not there", n)
	}
}

// TestDatagramFairness checks that flows and streams share records to within a quantum.
func TestDatagramFairness(t *testing.T) {
	for _, size := range []int{100, 1472, MaxDatagram} {
		d := newDesk(t)
		data := d.stream(20 * maxData)
		st := newFlow(d.s, d.s.streams.nextID, "", true)
		fill := func() {
			for st.queue.len < maxDatagramQueue/2 {
				st.queue.write(make([]byte, 8))
				st.queue.write(binary.BigEndian.AppendUint16(nil, uint16(size)))
				st.queue.write(make([]byte, size))
			}
			d.s.wakeSenderLocked(&st.stream)
		}
		sent := 0
		for range 10 {
			fill()
			for _, f := range d.record() {
				if f.kind == kindDatagram {
					sent += f.size()
				}
			}
			if off := sent - int(data.send.sent); off > 2*maxData || off < -2*maxData {
				t.Fatalf("size %d: %d bytes of datagrams, %d of data", size, sent, data.send.sent)
			}
		}
	}
}

// FuzzDatagramQueue queues arbitrary pieces between reads and compares what is received with a
// model.
func FuzzDatagramQueue(f *testing.F) {
	f.Add([]byte{0, 10, 2, 20, 1, 30, 4, 0, 4, 0})
	f.Add([]byte{2, 255, 3, 255, 3, 255, 1, 255, 4, 0, 1, 9, 2, 9, 0, 9, 4, 0})
	f.Fuzz(func(t *testing.T, ops []byte) {
		s := makeSession(Config{MaxBuffered: 512 << 10}, false)
		s.peer = hello{maxRecord: MaxRecordSize}
		st := newFlow(s, 1, "", false)
		s.streams.byID[1], s.streams.theirs = &st.stream, 1
		var queued [][]byte
		var row []byte
		random := rand.New(rand.NewPCG(1, 2))
		for ; len(ops) >= 2; ops = ops[2:] {
			if ops[0]&4 != 0 {
				if len(queued) == 0 {
					continue
				}
				got := make([]byte, MaxDatagram)
				n, err := st.Receive(got)
				if err != nil || !bytes.Equal(got[:n], queued[0]) {
					t.Fatalf("received %d bytes, %v, want %d", n, err, len(queued[0]))
				}
				queued = queued[1:]
				continue
			}
			flags, p := ops[0]&3, make([]byte, 1+int(ops[1])*64)
			for i := range p {
				p[i] = byte(random.Uint32())
			}
			if flags&pieceContinues == 0 {
				row = []byte{}
			}
			before := s.totals.Dropped
			s.mu.Lock()
			err := s.handleDatagramLocked(frame{kindDatagram, 1, append([]byte{flags}, p...)})
			s.mu.Unlock()
			if row != nil {
				row = append(row, p...)
			}
			if (err != nil) != (len(row) > MaxDatagram) {
				t.Fatalf("a datagram of %d bytes: %v", len(row), err)
			}
			if err != nil {
				return
			}
			switch {
			case s.totals.Dropped != before:
				row = nil
			case row != nil && flags&pieceMore == 0:
				queued, row = append(queued, row), nil
			}
			if st.recv.queue.len > maxDatagramQueue || st.recv.mem() != s.memory.buffered ||
				st.whole != len(queued) {
				t.Fatalf("%d bytes, %d held, %d counted; %d whole, want %d",
					st.recv.queue.len, st.recv.mem(), s.memory.buffered, st.whole, len(queued))
			}
		}
	})
}

func BenchmarkDatagrams(b *testing.B) {
	for _, size := range []int{64, 1472} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			client, server := newPair(b, Config{}, Config{})
			opened, accepted := openFlowPair(b, client, server)
			go func() {
				p := make([]byte, MaxDatagram)
				for {
					if _, err := accepted.Receive(p); err != nil {
						return
					}
				}
			}()
			b.SetBytes(int64(size))
			b.ReportAllocs()
			p := make([]byte, size)
			for b.Loop() {
				mustSend(b, opened, p)
			}
			b.ReportMetric(float64(client.Stats().Datagrams.Dropped)/float64(b.N), "dropped/op")
		})
	}
}
