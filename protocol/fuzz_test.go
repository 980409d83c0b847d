package protocol

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

// The fuzz targets feed the step functions what a peer could send. Nothing may panic, every refusal must be a
// HandshakeError of its step with a code to tell, and what is granted must be what the other end really sent.

// mustRefuse checks the form of a refusal.
func mustRefuse(t *testing.T, err error, step string) {
	t.Helper()
	var he *HandshakeError
	if !errors.As(err, &he) || he.Step != step || !he.Code.ours() || strings.HasPrefix(he.Code.String(), "code ") {
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
		// What was taken from the message, written again, is taken in the same way.
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

// FuzzExtension has the three parts of the extension, each as the JSON that it is in a message.
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
			if enc, secret, err := o.encapsulate(hashHello(part)); err == nil && (len(enc) != kemEncSize || len(secret) != keySize) {
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

// FuzzServerHello has two inputs: a message as it is, and a tail that is sealed properly, so that what is behind the
// box is reached too.
func FuzzServerHello(f *testing.F) {
	vectors := readVectors(f)
	for i, v := range vectors {
		f.Add([]byte(v.ServerHello), []byte(`{"cert":`+string(vectors[1].ServerCert)+`,"requireCert":true}`), uint8(i))
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
			if want, _ := parseServerHello([]byte(v.ServerHello), v.Version); err != nil || !bytes.Equal(m.box, want.box) {
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
			if want, _ := parseClientReady([]byte(v.ClientReady), v.Version); err != nil || !bytes.Equal(m.box, want.box) {
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

// FuzzRecord seals a payload, alters the record, and opens it, at any counter. Only the unaltered record may open.
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

// FuzzUnmasked compares the incremental rewriting with one that has the whole stream before it.
func FuzzUnmasked(f *testing.F) {
	f.Add(wireOf(testStream()), uint64(1), uint16(40<<10))
	f.Add(wireOf(masksOf(testStream(), &testMask)), uint64(2), uint16(3))
	mixed := testStream()
	for i := range mixed {
		if i%2 == 1 {
			mixed[i].mask = &testMask
		}
	}
	f.Add(wireOf(mixed), uint64(3), uint16(1))
	f.Add(wireOf([]frame{{final: true, opcode: 2, payload: pattern(70000)}}), uint64(4), uint16(5000))
	f.Add([]byte{0x82, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3}, uint64(5), uint16(100))
	f.Add([]byte{0x82}, uint64(6), uint16(1))
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64, size uint16) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		var chunks [][]byte
		for rest := stream; len(rest) > 0; {
			n := 1 + rnd.IntN(min(len(rest), 1+rnd.IntN(8192)))
			chunks, rest = append(chunks, rest[:n]), rest[n:]
		}
		got := rewritten(t, max(1, int(size)), chunks...)
		if want := rewriteWhole(stream); !bytes.Equal(got, want) {
			t.Fatalf("got %d bytes, want %d", len(got), len(want))
		}
	})
}

// rewriteWhole is what an unmasker must do, for a stream that is all there. An unfinished header is dropped.
func rewriteWhole(stream []byte) (out []byte) {
	if len(stream) < 2 || stream[1]&frameMaskBit != 0 {
		return stream
	}
	for len(stream) >= 2 {
		size := map[byte]int{frameLength16: 4, frameLength64: 10}[stream[1]&frameLengthBits]
		size = max(size, 2)
		masked := stream[1]&frameMaskBit != 0
		if len(stream) < size || masked && len(stream) < size+maskKeySize {
			return out
		}
		length := uint64(stream[1] & frameLengthBits)
		switch length {
		case frameLength16:
			length = uint64(binary.BigEndian.Uint16(stream[2:]))
		case frameLength64:
			length = binary.BigEndian.Uint64(stream[2:])
		}
		out = append(out, stream[0], stream[1]|frameMaskBit)
		out = append(out, stream[2:size]...)
		if masked {
			out = append(out, stream[size:size+maskKeySize]...)
			size += maskKeySize
		} else {
			out = append(out, 0, 0, 0, 0)
		}
		stream = stream[size:]
		n := min(length, uint64(len(stream)))
		out = append(out, stream[:n]...)
		stream = stream[n:]
	}
	return out
}
