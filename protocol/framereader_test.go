package protocol

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/gorilla/websocket"
)

// event is what a frame reader returns: a message, a ping or a pong.
type event struct {
	opcode  int
	payload string
}

// eventsIn joins well-formed frames to messages.
func eventsIn(frames []frame) (events []event) {
	var message event
	for _, f := range frames {
		switch {
		case isControl(int(f.opcode)):
			events = append(events, event{int(f.opcode), string(f.payload)})
			continue
		case f.opcode != opcodeContinuation:
			message = event{opcode: int(f.opcode)}
		}
		message.payload += string(f.payload)
		if f.final {
			events = append(events, message)
		}
	}
	return events
}

// eventsOf reads until the error, which must stick.
func eventsOf(tb testing.TB, r *frameReader) (events []event, err error) {
	tb.Helper()
	for {
		opcode, payload, err := r.next()
		if err != nil {
			if _, _, again := r.next(); again != err {
				tb.Fatalf("after %v comes %v", err, again)
			}
			return events, err
		}
		events = append(events, event{opcode, string(payload)})
	}
}

// chunkConn is a connection whose reads return the given pieces, and whose writes go nowhere.
type chunkConn struct {
	net.Conn
	chunks [][]byte
}

// chunked cuts a stream into pieces of n bytes.
func chunked(stream []byte, n int) *chunkConn {
	return &chunkConn{chunks: slices.Collect(slices.Chunk(stream, n))}
}

func (c *chunkConn) Read(p []byte) (int, error) {
	if len(c.chunks) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.chunks[0])
	if c.chunks[0] = c.chunks[0][n:]; len(c.chunks[0]) == 0 {
		c.chunks = c.chunks[1:]
	}
	return n, nil
}

func (c *chunkConn) Write(p []byte) (int, error)      { return len(p), nil }
func (c *chunkConn) Close() error                     { return nil }
func (c *chunkConn) SetDeadline(time.Time) error      { return nil }
func (c *chunkConn) SetReadDeadline(time.Time) error  { return nil }
func (c *chunkConn) SetWriteDeadline(time.Time) error { return nil }

// limitedReader returns a frame reader with a limit.
func limitedReader(source io.Reader, isServer bool, limit int, early []byte) *frameReader {
	r := newFrameReader(source, isServer, early)
	r.limit = limit
	return r
}

// wantEvents reads well-formed frames to their end.
func wantEvents(t *testing.T, r *frameReader, want []event, about string, args ...any) {
	t.Helper()
	got, err := eventsOf(t, r)
	if err != io.ErrUnexpectedEOF || !slices.Equal(got, want) {
		t.Fatalf(about+": got %d messages, %v; want %d", append(args, len(got), err, len(want))...)
	}
}

// TestFramesEverySplit splits streams at every position, including between what came with the HTTP
// head and the rest, and into pieces of many sizes.
func TestFramesEverySplit(t *testing.T) {
	want := eventsIn(testStream())
	for name, tt := range map[string]struct {
		frames   []frame
		isServer bool
	}{
		"masked":            {masksOf(testStream(), &testMask), true},
		"zero keys":         {masksOf(testStream(), &[4]byte{}), true},
		"unmasked":          {masksOf(testStream(), nil), true},
		"mixed":             {mixedMasks(testStream()), true},
		"client's unmasked": {masksOf(testStream(), nil), false},
	} {
		stream := wireOf(tt.frames)
		for split := range len(stream) {
			a, b := stream[:split], stream[split:]
			early := limitedReader(&chunkConn{chunks: [][]byte{bytes.Clone(b)}}, tt.isServer, 1000,
				a)
			wantEvents(t, early, want, "%s, %d bytes early", name, split)
			if split > 0 {
				conn := &chunkConn{chunks: [][]byte{bytes.Clone(a), bytes.Clone(b)}}
				wantEvents(t, limitedReader(conn, tt.isServer, 1000, nil), want, "%s, split at %d",
					name, split)
			}
		}
		long := bytes.Repeat(stream, 12) // several times the first buffer
		for _, piece := range []int{
			1, 2, 3, 5, 11, 1000, minReadBuffer - 1, minReadBuffer, minReadBuffer + 1, len(long),
		} {
			r := limitedReader(chunked(long, piece), tt.isServer, 1000, nil)
			wantEvents(t, r, slices.Repeat(want, 12), "%s, pieces of %d", name, piece)
		}
	}
}

