package protocol

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
)

// The fuzz targets feed the step functions what a peer could send. Nothing may panic, every refusal
// must be a HandshakeError of its step with a close code, and what is granted must be what the
// other end really sent.

// mustRefuse checks the form of a refusal.
func mustRefuse(t *testing.T, err error, step string) {
	t.Helper()
	var he *HandshakeError
	if !errors.As(err, &he) || he.Step != step || !he.Code.ours() ||
		strings.HasPrefix(he.Code.String(), "code ") {
		t.Fatalf("got %v, want a HandshakeError of step %s with a code", err, step)
	}
}

func FuzzClientHello(f *testing.F) {
	for _, v := range readVectors(f) {
		f.Add([]byte(v.ClientHello))
	}
	f.Add([]byte(`{"version":3,"opc":0}`))
	f.Add([]byte(`{"version":1,"opc":0,"client_public_key":[0],"nonce":[]}`))
	p := newExtendedParties(f, Version2, false)
	f.Add(newExchange(f, p).hello)
	f.Fuzz(func(t *testing.T, message []byte) {
		p.server.Replay = NewReplayCache(1)
		h, err := newServerHandshake(p.server)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := h.step3ServerHello(message)
		if err != nil {
			mustRefuse(t, err, "3")
			return
		}
		// What was parsed, encoded again, parses to the same.
		m, err := parseClientHello(message)
		if err != nil {
			t.Fatal(err)
		}
		m.offer = nil // holds names of suites as they came; FuzzExtension is about it
		if again, err := parseClientHello(m.marshal()); err != nil || again != m {
			t.Fatalf("%+v was read back as %+v, %v", m, again, err)
		}
		if _, err := parseServerHello(answer, m.version); err != nil {
			t.Fatalf("the answer does not parse: %v", err)
		}
		if _, err := h.step3ServerHello(message); !errors.Is(err, ErrReplay) {
			t.Fatalf("the same hello again: got %v, want ErrReplay", err)
		}
	})
}

// FuzzExtension parses the three parts of the extension, each as the JSON that a message holds.
func FuzzExtension(f *testing.F) {
	e := newExchange(f, newExtendedParties(f, Version1, false))
	hello, err := parseClientHello(e.hello)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(hello.offer.append(nil))
	f.Add(e.client.answer.append(nil))
	f.Add((&confirmation{hashHello(e.hello)}).append(nil))
	f.Add([]byte(`{"suites":["aes-256-gcm"],"kem":"","enc":"vwz"}`))
	f.Fuzz(func(t *testing.T, part []byte) {
		if o, err := parseOffer(part); err == nil && o != nil {
			if len(o.kemKey) != kemKeySize || len(o.suites) == 0 {
				t.Fatalf("offer %+v", o)
			}
			if enc, secret, err := o.encapsulate(hashHello(part)); err == nil &&
				(len(enc) != kemEncSize || len(secret) != keySize) {
				t.Fatalf("encapsulated to %d bytes, secret of %d", len(enc), len(secret))
			}
			o.choose()
		}
		if a, err := parseAnswer(part); err == nil && a != nil && len(a.enc) != kemEncSize {
			t.Fatalf("answer %+v", a)
		}
		if _, err := parseConfirmation(part); err != nil && !errors.Is(err, ErrBadMessage) {
			t.Fatal(err)
		}
	})
}

// FuzzServerHello has two inputs: a message, and a tail that is properly sealed, so that the code
// behind the box is reached too.
func FuzzServerHello(f *testing.F) {
	vectors := readVectors(f)
	for i, v := range vectors {
		f.Add([]byte(v.ServerHello), []byte(
			`{"cert":`+string(vectors[1].ServerCert)+`,"requireCert":true}`), uint8(i))
	}
	f.Add([]byte(`{"version":1,"opc":1}`), []byte(`{"cert":{},"requireCert":0}`), uint8(1))
	f.Add([]byte(`[]`), []byte(nil), uint8(0))
	f.Fuzz(func(t *testing.T, message, tail []byte, which uint8) {
		v := vectors[int(which)%len(vectors)]
		e := newHalfExchange(t, v.parties(t))
		if _, err := e.client.step4VerifyServerHello(message); err != nil {
			mustRefuse(t, err, "4b")
		} else if string(message) != v.ServerHello {
			m, err := parseServerHello(message, v.Version)
			if want, _ := parseServerHello([]byte(v.ServerHello), v.Version); err != nil ||
				!bytes.Equal(m.box, want.box) {
				t.Fatalf("another box was granted: %v", err)
			}
		}

		e = newHalfExchange(t, v.parties(t))
		box := e.server.shared.seal(append(e.server.own.append(nil), tail...), e.client.helloNonce)
		sealed := serverHello{v.Version, e.server.cfg.Key.Public(), box}
		if _, err := e.client.step4VerifyServerHello(sealed.marshal()); err != nil {
			mustRefuse(t, err, "4b")
			if v.Version == Version1 && len(box) <= maxBox(Version1) {
				t.Fatalf("a tail in version 1 is refused: %v", err)
			}
		}
	})
}

