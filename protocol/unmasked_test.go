package protocol

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/gorilla/websocket"
)

// frame is a WebSocket frame for tests.
type frame struct {
	final   bool
	opcode  byte
	mask    *[4]byte
	payload []byte
}

var testMask = [4]byte{0x12, 0x34, 0x56, 0x78}

func (f frame) append(b []byte) []byte {
	first, maskBit := f.opcode, byte(0)
	if f.final {
		first |= 0x80
	}
	if f.mask != nil {
		maskBit = frameMaskBit
	}
	switch n := len(f.payload); {
	case n < frameLength16:
		b = append(b, first, byte(n)|maskBit)
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, first, frameLength16|maskBit), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, first, frameLength64|maskBit), uint64(n))
	}
	if f.mask == nil {
		return append(b, f.payload...)
	}
	b = append(b, f.mask[:]...)
	for i, v := range f.payload {
		b = append(b, v^f.mask[i%4])
	}
	return b
}

func wireOf(frames []frame) (b []byte) {
	for _, f := range frames {
		b = f.append(b)
	}
	return b
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// masksOf gives every frame the same kind of masking.
func masksOf(frames []frame, mask *[4]byte) []frame {
	out := make([]frame, len(frames))
	for i, f := range frames {
		f.mask = mask
		out[i] = f
	}
	return out
}

// chunkConn is a connection whose reads return the given pieces, and whose writes go nowhere.
type chunkConn struct {
	net.Conn
	chunks [][]byte
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

// rewritten reads a stream through an unmasker, with reads into buffers of the given size.
func rewritten(tb testing.TB, size int, chunks ...[]byte) []byte {
	tb.Helper()
	conn := acceptUnmasked(&chunkConn{chunks: slices.Clone(chunks)})
	var out []byte
	buf := make([]byte, size)
	for {
		n, err := conn.Read(buf)
		out = append(out, buf[:n]...)
		if err == io.EOF {
			return out
		}
		if err != nil {
			tb.Fatal(err)
		}
		if n == 0 {
			tb.Fatal("a read returned nothing")
		}
	}
}

// testStream holds each kind of frame: messages in one frame and in several, with control frames between their parts,
// and lengths around where the header changes.
func testStream() []frame {
	frames := []frame{
		{final: true, opcode: websocket.TextMessage, payload: []byte("hello")},
		{opcode: websocket.BinaryMessage, payload: pattern(3)},
		{final: true, opcode: websocket.PingMessage, payload: []byte("ping")},
		{payload: nil},
		{final: true, opcode: websocket.PongMessage},
		{final: true, payload: pattern(126)},
		{final: true, opcode: websocket.BinaryMessage},
	}
	for _, n := range []int{1, 124, 125, 126, 127, 128, 300} {
		frames = append(frames, frame{final: true, opcode: websocket.BinaryMessage, payload: pattern(n)})
	}
	return frames
}

// TestUnmaskedEverySplit cuts the stream in two at every place, and reads it in pieces of many sizes. The result must
// be the stream with zero masks, byte for byte.
func TestUnmaskedEverySplit(t *testing.T) {
	stream := wireOf(masksOf(testStream(), nil))
	want := wireOf(masksOf(testStream(), &[4]byte{}))
	for split := range len(stream) + 1 {
		chunks := [][]byte{stream[:split], stream[split:]}
		if split == 0 || split == len(stream) {
			chunks = [][]byte{stream}
		}
		for _, size := range []int{1, 2, 7, 4096, readBufferSize} {
			if got := rewritten(t, size, chunks...); !bytes.Equal(got, want) {
				t.Fatalf("split at %d, reads of %d: got %d bytes, want %d", split, size, len(got), len(want))
			}
		}
	}
	for _, piece := range []int{1, 2, 3, 5, 11} {
		var chunks [][]byte
		for rest := stream; len(rest) > 0; {
			n := min(piece, len(rest))
			chunks, rest = append(chunks, rest[:n]), rest[n:]
		}
		if got := rewritten(t, readBufferSize, chunks...); !bytes.Equal(got, want) {
			t.Fatalf("pieces of %d: got %d bytes, want %d", piece, len(got), len(want))
		}
	}
}

// TestUnmaskedLongPayload covers the 64-bit length and payloads that are read without a copy.
func TestUnmaskedLongPayload(t *testing.T) {
	frames := []frame{
		{final: true, opcode: websocket.BinaryMessage, payload: pattern(1<<16 - 1)},
		{final: true, opcode: websocket.BinaryMessage, payload: pattern(1 << 16)},
		{final: true, opcode: websocket.BinaryMessage, payload: pattern(1<<20 + 1)},
		{final: true, opcode: websocket.CloseMessage, mask: &testMask, payload: []byte{0x03, 0xe8}},
	}
	stream := wireOf(frames)
	for i := range frames[:3] {
		frames[i].mask = &[4]byte{}
	}
	want := wireOf(frames)
	for _, size := range []int{100, 4095, 4096, 4097, readBufferSize} {
		if got := rewritten(t, size, stream); !bytes.Equal(got, want) {
			t.Fatalf("reads of %d: got %d bytes, want %d", size, len(got), len(want))
		}
	}
}

// TestUnmaskedLeavesMaskedFrames has masked frames between unmasked ones, as the reference's client sends its pongs.
func TestUnmaskedLeavesMaskedFrames(t *testing.T) {
	frames := testStream()
	for i := range frames {
		if i%3 == 2 {
			frames[i].mask = &testMask
		}
	}
	stream := wireOf(frames)
	for i := range frames {
		if frames[i].mask == nil {
			frames[i].mask = &[4]byte{}
		}
	}
	want := wireOf(frames)
	for split := 1; split < len(stream); split++ {
		for _, size := range []int{1, 13, readBufferSize} {
			if got := rewritten(t, size, stream[:split], stream[split:]); !bytes.Equal(got, want) {
				t.Fatalf("split at %d, reads of %d: got %d bytes, want %d", split, size, len(got), len(want))
			}
		}
	}
}

// TestMaskedPeerIsUntouched has a masked first frame: everything passes, and reads soon go to the connection itself.
func TestMaskedPeerIsUntouched(t *testing.T) {
	stream := wireOf(masksOf(testStream(), &testMask))
	for split := 1; split < len(stream); split++ {
		for _, size := range []int{1, 2, 13, readBufferSize} {
			if got := rewritten(t, size, stream[:split], stream[split:]); !bytes.Equal(got, stream) {
				t.Fatalf("split at %d, reads of %d: the stream was changed", split, size)
			}
		}
	}
	for _, first := range []int{1, 2, 6} {
		conn := acceptUnmasked(&chunkConn{chunks: [][]byte{stream[:first], stream[first:]}}).(*unmaskedConn)
		if _, err := io.ReadAll(conn); err != nil {
			t.Fatal(err)
		}
		if conn.frames.mode != framesMasked || conn.frames.rawBuf != nil {
			t.Fatalf("first read of %d: the unmasker is still at work", first)
		}
	}
}

// TestUnmaskedErrors ends the stream in each place: what arrived is returned, and then the error.
func TestUnmaskedErrors(t *testing.T) {
	errBroken := errors.New("broken")
	for _, mask := range []*[4]byte{nil, &testMask} {
		stream := wireOf(masksOf(testStream()[:6], mask))
		for n := range len(stream) + 1 {
			var u unmasker
			r := io.MultiReader(bytes.NewReader(stream[:n]), iotest.ErrReader(errBroken))
			buf := make([]byte, readBufferSize)
			for {
				if _, err := u.read(r, buf); err != nil {
					if err != errBroken {
						t.Fatalf("after %d bytes: got %v", n, err)
					}
					break
				}
			}
			if _, err := u.read(r, buf); err != errBroken {
				t.Fatalf("after %d bytes, again: got %v", n, err)
			}
		}
	}
}

// TestUnmaskedGorilla has gorilla's server read a stream from an unmasked client, and answer its pings, with the
// stream cut at every place.
func TestUnmaskedGorilla(t *testing.T) {
	frames := testStream()
	stream := wireOf(frames)
	for split := 1; split < len(stream); split++ {
		ws := upgradeOver(t, &chunkConn{chunks: [][]byte{stream[:split], stream[split:]}})
		pings := 0
		ws.SetPingHandler(func(s string) error { pings++; return nil })
		got := 0
		for {
			_, message, err := ws.ReadMessage()
			if err != nil {
				if !websocket.IsCloseError(err, websocket.CloseAbnormalClosure) {
					t.Fatalf("split at %d: %v", split, err)
				}
				break
			}
			switch got {
			case 0:
				if string(message) != "hello" {
					t.Fatalf("split at %d: got %q", split, message)
				}
			case 1:
				if !bytes.Equal(message, append(pattern(3), pattern(126)...)) {
					t.Fatalf("split at %d: the message in parts differs", split)
				}
			default:
				if !bytes.Equal(message, pattern(len(message))) {
					t.Fatalf("split at %d: message %d differs", split, got)
				}
			}
			got++
		}
		if got != 10 || pings != 1 {
			t.Fatalf("split at %d: got %d messages and %d pings", split, got, pings)
		}
	}
}

// upgradeOver makes a WebSocket of a connection whose HTTP request is done.
func upgradeOver(tb testing.TB, conn net.Conn) *websocket.Conn {
	tb.Helper()
	ws, err := Upgrade(newPipeResponse(conn), upgradeRequest())
	if err != nil {
		tb.Fatal(err)
	}
	return ws
}

// upgradePlain does the same without the unmasker.
func upgradePlain(tb testing.TB, conn net.Conn) *websocket.Conn {
	tb.Helper()
	u := websocket.Upgrader{ReadBufferSize: readBufferSize, WriteBufferSize: controlBufferSize}
	ws, err := u.Upgrade(newPipeResponse(conn), upgradeRequest(), nil)
	if err != nil {
		tb.Fatal(err)
	}
	return ws
}

func upgradeRequest() *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	for k, v := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket",
		"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
	} {
		r.Header.Set(k, v)
	}
	return r
}

