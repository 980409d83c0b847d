package mux

import (
	"bytes"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"culvert/internal/rawsock"
	"culvert/internal/testnet"
)

// pairTime bounds what a test does with a [testnet.Pair].
const pairTime = 20 * time.Second

func eachSocket(t *testing.T, test func(t *testing.T, near, far net.Conn)) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			near, far := testnet.Pair(t, network, pairTime)
			test(t, near, far)
		})
	}
}

// held counts the blocks that a reader holds.
func (b *blockReader) held() int {
	return slices.IndexFunc(append(b.blocks[:], nil), func(c *block) bool { return c == nil })
}

// TestBlockReaderHoldsNothing: a reader that waits for its socket holds no block, and no memory for
// one, also where the socket can only be waited for.
func TestBlockReaderHoldsNothing(t *testing.T) {
	eachSocket(t, func(t *testing.T, near, far net.Conn) {
		in := newBlockReader(near)
		in.memory = &memory{}
		testBlockReaderHoldsNothing(t, in, far)
		if in.raw != nil {
			in.raw, in.waits, in.readable = nil, in.raw, in.hasWaited
			testBlockReaderHoldsNothing(t, in, far)
		}
	})
}

func testBlockReaderHoldsNothing(t *testing.T, in *blockReader, far net.Conn) {
	type call struct {
		done    bool
		held    int
		reading int64
	}
	calls := make(chan call, 16)
	ready := in.readable
	in.readable = func(fd uintptr) bool {
		done := ready(fd)
		calls <- call{done, in.held(), in.memory.reading.Load()}
		return done
	}
	type result struct {
		n   int
		err error
	}
	results := make(chan result, 1)
	for _, want := range []string{"some", "more"} {
		go func() {
			n, err := in.read(DefaultSendBuffer)
			results <- result{n, err}
		}()
		if c := <-calls; c != (call{}) {
			t.Fatalf("while it waits: %+v", c)
		}
		far.Write([]byte(want))
		r := <-results
		if r.n != len(want) || r.err != nil || in.held() != 1 ||
			in.memory.reading.Load() != largeBlock {
			t.Fatalf("%d bytes, %v, in %d blocks", r.n, r.err, in.held())
		}
		var q queue
		in.moveTo(&q)
		checkQueue(t, &q, []byte(want))
		if q.mem != smallBlock || in.held() != 0 || in.memory.reading.Load() != 0 {
			t.Errorf("%d bytes of memory for %d, %d blocks still held", q.mem, len(want), in.held())
		}
		q.release()
		for len(calls) > 0 {
			<-calls
		}
	}
}

// TestBlockReaderReadsMany: a reader whose socket holds much reads several blocks at once, as far
// as there is room, and fewer again when less arrives.
func TestBlockReaderReadsMany(t *testing.T) {
	near, far := testnet.Pair(t, "unix", pairTime) // its buffers hold what was written
	if err := near.(*net.UnixConn).SetReadBuffer(1 << 20); err != nil {
		t.Fatal(err)
	}
	sent := randomBytes(t, 12*maxData+7)
	var writing sync.WaitGroup
	writing.Go(func() {
		if _, err := far.Write(sent); err != nil {
			t.Error(err)
		}
		far.(*net.UnixConn).CloseWrite()
	})
	defer writing.Wait()
	in := newBlockReader(near)
	var got []byte
	most := 0
	for {
		room := 1 << 20
		if len(got) > len(sent)/2 {
			room = 2*maxData + 1
		}
		n, err := in.read(room)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, in.held())
		if n > max(room, maxData) || in.held() != (n+maxData-1)/maxData {
			t.Fatalf("%d bytes in %d blocks, room for %d", n, in.held(), room)
		}
		var q queue
		in.moveTo(&q)
		if q.len != n {
			t.Fatalf("%d bytes queued of %d", q.len, n)
		}
		got = append(got, make([]byte, n)...)
		q.read(got[len(got)-n:])
	}
	if !bytes.Equal(got, sent) || in.held() != 0 {
		t.Errorf("%d bytes of %d, equal: %v; %d blocks held", len(got), len(sent),
			bytes.Equal(got, sent), in.held())
	}
	if most < 2 {
		t.Errorf("at most %d blocks at once", most)
	}
}