// TestFramesLong reads payloads with a 64-bit length, and some larger than the buffer for bulk
// data.
func TestFramesLong(t *testing.T) {
	const most = 1<<20 + 1
	frames := []frame{
		{final: true, opcode: websocket.BinaryMessage, payload: pattern(1<<16 - 1)},
		{final: true, opcode: websocket.BinaryMessage, payload: pattern(1 << 16)},
		{final: true, opcode: websocket.BinaryMessage, payload: pattern(most)},
		{final: true, opcode: websocket.PingMessage, payload: pattern(125)},
		{opcode: websocket.TextMessage, payload: pattern(most / 2)},
		{final: true, payload: pattern(most / 2)},
	}
	want := eventsIn(frames)
	for _, mask := range []*[4]byte{nil, {}, &testMask} {
		stream := wireOf(masksOf(frames, mask))
		for _, piece := range []int{
			1000, minReadBuffer, bulkReadBuffer - 1, bulkReadBuffer, len(stream),
		} {
			wantEvents(t, limitedReader(chunked(stream, piece), true, most, nil), want,
				"pieces of %d", piece)
		}
	}
}

// lastGasp returns what is left and the error from one read; there must be no read after that.
type lastGasp struct {
	left []byte
	err  error
}

func (g *lastGasp) Read(p []byte) (int, error) {
	n, err := copy(p, g.left), g.err
	g.left, g.err = nil, errors.New("read after an error")
	return n, err
}

// TestFramesEndAnywhere ends the stream with an error at each position, after or with the last
// bytes: whole messages are returned, and then the error.
func TestFramesEndAnywhere(t *testing.T) {
	errBroken := errors.New("broken")
	for _, frames := range [][]frame{masksOf(testStream(), nil), masksOf(testStream(), &testMask)} {
		stream := wireOf(frames)
		whole := 0 // frames in stream[:n]
		for n := range len(stream) + 1 {
			if whole < len(frames) && n == len(wireOf(frames[:whole+1])) {
				whole++
			}
			want := eventsIn(frames[:whole])
			for _, source := range []io.Reader{
				io.MultiReader(bytes.NewReader(stream[:n]), iotest.ErrReader(errBroken)),
				&lastGasp{stream[:n], errBroken},
			} {
				got, err := eventsOf(t, limitedReader(source, true, 1000, nil))
				if err != errBroken || !slices.Equal(got, want) {
					t.Fatalf("after %d bytes: %d messages, %v; want %d", n, len(got), err,
						len(want))
				}
			}
		}
	}
}

