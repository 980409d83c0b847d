package protocol

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

// The fuzz targets feed the step functions what a peer could send. Nothing may panic, every refusal must be a
// HandshakeError of its step with a code to tell, and what is granted must be what the other end really sent.

// mustRefuse checks the form of a refusal.
func mustRefuse(t *testing.T, err error, step string) {
	t.Helper()
	var he *HandshakeError
	if !errors.As(err, &he) || he.Step != step || !he.Code.ours() || closeTexts[he.Code] == "" {
		t.Fatalf("got %v, want a HandshakeError of step %s with a code", err, step)
	}
}

func FuzzClientHello(f *testing.F) {
	for _, v := range readVectors(f) {
		f.Add([]byte(v.ClientHello))
	}
	f.Add([]byte(`{"version":3,"opc":0}`))
	f.Add([]byte(`{"version":1,"opc":0,"client_public_key":[0],"nonce":[]}`))
	p := newParties(f, Version2, false)
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
