package mux

import (
	"slices"
	"testing"
	"time"

	"culvert/tunnel/mux/pace"
)

// desk is a session whose writer is the test: it packs record after record and checks who was
// served.
type desk struct {
	t *testing.T
	s *Session
}

func newDesk(t *testing.T) *desk {
	s := makeSession(Config{}, false)
	s.peer = hello{maxRecord: MaxRecordSize, firstCredit: 1 << 30}
	s.link = newLink(s, nil, 0)
	unboundInflight(s)
	return &desk{t, s}
}

// stream makes a stream with n bytes to send.
func (d *desk) stream(n int) *Stream {
	st := newStream(d.s, d.s.streams.nextID, Target{}, true)
	d.s.streams.nextID += 2
	d.s.streams.ours++
	d.s.streams.byID[st.id] = &st.stream
	d.write(st, n)
	return st
}

// write adds to what the stream has to send, whatever the send buffer's size.
func (d *desk) write(st *Stream, n int) {
	if n > 0 {
		st.send.queue.write(make([]byte, n))
		d.s.wakeSenderLocked(&st.stream)
	}
}

// record packs the next record and returns its frames.
func (d *desk) record() []frame {
	d.t.Helper()
	_, b, _ := d.s.link.packLocked()
	var frames []frame
	for len(b) > 0 {
		f, rest, err := parseFrame(b)
		if err != nil {
			d.t.Fatal(err)
		}
		frames = append(frames, f)
		b = rest
	}
	return frames
}

// scheduled counts the streams in the scheduler's lists, and checks their links.
func (d *desk) scheduled() int {
	d.t.Helper()
	n := 0
	for _, l := range []*streamList{&d.s.sched.fresh, &d.s.sched.backlog} {
		var prev *stream
		for st := l.head; st != nil; st = st.turn.next {
			if st.turn.list != l || st.turn.prev != prev {
				d.t.Fatalf("stream %d is badly linked", st.id)
			}
			prev = st
			n++
		}
		if l.tail != prev {
			d.t.Fatal("a list's tail is wrong")
		}
	}
	return n
}

func TestFreshStreamOvertakesBacklog(t *testing.T) {
	d := newDesk(t)
	for range 4 {
		d.stream(1 << 20)
	}
	for range 10 {
		d.record()
	}
	small := d.stream(100)
	frames := d.record()
	if frames[0].stream != small.id || len(frames[0].payload) != 100 {
		t.Fatalf("first: %d bytes of stream %d", len(frames[0].payload), frames[0].stream)
	}
	if len(frames) < 2 {
		t.Fatal("the backlog got nothing of the record")
	}
}

func TestBulkStreamsShareEqually(t *testing.T) {
	for _, n := range []int{2, 3, 10} {
		d := newDesk(t)
		var streams []*Stream
		for range n {
			streams = append(streams, d.stream(4<<20))
		}
		for i := range 100 {
			d.record()
			least, most := streams[0].send.sent, streams[0].send.sent
			for _, st := range streams {
				least, most = min(least, st.send.sent), max(most, st.send.sent)
			}
			if most-least > maxData || (i >= n && least == 0) {
				t.Fatalf("%d streams, after %d records: between %d and %d bytes", n, i+1, least, most)
			}
		}
	}
}

// TestWakingStreamDoesNotStarveBacklog writes a full quantum to one stream after each record.
func TestWakingStreamDoesNotStarveBacklog(t *testing.T) {
	for _, piece := range []int{100, maxData / 2, maxData} {
		d := newDesk(t)
		bulk := d.stream(16 << 20)
		d.record()
		waking := d.stream(piece)
		before := bulk.send.sent
		for range 200 {
			d.record()
			if waking.send.queue.len == 0 {
				d.write(waking, piece)
			}
		}
		if got, other := bulk.send.sent-before, waking.send.sent; got+2*maxData < other {
			t.Errorf("pieces of %d: %d bytes of the backlog, %d of the stream that keeps waking", piece,
				got, other)
		}
		if waking.send.sent < 50*uint64(piece) {
			t.Errorf("pieces of %d: only %d bytes sent", piece, waking.send.sent)
		}
	}
}

// TestManyWakingStreamsDoNotStarveBacklog wakes streams in turn, so that there is nearly always a
// fresh one.
func TestManyWakingStreamsDoNotStarveBacklog(t *testing.T) {
	d := newDesk(t)
	bulk := d.stream(64 << 20)
	d.record()
	var waking []*Stream
	for range 8 {
		waking = append(waking, d.stream(1000))
	}
	before := bulk.send.sent
	for range 100 {
		for _, st := range waking {
			if st.send.queue.len == 0 {
				d.write(st, 1000)
			}
		}
		d.record()
	}
	if got := bulk.send.sent - before; got < 100*maxData/2 {
		t.Errorf("%d bytes of the backlog in 100 records", got)
	}
}