// TestReadFromSocket: what a socket sends arrives whole, its half-close as the end, and its reset
// as an error of the socket.
func TestReadFromSocket(t *testing.T) {
	eachSocket(t, func(t *testing.T, near, far net.Conn) {
		client, server := newPair(t, Config{}, Config{})
		opened, accepted := openPair(t, client, server)
		sent := randomBytes(t, 1<<20+13)
		var copying sync.WaitGroup
		copying.Go(func() {
			far.Write(sent)
			far.(interface{ CloseWrite() error }).CloseWrite()
		})
		copying.Go(func() {
			if n, err := opened.ReadFrom(near); n != int64(len(sent)) || err != nil {
				t.Errorf("%d bytes, %v", n, err)
			}
			opened.CloseWrite()
		})
		if got, err := io.ReadAll(accepted); err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%d bytes, equal: %v, %v", len(got), bytes.Equal(got, sent), err)
		}
		copying.Wait()
		near.Write([]byte("the other half lives on"))
		if got := make([]byte, 9); !readFull(far, got) || string(got) != "the other" {
			t.Errorf("after the half-close: %q", got)
		}
		opened.Close()
		accepted.Close()
	})
}

func readFull(r io.Reader, b []byte) bool {
	_, err := io.ReadFull(r, b)
	return err == nil
}

func TestReadFromResetSocket(t *testing.T) {
	near, far := testnet.Pair(t, "tcp", pairTime)
	client, server := newPair(t, Config{}, Config{})
	opened, accepted := openPair(t, client, server)
	far.Write([]byte("x"))
	failed := make(chan error, 1)
	go func() {
		_, err := opened.ReadFrom(near)
		failed <- err
	}()
	if !readFull(accepted, make([]byte, 1)) {
		t.Fatal("nothing arrived before the reset")
	}
	far.(*net.TCPConn).SetLinger(0)
	far.Close()
	err := <-failed
	if _, ours := errors.AsType[*CopyError](err); !ours || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v", err)
	}
	opened.Reset(CodeAborted)
	accepted.Close()
}

// stuck is a stream whose WriteTo waits for a socket that nobody reads.
type stuck struct {
	server           *Session
	opened, accepted *Stream
	near             net.Conn
	ended            chan error
}

func newStuck(t *testing.T, cfg Config) stuck {
	t.Helper()
	client, server := newPair(t, Config{}, cfg)
	s := stuck{server: server, ended: make(chan error, 1)}
	s.opened, s.accepted = openPair(t, client, server)
	near, far := testnet.Pair(t, "tcp", pairTime)
	near.(*net.TCPConn).SetWriteBuffer(64 << 10)
	far.(*net.TCPConn).SetReadBuffer(64 << 10)
	near.SetDeadline(time.Time{})
	s.near = near
	var copying sync.WaitGroup
	copying.Go(func() {
		_, err := s.accepted.WriteTo(near)
		s.ended <- err
	})
	copying.Go(func() { s.opened.Write(make([]byte, 16<<20)) })
	t.Cleanup(func() {
		s.opened.Close()
		s.accepted.Close()
		near.Close()
		copying.Wait()
	})
	s.until(t, "the window is full", func() bool {
		recv := &s.accepted.recv
		return recv.lentTo != nil && recv.received == recv.limit
	})
	return s
}

// until waits until the condition, which is checked with the server's mutex held, is true.
func (s *stuck) until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	timeout := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		s.server.mu.Lock()
		held := holds()
		s.server.mu.Unlock()
		if held {
			return
		}
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// end waits for WriteTo.
func (s *stuck) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-s.ended:
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("the write still waits")
		return nil
	}
}

// TestStuckWriteIsInterrupted: a write that waits for a socket returns when this side cuts its
// stream short. Only then is its memory freed and no longer counted.
func TestStuckWriteIsInterrupted(t *testing.T) {
	for _, c := range []struct {
		name string
		cut  func(*Stream)
		want error
	}{
		{"reset", func(st *Stream) { st.Reset(CodeAborted) }, syscall.ECONNRESET},
		{"close", func(st *Stream) { st.Close() }, net.ErrClosed},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStuck(t, Config{})
			if held := s.server.Stats().Buffered; held < DefaultWindow/2 {
				t.Errorf("%d bytes held while the write waits", held)
			}
			c.cut(s.accepted)
			if held := s.server.Stats().Buffered; held != 0 {
				t.Errorf("%d bytes held after the cut", held)
			}
			if err := s.end(t); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if held := s.server.Stats().Buffered; held != 0 {
				t.Errorf("%d bytes held at the end", held)
			}
			if _, err := s.near.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("a later write to the socket: %v", err)
			}
		})
	}
}