// FuzzClientReady has the same two inputs.
func FuzzClientReady(f *testing.F) {
	vectors := readVectors(f)
	for i, v := range vectors {
		f.Add([]byte(v.ClientReady), []byte(vectors[2].ClientCert), uint8(i))
	}
	f.Add([]byte(`{"version":2,"opc":2,"s_blackbox_a":[1,2,3]}`), []byte(`{}`), uint8(2))
	f.Add([]byte(`{`), []byte(`{"desc":{},"sign":{}}`), uint8(2))
	f.Fuzz(func(t *testing.T, message, tail []byte, which uint8) {
		v := vectors[int(which)%len(vectors)]
		e := newExchange(t, v.parties(t))
		if _, err := e.server.step5VerifyClientReady(message); err != nil {
			mustRefuse(t, err, "5b")
		} else if string(message) != v.ClientReady {
			m, err := parseClientReady(message, v.Version)
			if want, _ := parseClientReady([]byte(v.ClientReady), v.Version); err != nil ||
				!bytes.Equal(m.box, want.box) {
				t.Fatalf("another box was granted: %v", err)
			}
		}

		box := e.server.shared.seal(append(e.client.own.append(nil), tail...), e.server.own.nonce)
		_, err := e.server.step5VerifyClientReady(clientReady{v.Version, box}.marshal())
		if err != nil {
			mustRefuse(t, err, "5b")
			if !v.RequireCert && len(box) <= maxBox(v.Version) {
				t.Fatalf("a tail that nobody asked for is refused: %v", err)
			}
		}
	})
}

// FuzzRecord seals a payload, alters the record, and opens it, at any counter. Only the unaltered
// record may open.
func FuzzRecord(f *testing.F) {
	f.Add([]byte("payload"), uint64(0), []byte(nil), uint16(0))
	f.Add([]byte{}, ^uint64(0), []byte{1}, uint16(3))
	f.Add(pattern(300), uint64(1<<32-1), []byte{0, 0, 0x80}, uint16(298))
	f.Add(pattern(64), uint64(1<<63), []byte{0}, uint16(65535))
	f.Fuzz(func(t *testing.T, payload []byte, counter uint64, change []byte, at uint16) {
		s := secrets{shareKey: [keySize]byte{9}}
		binary.LittleEndian.PutUint64(s.nonce[:], counter)
		record, err := newSecretboxDirection(s).seal(nil, payload)
		if err != nil {
			t.Fatal(err)
		}
		altered := bytes.Clone(record)
		for i, c := range change {
			altered[(int(at)+i)%len(altered)] ^= c
		}
		got, err := newSecretboxDirection(s).open(nil, altered)
		switch {
		case bytes.Equal(altered, record):
			if err != nil || !bytes.Equal(got, payload) {
				t.Fatalf("the record does not open: %v", err)
			}
		case !errors.Is(err, ErrNotOpened):
			t.Fatalf("an altered record: got %v, want ErrNotOpened", err)
		}
		if _, err := newSecretboxDirection(s).open(nil, change); !errors.Is(err, ErrNotOpened) {
			t.Fatalf("bytes that are no record: got %v, want ErrNotOpened", err)
		}
	})
}

