package mux

import (
	"context"
	"encoding/binary"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fuzzCarrier feeds a session with records and checks what it does with them.
type fuzzCarrier struct {
	t       *testing.T
	records [][]byte
	fed     int           // records that the session has taken
	s       *Session      // set before ready is closed
	ready   chan struct{} // the records after the hello may be read

	helloSent bool
	position  uint64 // sequenced bytes in the records that were taken
	sent      uint64 // sequenced bytes in the session's records
	lastAcked uint64
}

func (c *fuzzCarrier) ReadRecord(buf []byte) ([]byte, error) {
	if c.fed > 0 {
		<-c.ready
		c.checkState()
		synctest.Wait() // the streams' users have their turn
	}
	if c.fed == len(c.records) {
		return nil, io.EOF
	}
	record := c.records[c.fed]
	c.fed++
	for rest := record; len(rest) > 0 && c.fed > 1; {
		f, after, err := parseFrame(rest)
		if err != nil {
			break
		}
		if f.kind&sequencedBit != 0 {
			c.position += uint64(f.size())
		}
		rest = after
	}
	return append(buf[:0], record...), nil
}

// checkState is called between two records, which the session has therefore handled without an
// error.
func (c *fuzzCarrier) checkState() {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	if s.received != c.position {
		c.t.Errorf("position %d, want %d", s.received, c.position)
	}
	mem, ours := 0, 0
	for id, st := range s.streams.byID {
		mem += st.recv.mem()
		if st.ours {
			ours++
		}
		if st.removed || st.id != id || st.recv.received > st.recv.limit || st.send.sent > st.send.limit {
			c.t.Errorf("stream %d is inconsistent: %+v", id, st)
		}
	}
	for st := range s.streams.leftovers {
		mem += st.recv.mem()
	}
	checkLoadLocked(c.t, s)
	if mem != s.memory.buffered || mem > s.cfg.MaxBuffered {
		c.t.Errorf("%d bytes held, %d counted, %d allowed", mem, s.memory.buffered, s.cfg.MaxBuffered)
	}
	if ours != s.streams.ours || len(s.streams.byID)-ours > s.streams.theirs ||
		s.streams.theirs > s.cfg.MaxStreams || len(s.streams.incoming) > s.cfg.MaxStreams {
		c.t.Errorf("%d streams, %d ours, counted %d and %d, %d to accept", len(s.streams.byID), ours,
			s.streams.ours, s.streams.theirs, len(s.streams.incoming))
	}
}

func (c *fuzzCarrier) WriteRecords(records ...[]byte) error {
	for _, record := range records {
		c.checkRecord(record)
	}
	if c.helloSent {
		<-c.ready
		if sent := c.s.Stats().Sent; sent != c.sent {
			c.t.Errorf("position %d, want %d", sent, c.sent)
		}
	}
	c.helloSent = true
	return nil
}

// checkRecord checks a record that the session wrote.
func (c *fuzzCarrier) checkRecord(record []byte) {
	if len(record) == 0 || len(record) > maxRecord {
		c.t.Errorf("record of %d bytes", len(record))
	}
	for rest := record; len(rest) > 0; {
		f, after, err := parseFrame(rest)
		if err == nil {
			err = f.checkPayload()
		}
		if err != nil {
			c.t.Errorf("the session wrote %x: %v", record, err)
			return
		}
		if f.kind&sequencedBit != 0 {
			c.sent += uint64(f.size())
		}
		if f.kind == kindAck {
			if acked := f.uint64(); acked < c.lastAcked {
				c.t.Errorf("ack of %d after %d", acked, c.lastAcked)
			} else {
				c.lastAcked = acked
			}
		}
		rest = after
	}
}

func (c *fuzzCarrier) Close() error { return nil }

// splitRecords cuts fuzz input into records, each after its length in two bytes.
func splitRecords(data []byte) [][]byte {
	var records [][]byte
	for len(data) >= 2 {
		n := min(int(binary.BigEndian.Uint16(data)), len(data)-2)
		records = append(records, slices.Clone(data[2:2+n]))
		data = data[2+n:]
	}
	return records
}

func joinRecords(records ...[]byte) []byte {
	var data []byte
	for _, record := range records {
		data = binary.BigEndian.AppendUint16(data, uint16(len(record)))
		data = append(data, record...)
	}
	return data
}

// useStream acts as the user of an accepted stream. What it does depends on the id, so that inputs
// reach all of it.
func useStream(in Incoming) {
	defer in.unanswered().Close()
	if flow, ok := in.(*IncomingFlow); ok {
		useFlow(flow)
		return
	}
	incoming := in.(*IncomingStream)
	st := incoming.stream
	switch in.ID() / 2 % 5 {
	case 0:
		incoming.Confirm()
		io.Copy(st, st)
	case 1:
		incoming.Confirm()
		st.Write(make([]byte, 1000))
		st.CloseWrite()
		st.Read(make([]byte, 10))
	case 2:
		in.Refuse(CodeNotAllowed, "")
	case 3:
		st.Read(make([]byte, 10))
		st.Reset(CodeAborted)
	case 4:
		<-st.session.Done() // never reads
		io.Copy(io.Discard, st)
	}
}

// useFlow is the same for a flow.
func useFlow(in *IncomingFlow) {
	p := make([]byte, MaxDatagram)
	in.flow.Send([]byte("early"))
	if in.ID()/2%2 == 0 {
		in.Confirm()
	}
	for {
		n, err := in.flow.Receive(p)
		if err != nil {
			return
		}
		in.flow.Send(p[:n])
	}
}

// FuzzSession feeds a session that is in use, of either end, with arbitrary records: it never
// panics, stays consistent and ends.
func FuzzSession(f *testing.F) {
	for _, client := range []bool{false, true} {
		for _, records := range sessionSeeds(client) {
			f.Add(client, joinRecords(records...))
		}
	}
	f.Fuzz(func(t *testing.T, client bool, data []byte) {
		for _, window := range []int{4 << 10, 2 * adoptFrom} { // too small to adopt a block, or not
			synctest.Test(t, func(t *testing.T) {
				fuzzSession(t, client, window, splitRecords(data))
			})
		}
	})
}

// sessionSeeds returns what the peer of a client or a server may send.
func sessionSeeds(client bool) [][][]byte {
	own, shift := uint32(2), uint32(0) // the session's stream, and the peer's after 1, 3, 5
	if client {
		own, shift = 1, 1
	}
	open := func(ids ...uint32) (record []byte) {
		for _, id := range ids {
			record = append(record, wireOpen(id+shift, 'x')...)
		}
		return record
	}
	peer := func(k kind, id uint32, payload ...[]byte) []byte { return wire(k, id+shift, payload...) }
	data := peer(kindData, 1, []byte("some bytes"))
	openUDP := peer(kindOpen, 1, openPayload(Target{StreamUDP, "h:1"}, nil))
	return [][][]byte{
		{},
		{wire(kindPing, 0, u64(1)), wire(kindAck, 0, u64(0)), wire(kindDraining, 0)},
		{open(1, 3, 5, 7, 9), data, data, peer(kindCredit, 1, u64(1<<20)), peer(kindFin, 1)},
		{open(1, 3), peer(kindReset, 1, u16(CodeAborted)), peer(kindFin, 3),
			peer(kindReset, 3, u16(CodeClosed))},
		{wire(kindOpened, own), wire(kindData, own, []byte("answer")),
			wire(kindCredit, own, u64(1<<30)), wire(kindFin, own)},
		{wire(kindRefused, own, u16(CodeTimeout), []byte("no")), wire(kindData, own, []byte("late"))},
		{wire(kindFin, own), wire(kindReset, own, u16(CodeTimeout))},
		{wire(kindPong, 0, u64(1)), wire(kindPong, 0, u64(1))},
		{wire(kindClose, 0, u16(CodeDone), []byte("bye")), open(1)},
		{open(1, 3, 5, 7, 9, 11, 13, 15, 17, 19), wire(0x81, 0), peer(0xc1, 5), wire(0x07, 0)},
		{open(9), peer(kindData, 9, make([]byte, 3000)), open(19),
			peer(kindData, 19, make([]byte, 4000))},
		{open(1), peer(kindFin, 1), data},
		{slices.Concat(open(1, 3), peer(kindData, 1, make([]byte, adoptFrom)),
			peer(kindReset, 1, u16(CodeStalled)), peer(kindData, 3, []byte("more")))},
		{openUDP, peer(kindDatagram, 1, []byte("\x00whole")),
			peer(kindDatagram, 1, []byte("\x02in ")), peer(kindDatagram, 1, []byte("\x01two")),
			peer(kindFin, 1)},
		{openUDP, peer(kindDatagram, 1, make([]byte, 30<<10)),
			peer(kindDatagram, 1, []byte("\x01late")), peer(kindReset, 1, u16(CodeClosed))},
		{data},
		{wireOpen(own, 'x')},
		{data[:5]},
		// What is repeated: answers, acks, credit, the end.
		{wire(kindOpened, own), wire(kindAck, 0, u64(headerSize)), wire(kindAck, 0, u64(headerSize)),
			wire(kindAck, 0, u64(0)), wire(kindCredit, own, u64(1<<20)), wire(kindCredit, own, u64(1)),
			wire(kindReset, own, u16(CodeAborted)), wire(kindReset, own, u16(CodeAborted)),
			wire(kindClose, 0, u16(CodeDone)), wire(kindClose, 0, u16(CodeDone))},
		{wire(kindRefused, own, u16(CodeTimeout)), wire(kindRefused, own, u16(CodeTimeout)),
			wire(kindDraining, 0), wire(kindDraining, 0), wire(kindPing, 0, u64(1)),
			wire(kindPing, 0, u64(1))},
	}
}

// fuzzSession is one run, in a bubble whose clock only advances if something waits in vain.
func fuzzSession(t *testing.T, client bool, window int, records [][]byte) {
	began := time.Now()
	mine := rawHello
	mine.role, mine.firstCredit = roleClient, 1<<10
	start := NewServer
	if client {
		mine.role, start = roleServer, NewClient
	}
	c := &fuzzCarrier{t: t, ready: make(chan struct{}),
		records: append([][]byte{appendHello(nil, mine)}, records...)}
	s, err := start(context.Background(), c, Config{MaxStreams: 8, Window: window,
		SendBuffer: 2 << 10, MaxBuffered: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	var users sync.WaitGroup
	users.Go(func() {
		for {
			in, err := s.Accept(context.Background())
			if err != nil {
				return
			}
			users.Go(func() { useStream(in) })
		}
	})
	s.mu.Lock()
	own, err := s.openStreamLocked(Target{StreamTCP, "h:1"})
	if err != nil {
		t.Error(err)
	}
	s.link.queuePingLocked()
	s.mu.Unlock()
	c.s = s
	close(c.ready)
	users.Go(func() {
		defer own.Close()
		own.Write(make([]byte, 10<<10))
		io.Copy(io.Discard, own)
	})
	if s.Wait() == nil {
		t.Error("the session ended without an error")
	}
	users.Wait()
	if took := time.Since(began); took != 0 {
		t.Errorf("all waited for %v", took)
	}
	if n := s.Stats().Streams; n != 0 {
		t.Errorf("%d streams left", n)
	}
}