// TestStuckWriteCountsAgainstMemory: what a write holds counts, so that a session that exceeds its
// bound cuts the stream short.
func TestStuckWriteCountsAgainstMemory(t *testing.T) {
	s := newStuck(t, Config{})
	s.server.mu.Lock()
	s.server.cfg.MaxBuffered = s.server.memory.buffered - 1
	s.server.boundMemoryLocked()
	s.server.mu.Unlock()
	var reset *ResetError
	if err := s.end(t); !errors.As(err, &reset) || reset.Code != CodeOverload {
		t.Errorf("%v", err)
	}
	if held := s.server.Stats().Buffered; held != 0 {
		t.Errorf("%d bytes held at the end", held)
	}
}

// TestStuckWriteAfterPeersReset: what came before the peer's reset may still be written. Until it
// is, or the socket ends, it counts, though the stream has left the table.
func TestStuckWriteAfterPeersReset(t *testing.T) {
	s := newStuck(t, Config{})
	s.opened.Reset(CodeAborted)
	waitStreams(t, s.server, 0)
	if held := s.server.Stats().Buffered; held < DefaultWindow/2 {
		t.Errorf("%d bytes held while the write waits", held)
	}
	s.near.Close()
	var reset *ResetError
	if err := s.end(t); !errors.As(err, &reset) || !reset.Remote {
		t.Errorf("%v", err)
	}
	s.accepted.Close()
	if held := s.server.Stats().Buffered; held != 0 {
		t.Errorf("%d bytes held at the end", held)
	}
}

// filledBlocks returns blocks that hold the given texts, after some room.
func filledBlocks(texts ...string) (blocks [maxBlocks]*block) {
	for i, text := range texts {
		c := newBlock(smallBlock)
		c.r, c.w = 5, 5+copy(c.buf[5:], text)
		blocks[i] = c
	}
	return blocks
}

func TestBlockWriter(t *testing.T) {
	eachSocket(t, func(t *testing.T, near, far net.Conn) {
		for _, texts := range [][]string{{"one"}, {"one ", "two"}, {"one ", "two ", "three ", "four"}} {
			out := &blockWriter{out: rawsock.NewWriter(near), blocks: filledBlocks(texts...)}
			want := bytes.Join(slices.Collect(func(yield func([]byte) bool) {
				for _, text := range texts {
					yield([]byte(text))
				}
			}), nil)
			n, err := out.write()
			got := make([]byte, len(want))
			if n != int64(len(want)) || err != nil || !readFull(far, got) || !bytes.Equal(got, want) {
				t.Errorf("%q: %d bytes, %v, got %q", want, n, err, got)
			}
		}
	})
}

// forgetfulWriter takes a few bytes less than all and returns no error.
type forgetfulWriter struct{ less int }

func (w forgetfulWriter) Write(p []byte) (int, error) { return len(p) - w.less, nil }

func TestBlockWriterErrors(t *testing.T) {
	out := &blockWriter{out: rawsock.NewWriter(forgetfulWriter{1}), blocks: filledBlocks("four")}
	if n, err := out.write(); n != 3 || !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("a short write: %d bytes, %v", n, err)
	}
	out.interrupt() // of a writer without a deadline: nothing to do
	near, _ := testnet.Pair(t, "tcp", pairTime)
	near.Close()
	for _, texts := range [][]string{{"one"}, {"one", "two"}} {
		out = &blockWriter{out: rawsock.NewWriter(near), blocks: filledBlocks(texts...)}
		if n, err := out.write(); n != 0 || !errors.Is(err, net.ErrClosed) {
			t.Errorf("%d blocks to a closed socket: %d bytes, %v", len(texts), n, err)
		}
	}
}

// TestBlocksStayWhole: blocks of a socket's data are sent as they were read, each in one record,
// whatever came before them. What is no whole frame fills records up.
func TestBlocksStayWhole(t *testing.T) {
	const whole = maxData
	for _, c := range []struct {
		name   string
		credit int // of the stream, beyond its blocks; negative for less
		room   int // of a record
		blocks []int
		want   []int // data of each record
	}{
		{"alone", 0, maxRecord, []int{whole, whole, whole}, []int{whole, whole, whole}},
		{"after a little", 0, maxRecord, []int{100, whole, whole}, []int{100 + whole, whole}},
		{"after a short one", 0, maxRecord, []int{7000, whole, whole}, []int{7000, whole, whole}},
		{"credit of 2^63 and more", math.MinInt, maxRecord, []int{7000, whole, whole},
			[]int{7000, whole, whole}},
		{"half a record each", 0, maxRecord, []int{20_000, 20_000, 13_000},
			[]int{20_000, 33_000}},
		{"small ones", 0, maxRecord, []int{8000, 8000, 8000, 8000, 8000}, []int{
			maxRecord - 2*headerSize, 40_000 - (maxRecord - 2*headerSize)}},
		{"larger than a record", 0, 20_000, []int{7000, whole}, []int{
			20_000 - headerSize, 7000 + whole - (20_000 - headerSize)}},
		{"more than the credit", -whole / 2, maxRecord, []int{20_000, whole}, []int{
			maxRecord - 3*headerSize, 20_000 + whole/2 - (maxRecord - 3*headerSize)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDesk(t)
			d.s.peer.maxRecord = uint32(c.room)
			st := d.stream(0)
			total := c.credit
			for _, n := range c.blocks {
				b := newBlock(largeBlock)
				b.r, b.w = headroom, headroom+n
				st.send.queue.push(b)
				total += n
			}
			st.send.limit = uint64(total)
			d.s.wakeSenderLocked(&st.stream)
			var got []int
			for frames := d.record(); len(frames) > 0; frames = d.record() {
				n := 0
				for _, f := range frames {
					n += len(f.payload)
				}
				got = append(got, n)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("records of %d bytes of data, want %d", got, c.want)
			}
		})
	}
}