// TestFrameViolations reads what RFC 6455 forbids, after a valid message. gorilla refuses the same.
func TestFrameViolations(t *testing.T) {
	closing := func(code uint16, text string) []byte {
		b := append(binary.BigEndian.AppendUint16(nil, code), text...)
		return frame{final: true, opcode: websocket.CloseMessage, mask: &testMask,
			payload: b}.append(nil)
	}
	begun := frame{opcode: websocket.TextMessage, mask: &testMask,
		payload: []byte("be")}.append(nil)
	tests := map[string][][]byte{
		"reserved bits set": {{0xc2, 0x80}, {0xa2, 0x80}, {0x92, 0x80},
			{0xd9, 0x80}},
		"bad opcode 3":  {{0x83, 0x80}, {0x03, 0x80}},
		"bad opcode 7":  {{0x87, 0x80}},
		"bad opcode 11": {{0x8b, 0x80}},
		"bad opcode 15": {{0x8f, 0x80}},
		"control frame too long": {{0x89, 0x80 | 126, 0, 126}, {0x88, 0x80 | 127},
			{0x8a, 0x80 | 126}},
		"control frame in parts":     {{0x09, 0x80}, {0x08, 0x80}, {0x0a, 0x80}},
		"continuation of no message": {{0x80, 0x80}, {0x00, 0x80}},
		"new message before the end of the last": {slices.Concat(begun, []byte{0x81, 0x80}),
			slices.Concat(begun, []byte{0x02, 0x80})},
		"close reason is not UTF-8": {closing(1000, "\xff"), closing(4400, "caf\xc3")},
	}
	for code, text := range map[uint16]string{
		0: "bad close code 0", 999: "bad close code 999", 1004: "bad close code 1004",
		1005: "bad close code 1005",
		1006: "bad close code 1006", 1014: "bad close code 1014", 1015: "bad close code 1015",
		2999: "bad close code 2999",
		5000: "bad close code 5000", 65535: "bad close code 65535",
	} {
		tests[text] = [][]byte{closing(code, ""), closing(code, "text")}
	}
	hello := testStream()[:1]
	for text, streams := range tests {
		for _, bad := range streams {
			stream := slices.Concat(wireOf(masksOf(hello, &testMask)), bad)
			got, err := eventsOf(t, limitedReader(chunked(bytes.Clone(stream), 3), true, 1000, nil))
			if err != frameError(text) || !slices.Equal(got, eventsIn(hello)) {
				t.Errorf("%x: %d messages, %v; want %q", bad, len(got), err, text)
			}
			if model, end := gorillaEvents(t, stream, 1000); end != endViolation ||
				!slices.Equal(model, got) {
				t.Errorf("%x: gorilla gives %d messages, and ends by %s", bad, len(model), end)
			}
		}
	}
	masked := frame{final: true, opcode: websocket.BinaryMessage, mask: &[4]byte{}}.append(nil)
	_, err := eventsOf(t, limitedReader(bytes.NewReader(masked), false, 1000, nil))
	if err != frameError("masked frame from a server") {
		t.Errorf("a masked frame for a client: %v", err)
	}
}

// TestFrameClose reads close frames with each kind of content.
func TestFrameClose(t *testing.T) {
	for payload, want := range map[string]websocket.CloseError{
		"":                        {Code: websocket.CloseNoStatusReceived},
		"\x03":                    {Code: websocket.CloseNoStatusReceived}, // as gorilla takes it
		"\x03\xe8":                {Code: 1000},
		"\x03\xe9bye":             {Code: 1001, Text: "bye"},
		"\x11\x33not admitted é":  {Code: int(CloseNotAdmitted), Text: "not admitted é"},
		"\x0b\xb8":                {Code: 3000},
		"\x13\x87":                {Code: 4999},
		"\x03\xf5try again later": {Code: 1013, Text: "try again later"},
	} {
		for _, mask := range []*[4]byte{nil, &testMask} {
			stream := frame{final: true, opcode: websocket.CloseMessage, mask: mask,
				payload: []byte(payload)}.append(nil)
			_, err := eventsOf(t, limitedReader(bytes.NewReader(stream), true, 0, nil))
			var closed *websocket.CloseError
			if !errors.As(err, &closed) || *closed != want {
				t.Errorf("%q: got %v, want %v", payload, err, &want)
			}
		}
	}
}

