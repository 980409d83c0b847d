package protocol

import (
	"io"
	"testing"

	"github.com/gorilla/websocket"
)

const benchPayload = 32 << 10

func BenchmarkSeal(b *testing.B) {
	d := newSecretboxDirection(secretsAt(1))
	payload := pattern(benchPayload)
	buf := make([]byte, 0, benchPayload+boxOverhead)
	b.SetBytes(benchPayload)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.seal(buf, payload); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	s := secretsAt(1)
	record, err := newSecretboxDirection(s).seal(nil, pattern(benchPayload))
	if err != nil {
		b.Fatal(err)
	}
	d := newSecretboxDirection(s)
	buf := make([]byte, 0, benchPayload)
	b.SetBytes(benchPayload)
	b.ReportAllocs()
	for b.Loop() {
		d.counter = newCounter(s.nonce)
		if _, err := d.open(buf, record); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHandshake runs all steps of both ends, without a network.
func BenchmarkHandshake(b *testing.B) {
	for _, v := range variants {
		b.Run(v.name, func(b *testing.B) {
			p := newParties(b, v.version, v.requireCert)
			b.ReportAllocs()
			for b.Loop() {
				e := newExchange(b, p)
				if _, err := e.server.step5VerifyClientReady(e.ready); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRecordTCP sends records of 32 KiB over loopback.
func BenchmarkRecordTCP(b *testing.B) {
	client, server := connectTCP(b, newParties(b, Version1, false))
	for _, way := range []struct {
		name     string
		from, to *Conn
	}{{"up", client, server}, {"down", server, client}} {
		b.Run(way.name, func(b *testing.B) {
			payload := pattern(benchPayload)
			read := make(chan error, 1)
			b.SetBytes(benchPayload)
			b.ReportAllocs()
			b.ResetTimer()
			go func() {
				for range b.N {
					if _, err := way.to.ReadRecord(); err != nil {
						read <- err
						return
					}
				}
				read <- nil
			}()
			for range b.N {
				if err := way.from.WriteRecord(payload); err != nil {
					b.Fatal(err)
				}
			}
			if err := <-read; err != nil {
				b.Fatal(err)
			}
		})
	}
}

// frameSource is a connection that repeats one frame for ever.
type frameSource struct {
	chunkConn
	frame []byte
	at    int
}

func (s *frameSource) Read(p []byte) (int, error) {
	n := copy(p, s.frame[s.at:])
	s.at = (s.at + n) % len(s.frame)
	return n, nil
}

// BenchmarkUnmasked reads frames of 32 KiB with gorilla: from a masked peer without and with the wrapper, which must
// cost the same, and from an unmasked one.
func BenchmarkUnmasked(b *testing.B) {
	masked := frame{final: true, opcode: websocket.BinaryMessage, mask: &testMask, payload: pattern(benchPayload)}.append(nil)
	unmasked := frame{final: true, opcode: websocket.BinaryMessage, payload: pattern(benchPayload)}.append(nil)
	for _, tt := range []struct {
		name   string
		frame  []byte
		unwrap bool
	}{{"masked-plain", masked, true}, {"masked", masked, false}, {"unmasked", unmasked, false}} {
		b.Run(tt.name, func(b *testing.B) {
			source := &frameSource{frame: tt.frame}
			ws := upgradeOver(b, source)
			if tt.unwrap {
				ws = upgradePlain(b, source)
			}
			buf := make([]byte, benchPayload)
			b.SetBytes(benchPayload)
			b.ReportAllocs()
			for b.Loop() {
				_, r, err := ws.NextReader()
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(r, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