// TestAdopt: a block of data becomes the record if what precedes it fits before it, to the byte,
// and is copied otherwise.
func TestAdopt(t *testing.T) {
	for _, c := range []struct {
		name          string
		before        int // bytes of frames that are in the record first
		free, length  int // of the block of data: before it, and its own
		most          int // that may be sent
		adopted, seal bool
	}{
		{"plain", 0, headroom, maxData, maxData, true, false},
		{"room to the byte", headroom - headerSize, headroom, maxData, maxData, true, false},
		{"a byte too little room", headroom - headerSize + 1, headroom, maxData, maxData, false, false},
		{"no room at all", 0, 0, maxData, maxData, false, false},
		{"just worth it", 0, headroom, mergeBelow, maxData, true, false},
		{"not worth it", 0, headroom, mergeBelow - 1, maxData, false, false},
		{"credit for all", 0, headroom, 10_000, 10_000, true, false},
		{"credit for less", 0, headroom, 10_000, 9_999, false, false},
		{"at the block's end", 0, largeBlock - 10_000, 10_000, maxData, true, false},
		{"sealed", 16, headroom, 10_000, maxData, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDesk(t)
			st := d.stream(0)
			st.send.limit = uint64(c.most)
			data := newBlock(largeBlock)
			data.r, data.w = c.free, c.free+c.length
			content := randomBytes(t, c.length)
			copy(data.buf[data.r:], content)
			if c.seal {
				data.seal()
			}
			array := data.buf[:cap(data.buf)]
			st.send.queue.push(data)
			st.send.fin = true
			d.s.wakeSenderLocked(&st.stream)

			p := newPacker(d.s.room())
			before := randomBytes(t, c.before)
			p.b = append(p.b, before...)
			st.appendFramesLocked(&p, maxData)
			if adopted := p.block == data; adopted != c.adopted {
				t.Fatalf("adopted: %v", adopted)
			}
			if len(p.b) > p.room || p.room > d.s.room() || &p.b[0] != &p.block.buf[p.start] {
				t.Errorf("%d bytes of %d, the record is where its block says: %v", len(p.b), p.room,
					&p.b[0] == &p.block.buf[p.start])
			}
			if c.adopted && &array[p.start] != &p.b[0] {
				t.Error("the data was moved")
			}
			if !bytes.Equal(p.b[:c.before], before) {
				t.Error("what stood before is not whole")
			}
			f, rest, err := parseFrame(p.b[c.before:])
			sent := min(c.length, c.most)
			if err != nil || f.kind != kindData || f.stream != st.id ||
				!bytes.Equal(f.payload, content[:sent]) {
				t.Fatalf("frame 0x%02x of %d bytes, %v", uint8(f.kind), len(f.payload), err)
			}
			if room := p.room - c.before - headerSize - sent; sent == c.length &&
				(len(rest) > 0) != (room >= endSize) {
				t.Errorf("%d bytes after the data, room for %d", len(rest), room)
			}
			if len(rest) > 0 {
				if f, _, err = parseFrame(rest); err != nil || f.kind != kindFin {
					t.Errorf("frame 0x%02x after the data, %v", uint8(f.kind), err)
				}
			}
			if st.send.sent != uint64(sent) || st.send.queue.len != c.length-sent {
				t.Errorf("%d bytes counted, %d still queued", st.send.sent, st.send.queue.len)
			}
			p.sequenced(c.before, len(p.b))
			if got := p.block.buf[p.block.r:p.block.w]; !bytes.Equal(got, p.b[c.before:]) {
				t.Errorf("%d bytes would be kept, want %d", len(got), len(p.b)-c.before)
			}
		})
	}
}