// TestFrameLimit reads messages at the limit and beyond it, in one frame and in several. A header
// is enough for a refusal, and nothing is allocated for what it announces.
func TestFrameLimit(t *testing.T) {
	const limit = 100_000
	header := func(first byte, n uint64) []byte {
		return binary.BigEndian.AppendUint64([]byte{first, frameLength64}, n)
	}
	part := func(opcode byte, n int) []byte {
		return frame{opcode: opcode, payload: pattern(n)}.append(nil)
	}
	for name, tt := range map[string]struct {
		stream []byte
		want   error
	}{
		"whole, at the limit": {header(0x82, limit), io.ErrUnexpectedEOF},
		"whole, beyond":       {header(0x82, limit+1), ErrTooLarge},
		"whole, 4 GiB":        {header(0x82, 1<<32), ErrTooLarge},
		"highest bit":         {header(0x82, 1<<63), ErrTooLarge},
		"all bits":            {header(0x82, 1<<64-1), ErrTooLarge},
		"parts, at the limit": {slices.Concat(part(2, 1000), header(0x80, limit-1000)),
			io.ErrUnexpectedEOF},
		"parts, beyond": {slices.Concat(part(2, 1000), header(0x80, limit-999)), ErrTooLarge},
		"third part beyond": {slices.Concat(part(1, 1000), part(0, 1000), header(0, limit-1999)),
			ErrTooLarge},
		"part of 2^63": {slices.Concat(part(1, 1000), header(0, 1<<63)), ErrTooLarge},
	} {
		for _, isServer := range []bool{true, false} {
			r := limitedReader(bytes.NewReader(bytes.Clone(tt.stream)), isServer, limit, nil)
			if got, err := eventsOf(t, r); err != tt.want || len(got) != 0 {
				t.Errorf("%s: got %d messages, %v; want %v", name, len(got), err, tt.want)
			}
			if len(r.buf) != minReadBuffer || cap(r.parts) > minReadBuffer {
				t.Errorf("%s: buffers of %d and %d bytes", name, len(r.buf), cap(r.parts))
			}
		}
	}
	for _, stream := range [][]byte{
		frame{final: true, opcode: 2, payload: pattern(limit)}.append(nil),
		slices.Concat(part(2, limit/2),
			frame{final: true, payload: pattern(limit / 2)}.append(nil)),
	} {
		got, err := eventsOf(t, limitedReader(bytes.NewReader(stream), true, limit, nil))
		if err != io.ErrUnexpectedEOF || len(got) != 1 || len(got[0].payload) != limit {
			t.Errorf("a message at the limit: got %d messages, %v", len(got), err)
		}
	}
}

// growthSource returns up to piece bytes per read, and checks how much room the reader has beyond
// what has arrived.
type growthSource struct {
	r           io.Reader
	piece       int
	came, reads int
	t           *testing.T
}

func (s *growthSource) Read(p []byte) (int, error) {
	if most := max(minReadBuffer, 2*s.came); len(p) > most {
		s.t.Errorf("a read of %d bytes after %d have come", len(p), s.came)
	}
	n, err := s.r.Read(p[:min(len(p), s.piece)])
	s.came += n
	s.reads++
	return n, err
}

// TestReadBufferGrows checks the buffer's size, and how many reads bulk data takes.
func TestReadBufferGrows(t *testing.T) {
	usual := slices.Repeat([]frame{{final: true, opcode: 2, payload: pattern(32 << 10)}}, 100)
	for _, tt := range []struct {
		name    string
		frames  []frame
		piece   int
		size    int // of the buffer in the end
		mayRead int // times
	}{
		{"small messages", slices.Repeat([]frame{{final: true, opcode: 2, payload: pattern(100)}},
			100), 102, minReadBuffer, 101},
		{"bulk", usual, 1 << 30, bulkReadBuffer, 35},
		{"one large message", []frame{{final: true, opcode: 2, payload: pattern(1 << 20)}}, 1 << 30,
			1<<20 + 10, 11},
		{"one large message in small pieces",
			[]frame{{final: true, opcode: 2, payload: pattern(1 << 20)}}, 1000, 1<<20 + 10, 1100},
	} {
		source := &growthSource{r: bytes.NewReader(wireOf(tt.frames)), piece: tt.piece, t: t}
		r := limitedReader(source, false, 1<<20, nil)
		wantEvents(t, r, eventsIn(tt.frames), tt.name)
		if len(r.buf) != tt.size || source.reads > tt.mayRead {
			t.Errorf("%s: %d reads, a buffer of %d; want at most %d, and %d", tt.name, source.reads,
				len(r.buf), tt.mayRead, tt.size)
		}
	}
}

// frameSource is a connection that repeats some frames for ever.
type frameSource struct {
	chunkConn
	frames []byte
	at     int
}

func (s *frameSource) Read(p []byte) (int, error) {
	n := copy(p, s.frames[s.at:])
	s.at = (s.at + n) % len(s.frames)
	return n, nil
}

