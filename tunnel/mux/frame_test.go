package mux

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

// wireCases are all kinds of frames, built as the session builds them, with their literal bytes.
var wireCases = []struct {
	name    string
	built   []byte
	literal string // hexadecimal, spaces for the eye
	parsed  frame
}{
	{
		"hello of a client",
		appendHello(nil, hello{role: roleClient, maxRecord: 65536, firstCredit: 262144, maxStreams: 16384,
			sendPosition: 1, receivePosition: 2}),
		"01 00005c 00000000  63756c76657274 01 01 000000 00010000 00040000 00004000 " +
			"0000000000000001 0000000000000002 " +
			strings.Repeat("00", 52),
		frame{kindHello, 0,
			[]byte("culvert\x01\x01\x00\x00\x00\x00\x01\x00\x00\x00\x04\x00\x00\x00\x00\x40\x00" +
				"\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02" +
				strings.Repeat("\x00", 52))},
	},
	{
		"hello of a server",
		appendHello(nil, hello{
			role: roleServer, maxRecord: 4096, maxStreams: math.MaxUint32, receivePosition: math.MaxUint64,
			id: sessionID{0, 1, 2, 15: 15}, proof: [proofSize]byte{0xa0, 31: 0xaf}, window: 2 * time.Minute,
		}),
		"01 00005c 00000000  63756c76657274 01 02 000000 00001000 00000000 ffffffff " +
			"0000000000000000 ffffffffffffffff " +
			"0001020000000000000000000000000f a0" + strings.Repeat("00", 30) + "af 00000078",
		frame{kindHello, 0,
			[]byte("culvert\x01\x02\x00\x00\x00\x00\x00\x10\x00\x00\x00\x00\x00\xff\xff\xff\xff" +
				"\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff" +
				"\x00\x01\x02" + strings.Repeat("\x00", 12) + "\x0f\xa0" + strings.Repeat("\x00", 30) +
				"\xaf\x00\x00\x00\x78")},
	},
	{"ping", appendUint64Frame(nil, kindPing, 0, 0x0102030405060708),
		"02 000008 00000000  0102030405060708", frame{kindPing, 0, u64(0x0102030405060708)}},
	{"pong", appendUint64Frame(nil, kindPong, 0, 1), "03 000008 00000000  0000000000000001",
		frame{kindPong, 0, u64(1)}},
	{"ack", appendUint64Frame(nil, kindAck, 0, 1<<40), "04 000008 00000000  0000010000000000",
		frame{kindAck, 0, u64(1 << 40)}},
	{"close", appendFrame(nil, kindClose, 0, codePayload(CodeDone, "")), "05 000002 00000000  0020",
		frame{kindClose, 0, []byte{0, 0x20}}},
	{"close with a text", appendFrame(nil, kindClose, 0, codePayload(CodeProtocol, "né")),
		"05 000005 00000000  0021 6ec3a9", frame{kindClose, 0, []byte("\x00\x21n\u00e9")}},
	{"draining", appendFrame(nil, kindDraining, 0, nil), "46 000000 00000000",
		frame{kindDraining, 0, nil}},
	{
		"open",
		appendFrame(nil, kindOpen, 1, openPayload(Target{StreamTCP, "a.test:80"}, nil)),
		"50 00000c 00000001  01 0009 612e746573743a3830",
		frame{kindOpen, 1, []byte("\x01\x00\x09a.test:80")},
	},
	{
		"open with first bytes",
		appendFrame(nil, kindOpen, 0xfffffffe, openPayload(Target{2, ""}, []byte("GET"))),
		"50 000006 fffffffe  02 0000 474554",
		frame{kindOpen, 0xfffffffe, []byte("\x02\x00\x00GET")},
	},
	{"opened", appendFrame(nil, kindOpened, 1, nil), "51 000000 00000001", frame{kindOpened, 1, nil}},
	{"refused", appendFrame(nil, kindRefused, 2, codePayload(CodeNotAllowed, "no")),
		"52 000004 00000002  0006 6e6f", frame{kindRefused, 2, []byte("\x00\x06no")}},
	{"data", appendFrame(nil, kindData, 3, []byte{0, 255}), "53 000002 00000003  00ff",
		frame{kindData, 3, []byte{0, 255}}},
	{"credit", appendUint64Frame(nil, kindCredit, 4, math.MaxUint64),
		"54 000008 00000004  ffffffffffffffff", frame{kindCredit, 4, u64(math.MaxUint64)}},
	{"fin", appendFrame(nil, kindFin, 5, nil), "55 000000 00000005", frame{kindFin, 5, nil}},
	{"reset", appendFrame(nil, kindReset, 6, codePayload(CodeAborted, "")), "56 000002 00000006  0014",
		frame{kindReset, 6, []byte{0, 20}}},
}