// FuzzFrames reads any bytes, split in any way, and compares with gorilla, for which unmasked
// frames get a mask. A client reads the same, up to the first frame that a server must not send.
func FuzzFrames(f *testing.F) {
	f.Add(wireOf(testStream()), uint64(1), uint16(40<<10))
	f.Add(wireOf(masksOf(testStream(), &testMask)), uint64(2), uint16(300))
	f.Add(wireOf(mixedMasks(testStream())), uint64(3), uint16(129))
	f.Add(wireOf([]frame{{final: true, opcode: 2, payload: pattern(70000)}}), uint64(4),
		uint16(5000))
	f.Add(append(wireOf(testStream()[:2]), 0x88, 0x82, 1, 2, 3, 4, 2, 0xea), uint64(5), uint16(100))
	f.Add([]byte{0x82, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3}, uint64(6),
		uint16(100))
	f.Add([]byte{0x88, 0x05, 0x11, 0x33, 'b', 'y', 'e'}, uint64(7), uint16(0))
	f.Add([]byte{0x82}, uint64(8), uint16(1))
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64, limit uint16) {
		most := 1 + int(limit)
		read := func(isServer bool) ([]event, error) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			var conn chunkConn
			for rest := bytes.Clone(stream); len(rest) > 0; {
				n := 1 + rnd.IntN(min(len(rest), 1+rnd.IntN(8192)))
				conn.chunks, rest = append(conn.chunks, rest[:n]), rest[n:]
			}
			r := limitedReader(&conn, isServer, most, nil)
			events, err := eventsOf(t, r)
			if n := len(r.buf); n > max(minReadBuffer, 2*len(stream)) {
				t.Fatalf("a buffer of %d for %d bytes", n, len(stream))
			}
			return events, err
		}
		got, err := read(true)
		want, end := gorillaEvents(t, maskAll(stream), int64(most))
		if !slices.Equal(got, want) || endOf(err) != end {
			t.Fatalf("got %d messages, %v; gorilla has %d, %s", len(got), err, len(want), end)
		}
		for _, e := range got {
			if !isControl(e.opcode) && len(e.payload) > most {
				t.Fatalf("a message of %d bytes, the limit is %d", len(e.payload), most)
			}
		}
		if asClient, err := read(false); !slices.Equal(asClient,
			got[:min(len(asClient), len(got))]) {
			t.Fatalf("the client got %d messages, %v; the server %d", len(asClient), err, len(got))
		}
	})
}

// Ends of a stream, so that those of two readers can be compared.
const (
	// or a message that is too large: gorilla looks at lengths in another order
	endOpen      = "no close frame"
	endViolation = "violation"
)

// endOf describes a frameReader's last error.
func endOf(err error) string {
	var closed *websocket.CloseError
	var malformed frameError
	switch {
	case errors.As(err, &closed):
		return closed.Error()
	case errors.As(err, &malformed):
		return endViolation
	default:
		return endOpen
	}
}

// gorillaEvents is what gorilla's server reads from a stream.
func gorillaEvents(tb testing.TB, stream []byte, limit int64) (events []event, end string) {
	ws := upgradeOver(tb, chunked(bytes.Clone(stream), max(1, len(stream))))
	ws.SetReadLimit(limit)
	note := func(opcode int) func(string) error {
		return func(payload string) error {
			events = append(events, event{opcode, payload})
			return nil
		}
	}
	ws.SetPingHandler(note(websocket.PingMessage))
	ws.SetPongHandler(note(websocket.PongMessage))
	for {
		opcode, message, err := ws.ReadMessage()
		var closed *websocket.CloseError
		switch {
		case err == nil:
			events = append(events, event{opcode, string(message)})
		case err == io.EOF, errors.Is(err, websocket.ErrReadLimit),
			websocket.IsCloseError(err, websocket.CloseAbnormalClosure):
			return events, endOpen
		case errors.As(err, &closed):
			return events, closed.Error()
		default:
			return events, endViolation
		}
	}
}

// maskAll adds a mask with a key of zeros to each unmasked frame, since gorilla's server requires
// masks.
func maskAll(stream []byte) (out []byte) {
	for len(stream) >= 2 {
		size := max(2, map[byte]int{frameLength16: 4, frameLength64: 10}[stream[1]&frameLengthBits])
		if len(stream) < size {
			break
		}
		length := uint64(stream[1] & frameLengthBits)
		switch length {
		case frameLength16:
			length = uint64(binary.BigEndian.Uint16(stream[2:]))
		case frameLength64:
			length = binary.BigEndian.Uint64(stream[2:])
		}
		out = append(append(out, stream[0], stream[1]|frameMaskBit), stream[2:size]...)
		if stream[1]&frameMaskBit == 0 {
			out = append(out, 0, 0, 0, 0)
		} else {
			n := min(maskKeySize, len(stream)-size)
			out = append(out, stream[size:size+n]...)
			size += n
		}
		stream = stream[size:]
		n := min(length, uint64(len(stream)))
		out, stream = append(out, stream[:n]...), stream[n:]
	}
	if len(stream) >= 2 {
		stream = append([]byte{stream[0], stream[1] | frameMaskBit}, stream[2:]...)
	}
	return append(out, stream...)
}