// TestReadingAllocatesNothing counts what reading a record of the usual size allocates once the
// buffers have grown.
func TestReadingAllocatesNothing(t *testing.T) {
	for name, frames := range map[string][]frame{
		"masked":   {{final: true, opcode: 2, mask: &testMask, payload: pattern(32 << 10)}},
		"unmasked": {{final: true, opcode: 2, payload: pattern(32 << 10)}},
		"in parts": {{opcode: 2, mask: &testMask, payload: pattern(32 << 10)},
			{final: true, payload: pattern(100)}},
	} {
		r := limitedReader(&frameSource{frames: wireOf(frames)}, true, DefaultMaxMessage, nil)
		read := func() {
			if _, _, err := r.next(); err != nil {
				t.Fatal(err)
			}
		}
		for range 10 {
			read()
		}
		if n := testing.AllocsPerRun(100, read); n != 0 {
			t.Errorf("%s: %v allocations a message", name, n)
		}
	}
}

// TestFramesOfGorilla reads messages that gorilla writes in one frame and in several, with pings
// before, between and after them.
func TestFramesOfGorilla(t *testing.T) {
	var want []event
	for i, n := range []int{0, 1, 125, 126, 999, 1000, 1001, 65535, 65536, 200_000} {
		want = append(want, event{1 + i%2, string(pattern(n))},
			event{websocket.PingMessage, strings.Repeat("p", 12*i)})
	}
	want = append(want, event{websocket.PingMessage, "between"},
		event{websocket.BinaryMessage, string(pattern(5000))})
	write := func(ws *websocket.Conn) error {
		for _, e := range want[:len(want)-2] {
			if err := ws.WriteMessage(e.opcode, []byte(e.payload)); err != nil {
				return err
			}
		}
		w, err := ws.NextWriter(websocket.BinaryMessage)
		if err != nil {
			return err
		}
		// more than the buffer holds, so that part of it is sent
		_, err = w.Write(pattern(5000)[:2500])
		return errors.Join(err,
			ws.WriteControl(websocket.PingMessage, []byte("between"), time.Now().Add(testTimeout)),
			func() error { _, err := w.Write(pattern(5000)[2500:]); return err }(),
			w.Close(),
			ws.WriteMessage(websocket.CloseMessage,
				websocket.FormatCloseMessage(websocket.CloseGoingAway, "done")),
		)
	}
	read := func(w *wire) error {
		w.limitMessages(200_000)
		got, err := eventsOf(t, w.frames)
		if !slices.Equal(got, want) {
			return fmt.Errorf("other messages, then %w", err)
		}
		var closed *websocket.CloseError
		end := websocket.CloseError{Code: websocket.CloseGoingAway, Text: "done"}
		if !errors.As(err, &closed) || *closed != end {
			return fmt.Errorf("the end is %w", err)
		}
		return nil
	}

	result := make(chan error, 1)
	address := listen(t, func(ws *websocket.Conn) { result <- read(newWire(ws, false)) })
	ws, resp, err := (&websocket.Dialer{WriteBufferSize: 1000}).Dial(address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	defer ws.Close()
	if err := write(ws); err != nil {
		t.Error(err)
	}
	if err := <-result; err != nil {
		t.Error("from a client:", err)
	}

	upgrade := func(w http.ResponseWriter, r *http.Request) (*websocket.Conn, error) {
		return (&websocket.Upgrader{WriteBufferSize: 1000}).Upgrade(w, r, nil)
	}
	address = listenWith(t, upgrade, func(ws *websocket.Conn) { result <- write(ws) })
	if err := read(newWire(dialWS(t, address), true)); err != nil {
		t.Error("from a server:", err)
	}
	if err := <-result; err != nil {
		t.Error(err)
	}
}

// TestAwaitSome: the reader waits for the next message without holding what nobody needs, reports
// when it begins to wait, and leaves errors to next.
func TestAwaitSome(t *testing.T) {
	frames := slices.Repeat([]frame{{final: true, opcode: 2, payload: pattern(32 << 10)}}, 20)
	part := frame{opcode: 2, payload: pattern(20 << 10)}
	last := frame{final: true, payload: pattern(20 << 10)}
	stream := wireOf(append(frames, part, last))
	small := wireOf([]frame{{final: true, opcode: 2, payload: pattern(98)}})
	conn := chunked(stream, len(stream))
	conn.chunks = append(conn.chunks, chunked(bytes.Repeat(small, 20), len(small)).chunks...)
	r := limitedReader(conn, false, 1<<20, nil)

	waits, messages := 0, 0
	next := func() (payload []byte, err error) {
		r.awaitSome(func() { waits++ })
		_, payload, err = r.next()
		messages++
		return payload, err
	}
	for range len(frames) + 1 {
		if _, err := next(); err != nil {
			t.Fatal(err)
		}
	}
	if waits >= messages || waits == 0 {
		t.Errorf("%d waits for %d messages", waits, messages)
	}
	if len(r.buf) != bulkReadBuffer || r.parts == nil {
		t.Errorf("a buffer of %d just after it was needed", len(r.buf))
	}
	waits, messages = 0, 0
	r.lastLarge = time.Now().Add(-2 * readBufferKeep)
	for {
		payload, err := next()
		if err == io.ErrUnexpectedEOF {
			break
		}
		if err != nil || !bytes.Equal(payload, pattern(98)) {
			t.Fatalf("message %d: %d bytes, %v", messages, len(payload), err)
		}
		if len(r.buf) != minReadBuffer || r.parts != nil {
			t.Fatalf("buffers of %d and %d long after they were needed", len(r.buf), len(r.parts))
		}
	}
	if waits != messages || messages != 21 {
		t.Errorf("%d waits for %d messages and the end", waits, messages)
	}
	r.awaitSome(func() { t.Error("a wait after the end") })
}

// packetSource is a socket in which frames arrive in packets, each frame only when the one before
// was read. It has a low-water mark.
type packetSource struct {
	t       *testing.T
	frames  [][]byte // that are still to come, the present one first
	packet  int      // bytes
	arrived []byte
	low     int // the mark
	wakes   int // reads that had to wait
}

func (s *packetSource) mark(bytes int) { s.low = bytes }

func (s *packetSource) Read(p []byte) (int, error) {
	if len(s.arrived) == 0 { // otherwise a read takes what is there
		s.wakes++
		for len(s.arrived) < max(s.low, 1) {
			if len(s.frames) == 0 || len(s.frames[0]) == 0 {
				s.t.Fatalf("waits for %d bytes, %d are there and no more come", s.low, len(s.arrived))
			}
			n := min(s.packet, len(s.frames[0]))
			s.arrived = append(s.arrived, s.frames[0][:n]...)
			s.frames[0] = s.frames[0][n:]
		}
	}
	n := copy(p, s.arrived)
	s.arrived = s.arrived[n:]
	return n, nil
}

// TestMarks: frames that arrive in packets wake their reader a few times each, and those that come
// at once no more than without marks. No frame is waited for longer than until it is there.
func TestMarks(t *testing.T) {
	sizes := []int{24 << 10, 100, 24 << 10, 0, 32 << 10, 5000, 1, 24 << 10, 200 << 10, 24 << 10, 7}
	for _, packet := range []int{1, 100, 1448, 9000, 64 << 10, 1 << 20} {
		s := &packetSource{t: t, packet: packet}
		r := newFrameReader(s, false, nil)
		r.limit, r.marker = 1<<20, s
		for range 5 {
			for _, size := range sizes {
				s.frames = [][]byte{appendFrame(nil, websocket.BinaryMessage, make([]byte, size), false)}
				before := s.wakes
				_, payload, err := r.next()
				if err != nil || len(payload) != size {
					t.Fatalf("packets of %d: a frame of %d bytes, %v; want %d", packet, len(payload), err,
						size)
				}
				if packet < 100 || size < 2*minReadBuffer {
					continue
				}
				// the header, what makes it known, and each record's worth of the rest
				most := 3 + minReadBuffer/packet + size/usualRecord
				if wakes := s.wakes - before; wakes > most {
					t.Errorf("packets of %d: woken %d times in a frame of %d bytes, want %d at most",
						packet, wakes, size, most)
				}
			}
		}
	}
}