// literal decodes a literal of wireCases.
func literal(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFrameBytes(t *testing.T) {
	for _, c := range wireCases {
		t.Run(c.name, func(t *testing.T) {
			want := literal(t, c.literal)
			if !bytes.Equal(c.built, want) {
				t.Errorf("built %x\nwant  %x", c.built, want)
			}
			f, rest, err := parseFrame(append(want, "rest"...))
			if err != nil || string(rest) != "rest" {
				t.Fatalf("parse: rest %q, %v", rest, err)
			}
			if f.kind != c.parsed.kind || f.stream != c.parsed.stream ||
				!bytes.Equal(f.payload, c.parsed.payload) {
				t.Errorf("parsed %v\nwant   %v", f, c.parsed)
			}
			if f.size() != len(want) {
				t.Errorf("size %d, want %d", f.size(), len(want))
			}
			if err := f.checkPayload(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFrameTruncated(t *testing.T) {
	for _, c := range wireCases {
		whole := literal(t, c.literal)
		for n := range whole {
			_, _, err := parseFrame(whole[:n])
			var breach *ProtocolError
			if !errors.As(err, &breach) {
				t.Errorf("%s, %d of %d bytes: %v", c.name, n, len(whole), err)
			}
		}
	}
}

func TestFramePayloadIsBounded(t *testing.T) {
	record := append(wire(kindData, 1, []byte("ab")), wire(kindData, 3, []byte("cd"))...)
	f, _, err := parseFrame(record)
	if err != nil {
		t.Fatal(err)
	}
	_ = append(f.payload, "overwritten"...)
	if !bytes.Equal(record[10:], wire(kindData, 3, []byte("cd"))) {
		t.Error("appending to a payload changes the next frame")
	}
	if f, _, err := parseFrame(literal(t, "53 ffffff 00000001")); err == nil {
		t.Errorf("parsed %v", f)
	}
}

func TestCheckPayload(t *testing.T) {
	for _, b := range badPayloads() {
		var breach *ProtocolError
		if err := b.checkPayload(); !errors.As(err, &breach) {
			t.Errorf("frame 0x%02x with %d bytes: %v", uint8(b.kind), len(b.payload), err)
		}
	}
	for _, k := range []kind{0x00, 0x07, 0x81, 0xff} {
		if err := (frame{kind: k, payload: make([]byte, 1000)}).checkPayload(); err != nil {
			t.Errorf("unknown kind 0x%02x: %v", uint8(k), err)
		}
	}
}

func TestOpenPayload(t *testing.T) {
	for _, c := range []struct {
		name   string
		target Target
		first  string
	}{
		{"empty", Target{}, ""},
		{"name", Target{StreamTCP, "example.test:443"}, ""},
		{"first bytes", Target{StreamTCP, "h:1"}, "GET / HTTP/1.1\r\n"},
		{"longest", Target{255, strings.Repeat("x", maxTarget)}, "x"},
	} {
		whole := openPayload(c.target, []byte(c.first))
		target, first, err := parseOpen(whole)
		if err != nil || target != c.target || string(first) != c.first {
			t.Errorf("%s: %v, %q, %v", c.name, target, first, err)
		}
		for n := range openFixedSize + len(c.target.Address) {
			if _, _, err := parseOpen(whole[:n]); err == nil {
				t.Errorf("%s: parsed with %d of %d bytes", c.name, n, len(whole))
			}
		}
	}
	long := openPayload(Target{1, strings.Repeat("x", maxTarget+1)}, nil)
	if _, _, err := parseOpen(long); err == nil {
		t.Error("a target that is too long was parsed")
	}
}

func TestTexts(t *testing.T) {
	for _, c := range []struct{ sent, want string }{
		{"", ""},
		{"plain, né 漢 🙂", "plain, né 漢 🙂"},
		{"line\nbreak\r\t\x00\x1b[2J\x7f", "line?break????[2J?"},
		{"\u0085\u009b31m", "??31m"},
		{"\u2028\u2029", "??"},
		{"\u202etxt.exe\u2066\u200b\ufeff", "?txt.exe???"},
		{"\xff\xfe", "?"},
		{strings.Repeat("x", maxText+1), strings.Repeat("x", maxText)},
		{strings.Repeat("x", maxText-1) + "é", strings.Repeat("x", maxText-1) + "?"},
	} {
		f := frame{kind: kindClose, payload: codePayload(CodeDone, c.sent)}
		if err := f.checkPayload(); err != nil {
			t.Errorf("%q: %v", c.sent, err)
			continue
		}
		if code, text := f.code(); code != CodeDone || text != c.want {
			t.Errorf("%q: %v, %q, want %q", c.sent, code, text, c.want)
		}
	}
}

func TestCodeTexts(t *testing.T) {
	for code, text := range codeTexts {
		if code.String() != text || text == "" {
			t.Errorf("code %d: %q", uint16(code), code)
		}
	}
	if got := Code(999).String(); got != "code 999" {
		t.Errorf("unknown code: %q", got)
	}
}

// FuzzFrame takes records apart and puts them together again.
func FuzzFrame(f *testing.F) {
	var all []byte
	for _, c := range wireCases {
		f.Add(literal(f, c.literal))
		all = append(all, c.built...)
	}
	f.Add(all)
	f.Add(all[:len(all)-1])
	f.Add([]byte{})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, record []byte) {
		for len(record) > 0 {
			f, rest, err := parseFrame(record)
			if err != nil {
				var breach *ProtocolError
				if !errors.As(err, &breach) {
					t.Fatalf("error of another type: %v", err)
				}
				return
			}
			again := appendFrame(nil, f.kind, f.stream, f.payload)
			if !bytes.Equal(again, record[:len(record)-len(rest)]) {
				t.Fatalf("parsed %x, built %x", record, again)
			}
			fuzzPayload(t, f)
			record = rest
		}
	})
}

// fuzzPayload parses a payload as its kind requires and builds it again.
func fuzzPayload(t *testing.T, f frame) {
	if f.checkPayload() != nil {
		return
	}
	switch f.kind {
	case kindPing, kindPong, kindAck, kindCredit:
		if again := u64(f.uint64()); !bytes.Equal(again, f.payload) {
			t.Fatalf("payload %x, built %x", f.payload, again)
		}
	case kindClose, kindRefused, kindReset:
		code, text := f.code()
		twice := frame{kind: f.kind, payload: codePayload(code, text)}
		if again, text2 := twice.code(); again != code || (text2 != text && len(text) <= maxText) {
			t.Fatalf("%v %q, then %v %q", code, text, again, text2)
		}
	case kindOpen:
		target, first, err := parseOpen(f.payload)
		if err != nil {
			return
		}
		if again := openPayload(target, first); !bytes.Equal(again, f.payload) {
			t.Fatalf("payload %x, built %x", f.payload, again)
		}
	}
}

// FuzzHello parses hellos. What was parsed and built again parses to the same.
func FuzzHello(f *testing.F) {
	for _, c := range wireCases {
		f.Add(literal(f, c.literal), true)
		f.Add(literal(f, c.literal), false)
	}
	f.Add(append(appendHeader(nil, kindHello, 0, helloSize+1),
		append(appendHello(nil, rawHello)[headerSize:], 7)...), true)
	f.Fuzz(func(t *testing.T, record []byte, client bool) {
		want := roleServer
		if client {
			want = roleClient
		}
		h, err := parseHello(record, want)
		if err != nil {
			var breach *ProtocolError
			var refused *RefusedError
			if !errors.Is(err, ErrNotCulvert) && !errors.As(err, &breach) &&
				!(errors.As(err, &refused) && !client) {
				t.Fatalf("error of another type: %v", err)
			}
			return
		}
		if h.role != want || h.maxRecord < minRecordSize {
			t.Fatalf("%+v", h)
		}
		again, err := parseHello(appendHello(nil, h), want)
		if err != nil || again != h {
			t.Fatalf("%+v, then %+v: %v", h, again, err)
		}
	})
}

func BenchmarkAppendFrame(b *testing.B) {
	payload, record := make([]byte, maxData), make([]byte, 0, maxRecord)
	b.ReportAllocs()
	b.SetBytes(maxData)
	for b.Loop() {
		record = appendFrame(record[:0], kindData, 1, payload)
	}
}

func BenchmarkParseFrame(b *testing.B) {
	var record []byte
	for range 100 {
		record = append(record, wire(kindData, 1, make([]byte, 100))...)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(record)))
	for b.Loop() {
		for rest := record; len(rest) > 0; {
			f, after, err := parseFrame(rest)
			if err != nil || f.checkPayload() != nil {
				b.Fatal(err)
			}
			rest = after
		}
	}
}
