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

// BenchmarkAEAD compares the extension's records with the bare cipher, at the size that a tunnel
// sends.
func BenchmarkAEAD(b *testing.B) {
	payload := pattern(benchPayload)
	for _, suite := range []string{suiteAESGCM, suiteChaCha20} {
		key := [keySize]byte{1}
		bare, err := newAEAD(suite, key[:])
		if err != nil {
			b.Fatal(err)
		}
		nonce := make([]byte, bare.NonceSize())
		sealed := bare.Seal(nil, nonce, payload, nil)
		buf := make([]byte, 0, len(sealed))
		run := func(name string, once func() error) {
			b.Run(suite+"/"+name, func(b *testing.B) {
				b.SetBytes(benchPayload)
				b.ReportAllocs()
				for b.Loop() {
					if err := once(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		sealing, opening := newAEADPair(b, suite, ratchetEvery)
		opening.key = key
		opening.aead = bare
		run("seal/bare", func() error { bare.Seal(buf, nonce, payload, nil); return nil })
		run("seal/record", func() error { _, err := sealing.seal(buf, payload); return err })
		run("open/bare", func() error { _, err := bare.Open(buf, nonce, sealed, nil); return err })
		run("open/record", func() error {
			opening.next = 0 // the same record again
			_, err := opening.open(buf, sealed)
			return err
		})
	}
}

// BenchmarkHandshake runs all steps of both ends, without a network. wire-B is what the three
// messages take.
func BenchmarkHandshake(b *testing.B) {
	for _, v := range variants {
		for _, policy := range []ExtensionPolicy{ExtensionOff, ExtensionAuto} {
			name := v.name + "/specified"
			if policy == ExtensionAuto {
				name = v.name + "/extended"
			}
			b.Run(name, func(b *testing.B) {
				p := newParties(b, v.version, v.requireCert)
				p.client.Extension, p.server.Extension = policy, policy
				b.ReportAllocs()
				size := 0
				for b.Loop() {
					e := newExchange(b, p)
					if _, err := e.server.step5VerifyClientReady(e.ready); err != nil {
						b.Fatal(err)
					}
					if _, err := e.client.step6SecureContext(); err != nil {
						b.Fatal(err)
					}
					size = max(size, len(e.hello)+len(e.reply)+len(e.ready))
				}
				b.ReportMetric(float64(size), "wire-B")
			})
		}
	}
}

// BenchmarkRecordTCP sends records of 32 KiB over loopback.
func BenchmarkRecordTCP(b *testing.B) {
	client, server := connectTCP(b, newExtendedParties(b, Version1, false))
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
					if _, err := way.to.ReadRecord(nil); err != nil {
						read <- err
						return
					}
				}
				read <- nil
			}()
			for range b.N {
				if err := way.from.WriteRecords(payload); err != nil {
					b.Fatal(err)
				}
			}
			if err := <-read; err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkReadFrames reads frames of 32 KiB: from a peer that masks with a random key, with a key
// of zeros as this package's clients do, and not at all; and the first also with gorilla.
func BenchmarkReadFrames(b *testing.B) {
	for _, tt := range []struct {
		name string
		mask *[4]byte
	}{{"masked", &testMask}, {"zero-key", &[4]byte{}}, {"unmasked", nil}} {
		b.Run(tt.name, func(b *testing.B) {
			frames := frame{final: true, opcode: websocket.BinaryMessage, mask: tt.mask,
				payload: pattern(benchPayload)}.append(nil)
			r := limitedReader(&frameSource{frames: frames}, true, benchPayload, nil)
			b.SetBytes(benchPayload)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := r.next(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("masked/gorilla", func(b *testing.B) {
		frames := frame{final: true, opcode: websocket.BinaryMessage, mask: &testMask,
			payload: pattern(benchPayload)}.append(nil)
		ws := upgradeOver(b, &frameSource{frames: frames})
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