// TestUpgradeKeepsTCP makes sure that the fast paths of package net survive the wrapping.
func TestUpgradeKeepsTCP(t *testing.T) {
	checked := make(chan error, 1)
	address := listen(t, func(ws *websocket.Conn) {
		tcp, ok := ws.NetConn().(*unmaskedTCP)
		if !ok {
			checked <- fmt.Errorf("the connection is a %T", ws.NetConn())
			return
		}
		if _, ok := tcp.NetConn().(*net.TCPConn); !ok {
			checked <- fmt.Errorf("NetConn is a %T", tcp.NetConn())
			return
		}
		if _, err := tcp.SyscallConn(); err != nil {
			checked <- err
			return
		}
		// The embedded WriteTo would pass the frames on as they are.
		var got bytes.Buffer
		_, err := tcp.WriteTo(&got)
		if want := wireOf([]frame{{final: true, opcode: 2, mask: &[4]byte{}, payload: pattern(9)}}); !bytes.Equal(got.Bytes(), want) {
			err = fmt.Errorf("WriteTo passed on %x, want %x", got.Bytes(), want)
		}
		checked <- err
	})
	ws := dialWS(t, address)
	if _, err := ws.NetConn().Write(frame{final: true, opcode: 2, payload: pattern(9)}.append(nil)); err != nil {
		t.Fatal(err)
	}
	ws.Close()
	if err := <-checked; err != nil {
		t.Fatal(err)
	}
}