func TestRemovalWhileScheduled(t *testing.T) {
	for removed := range 5 {
		d := newDesk(t)
		var streams []*Stream
		for range 5 {
			streams = append(streams, d.stream(3*maxData))
		}
		for range removed { // some in the backlog, some fresh
			d.record()
		}
		before := d.scheduled()
		streams[removed].resetLocked(CodeAborted)
		streams[removed].resetLocked(CodeAborted)
		if n := d.scheduled(); n != before-1 {
			t.Fatalf("%d scheduled, want %d", n, before-1)
		}
		d.write(streams[removed], 10)
		for range 20 {
			for _, f := range d.record() {
				if f.stream == streams[removed].id && f.kind != kindReset {
					t.Fatalf("frame 0x%02x of a stream that was removed", uint8(f.kind))
				}
			}
		}
		for i, st := range streams {
			if want := uint64(3 * maxData); i != removed && st.send.sent != want {
				t.Errorf("stream %d sent %d bytes, want %d", st.id, st.send.sent, want)
			}
		}
		if n := d.scheduled(); n != 0 {
			t.Errorf("%d still scheduled", n)
		}
	}
}

// TestStreamWithoutCreditLeavesTheScheduler checks that a stream that may not send is not looked at
// for each record.
func TestStreamWithoutCreditLeavesTheScheduler(t *testing.T) {
	d := newDesk(t)
	st := d.stream(0)
	st.send.limit = 10
	d.write(st, 100)
	d.record()
	if frames := d.record(); len(frames) != 0 || d.scheduled() != 0 {
		t.Fatalf("frames %v, %d scheduled", frames, d.scheduled())
	}
	st.handleCreditLocked(100)
	if frames := d.record(); len(frames) != 1 || len(frames[0].payload) != 90 {
		t.Fatalf("frames %v", frames)
	}
}

func TestControlGoesFirst(t *testing.T) {
	d := newDesk(t)
	st := d.stream(maxData)
	d.s.received = 5
	d.s.queueCreditLocked(&st.stream)
	d.s.queueControlLocked(kindDraining, 0, nil)
	d.s.link.pong = pongState{due: true, token: 7}
	var kinds []kind
	for _, f := range d.record() {
		kinds = append(kinds, f.kind)
	}
	want := []kind{kindPong, kindAck, kindDraining, kindCredit, kindData}
	if !slices.Equal(kinds, want) {
		t.Fatalf("kinds %x, want %x", kinds, want)
	}
}

func BenchmarkScheduler(b *testing.B) {
	s := makeSession(Config{}, false)
	s.peer = hello{maxRecord: MaxRecordSize, firstCredit: 1 << 30}
	for i := range 1000 {
		st := newStream(s, uint32(2*i+2), Target{}, true)
		st.send.queue.write([]byte{1})
		s.wakeSenderLocked(&st.stream)
	}
	b.ReportAllocs()
	for b.Loop() {
		s.sched.next(maxData).turn.deficit -= maxData
	}
}

// fast gives the session a path that has delivered a gigabyte a second for a while.
func (d *desk) fast() {
	now := time.Now()
	c := pace.New(paceConfig, pace.Start{Now: now})
	for position := uint64(0); position < 1e9; {
		now = now.Add(10 * time.Millisecond)
		position += 10e6
		c.OnAck(now, position)
		c.OnRTTSample(now, time.Millisecond)
	}
	d.s.link.pace = c
}

// TestInteractiveStream: a stream that has little to send again and again shortens the others'
// turns on a very fast path; the ends of large ones don't, nor does a single little piece.
func TestInteractiveStream(t *testing.T) {
	for _, test := range []struct {
		name   string
		pieces []int
		want   bool
	}{
		{"one", []int{100}, false},
		{"several", []int{100, 2000, 1}, true},
		{"large", []int{5000, 5000, 5000}, false},
		{"ends of large ones", []int{40_000, maxData + 10, maxData + 10}, false},
		{"after a large one", []int{40_000, 100, 100}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := newDesk(t)
			d.fast()
			long := d.s.link.pace.TurnSize()
			st := d.stream(0)
			for _, n := range test.pieces {
				d.write(st, n)
				for len(d.record()) > 0 {
				}
			}
			if short := d.s.link.pace.TurnSize() < long; short != test.want {
				t.Errorf("turns are shorter: %v, want %v", short, test.want)
			}
		})
	}
}

// TestLongTurns: on a very fast path a stream with a backlog sends several frames at a time, and
// the streams share equally all the same.
func TestLongTurns(t *testing.T) {
	d := newDesk(t)
	d.fast()
	sent := make(map[uint32]int)
	for range 3 {
		d.stream(10 * d.s.link.pace.TurnSize())
	}
	turns, last := 0, uint32(0)
	for range 60 {
		for _, f := range d.record() {
			if f.stream != last {
				turns, last = turns+1, f.stream
			}
			sent[f.stream] += len(f.payload)
		}
	}
	least, most, all := 1<<30, 0, 0
	for _, n := range sent {
		least, most, all = min(least, n), max(most, n), all+n
	}
	full := all / d.s.link.pace.TurnSize()
	if turns < full || turns > full+6 { // the first turn of each is one frame
		t.Errorf("%d bytes, which are %d turns, in %d turns", all, full, turns)
	}
	if most-least > d.s.link.pace.TurnSize() {
		t.Errorf("the streams sent between %d and %d bytes", least, most)
	}
}