// TestUpgradeOverTLS shakes hands over wss, which takes the wrapper's other type.
func TestUpgradeOverTLS(t *testing.T) {
	p := newParties(t, Version1, false)
	serverErr := make(chan error, 1)
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serverErr <- func() error {
			ws, err := Upgrade(w, r)
			if err != nil {
				return err
			}
			c, err := Server(context.Background(), ws, p.server)
			if err != nil {
				return err
			}
			defer c.Close()
			b, err := c.ReadRecord(nil)
			if err != nil {
				return err
			}
			return c.WriteRecords(b)
		}()
	}))
	defer s.Close()
	d := NewDialer()
	d.TLSClientConfig = s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	d.TLSClientConfig.NextProtos = nil
	d.TLSClientConfig.MinVersion = tls.VersionTLS13
	ws, resp, err := d.Dial("wss"+strings.TrimPrefix(s.URL, "https"), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	c, err := Client(context.Background(), ws, p.client)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.WriteRecords([]byte("over TLS")); err != nil {
		t.Fatal(err)
	}
	if got, err := c.ReadRecord(nil); err != nil || string(got) != "over TLS" {
		t.Fatalf("got %q, %v", got, err)
	}
	var closed *PeerClosedError
	if err := readUntilError(t, c); !errors.As(err, &closed) || !errors.Is(err, io.EOF) {
		t.Fatalf("got %v, want a PeerClosedError that is io.EOF", err)
	}
	if err := <-serverErr; err != nil {
		t.Fatal(err)
	}
}

func TestUpgradeAcceptsAnyOrigin(t *testing.T) {
	address := listen(t, func(*websocket.Conn) {})
	for _, origin := range []string{"", "https://elsewhere.example", "null"} {
		h := http.Header{}
		if origin != "" {
			h.Set("Origin", origin)
		}
		ws, resp, err := NewDialer().Dial(address, h)
		if err != nil {
			t.Fatalf("origin %q: %v", origin, err)
		}
		resp.Body.Close()
		ws.Close()
	}
}

func TestUpgradeRefusesPlainHTTP(t *testing.T) {
	w := httptest.NewRecorder()
	if _, err := Upgrade(w, httptest.NewRequest(http.MethodGet, "/", nil)); err == nil || w.Code != http.StatusBadRequest {
		t.Fatalf("got %v and status %d", err, w.Code)
	}
}
