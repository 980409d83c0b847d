package mux

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
)

// violation is what a peer does that the format forbids. The last record is the one at fault.
type violation struct {
	name    string
	prepare func(s *Session, p *rawPeer)
	records [][]byte
}

const violationWindow = 4 << 10

func violations() []violation {
	one := func(name string, record ...[]byte) violation {
		return violation{name: name, records: record}
	}
	accepted := func(name string, record ...[]byte) violation {
		return violation{name, func(s *Session, p *rawPeer) { p.accept(s, 1) }, record}
	}
	pinged := func(name string, record ...[]byte) violation {
		return violation{name, func(s *Session, p *rawPeer) {
			go s.Ping(context.Background())
			p.until(kindPing)
		}, record}
	}
	opening := func(name string, record ...[]byte) violation {
		return violation{name, func(s *Session, p *rawPeer) {
			go s.Open(context.Background(), Target{})
			p.until(kindOpen)
		}, record}
	}
	list := []violation{
		one("data past credit", wireOpen(1), wire(kindData, 1, make([]byte, violationWindow+1))),
		one("data past credit, byte by byte", wireOpen(1),
			wire(kindData, 1, make([]byte, violationWindow)), wire(kindData, 1, []byte{0})),
		one("first bytes past credit", wireOpen(1, make([]byte, violationWindow+1)...)),
		one("data after fin", wireOpen(1), wire(kindFin, 1), wire(kindData, 1, []byte("x"))),
		one("second fin", wireOpen(1), wire(kindFin, 1), wire(kindFin, 1)),
		one("open with this side's parity", wireOpen(2)),
		one("open repeated", wireOpen(1), wireOpen(1)),
		one("open with a descending id", wireOpen(3), wireOpen(1)),
		one("open without an id", wireOpen(0)),
		one("open cut in its fixed part", wire(kindOpen, 1, []byte{1, 0})),
		one("open with a target past its end", wire(kindOpen, 1, []byte{1, 0, 2, 'h'})),
		one("open with a long target", wire(kindOpen, 1, []byte{1, 2, 1}, make([]byte, maxTarget+1))),
		one("data for a stream that nobody opened", wire(kindData, 1, []byte("x"))),
		one("data for a stream that this side never opened", wire(kindData, 2, []byte("x"))),
		one("reset without a stream", wire(kindReset, 0, u16(CodeClosed))),
		one("ack beyond what was sent", wire(kindAck, 0, u64(1))),
		accepted("ack beyond what was sent, after a right one", wire(kindAck, 0, u64(headerSize)),
			wire(kindAck, 0, u64(headerSize+1))),
		one("pong without a ping", wire(kindPong, 0, u64(1))),
		one("pong with token 0", wire(kindPong, 0, u64(0))),
		pinged("pong of the next ping", wire(kindPong, 0, u64(2))),
		one("unknown mandatory kind", wire(0x07, 0)),
		one("unknown mandatory sequenced kind", wire(0x41, 0)),
		one("second hello", appendHello(nil, rawHello)),
		one("record too large", make([]byte, MaxRecordSize+1)),
		one("truncated header", slices.Concat(wireOpen(1), []byte{1, 2, 3, 4, 5, 6, 7})),
		one("truncated payload", wire(kindPing, 0, u64(1))[:15]),
		one("answer to its own open", wireOpen(1), wire(kindOpened, 1)),
		opening("second answer", wire(kindOpened, 2), wire(kindOpened, 2)),
		opening("fin before the answer", wire(kindFin, 2)),
		opening("refusal after the answer", wire(kindOpened, 2), wire(kindRefused, 2, u16(CodeTimeout))),
	}
	for _, k := range []kind{kindPing, kindPong, kindAck, kindClose, kindDraining} {
		list = append(list, one(fmt.Sprintf("frame 0x%02x of the session on a stream", uint8(k)),
			wireOpen(1), wire(k, 1, validPayload(k))))
	}
	for _, b := range badPayloads() {
		list = append(list, one(fmt.Sprintf("frame 0x%02x with %d bytes", uint8(b.kind), len(b.payload)),
			wireOpen(1), wire(b.kind, streamOf(b.kind), b.payload)))
	}
	return list
}

// validPayload is a payload that checkPayload passes.
func validPayload(k kind) []byte {
	switch k {
	case kindPing, kindPong, kindAck, kindCredit:
		return u64(0)
	case kindClose, kindRefused, kindReset:
		return u16(CodeDone)
	case kindData:
		return []byte("x")
	}
	return nil
}

func streamOf(k kind) uint32 {
	switch k {
	case kindPing, kindPong, kindAck, kindClose, kindDraining:
		return 0
	}
	return 1
}

// badPayloads returns frames with payloads just too short and too long.
func badPayloads() []frame {
	var bad []frame
	add := func(k kind, lengths ...int) {
		for _, n := range lengths {
			bad = append(bad, frame{kind: k, payload: make([]byte, n)})
		}
	}
	for _, k := range []kind{kindPing, kindPong, kindAck, kindCredit} {
		add(k, 0, 7, 9)
	}
	for _, k := range []kind{kindRefused, kindClose} {
		add(k, 0, 1, codeSize+maxText+1)
	}
	add(kindReset, 0, 1, 3)
	add(kindData, 0)
	for _, k := range []kind{kindDraining, kindOpened, kindFin} {
		add(k, 1)
	}
	return bad
}

// TestViolations checks that each violation of the format ends the session, and that the peer is
// told.
func TestViolations(t *testing.T) {
	for _, v := range violations() {
		t.Run(v.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, p := newRawClient(t, Config{Window: violationWindow}, rawHello)
				if v.prepare != nil {
					v.prepare(s, p)
				}
				for i, record := range v.records {
					if i == len(v.records)-1 {
						p.quiet() // fails when the session has ended before its time
					}
					p.send(record)
				}
				f := p.until(kindClose)
				if code, text := f.code(); code != CodeProtocol || text == "" {
					t.Errorf("closed with %v, %q", code, text)
				}
				var breach *ProtocolError
				if err := s.Wait(); !errors.As(err, &breach) {
					t.Errorf("the session ended with %v", err)
				}
			})
		})
	}
}

// TestTolerated sends what is unusual but allowed. The session continues and counts correctly.
func TestTolerated(t *testing.T) {
	for _, c := range []struct {
		name    string
		records [][]byte
		counted int // sequenced bytes
	}{
		{"empty record", [][]byte{{}}, 0},
		{"unknown optional kind", [][]byte{wire(0x81, 0, []byte("news"))}, 0},
		{"unknown optional kind of a stream", [][]byte{wire(0x90, 77, []byte("news"))}, 0},
		{"unknown optional sequenced kind", [][]byte{wire(0xc1, 0, []byte("news")), wire(0xff, 9)},
			headerSize + 4 + headerSize},
		{"ids left out", [][]byte{wireOpen(5), wire(kindData, 1, []byte("x"))},
			len(wireOpen(5)) + headerSize + 1},
		{"data for a stream that has ended", [][]byte{wireOpen(1), wire(kindReset, 1, u16(CodeAborted)),
			wire(kindData, 1, make([]byte, 32<<10))},
			len(wireOpen(1)) + headerSize + 2 + headerSize + 32<<10},
		{"fin, then reset", [][]byte{wireOpen(1), wire(kindFin, 1), wire(kindReset, 1, u16(CodeClosed))},
			len(wireOpen(1)) + headerSize + headerSize + 2},
		{"ack of nothing", [][]byte{wire(kindAck, 0, u64(0))}, 0},
		{"draining twice", [][]byte{slices.Concat(wire(kindDraining, 0), wire(kindDraining, 0))},
			2 * headerSize},
		{"a whole record", [][]byte{wire(0x81, 0, make([]byte, MaxRecordSize-headerSize))}, 0},
		{"a whole window", [][]byte{wireOpen(1), wire(kindData, 1, make([]byte, violationWindow))},
			len(wireOpen(1)) + headerSize + violationWindow},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, p := newRawClient(t, Config{Window: violationWindow}, rawHello)
				for _, record := range c.records {
					p.send(record)
				}
				p.quiet()
				if got := s.Stats().Received; got != uint64(c.counted) {
					t.Errorf("position %d, want %d", got, c.counted)
				}
				p.send(wire(kindPing, 0, u64(7)))
				if pongs := ofKind(p.quiet(), kindPong); len(pongs) != 1 || pongs[0].uint64() != 7 {
					t.Errorf("pongs %v", pongs)
				}
			})
		})
	}
}

// TestOnlyNewestPingIsAnswered checks that a flood of pings queues nothing.
func TestOnlyNewestPingIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, p := newRawClient(t, Config{}, rawHello)
		var record []byte
		for i := range 1000 {
			record = append(record, wire(kindPing, 0, u64(uint64(i)))...)
		}
		p.send(record)
		if pongs := ofKind(p.quiet(), kindPong); len(pongs) != 1 || pongs[0].uint64() != 999 {
			t.Errorf("pongs %v", pongs)
		}
	})
}

// TestUnreadAnswersEndTheSession opens streams as a peer that does not read the refusals.
func TestUnreadAnswersEndTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := newRawClient(t, Config{MaxStreams: 1}, rawHello)
		const perRecord = 3000
		const most = leastLoadedStreams * maxStreamControl
		id := uint32(1)
		for s.Err() == nil && id < 10*most {
			var record []byte
			for range perRecord {
				record = append(record, wireOpen(id)...)
				id += 2
			}
			p.send(record)
			if n := answersOf(s).frames; n > most+2*perRecord {
				t.Errorf("%d frames queued", n)
				id = 10 * most
			}
		}
		var breach *ProtocolError
		if err := s.Err(); !errors.As(err, &breach) {
			t.Errorf("after %d opens the session ended with %v", id/2, err)
		}
	})
}

// TestCloseFrameEndsTheSession checks that a close frame ends the session, whatever follows it.
func TestCloseFrameEndsTheSession(t *testing.T) {
	s, p := newRawClient(t, Config{}, rawHello)
	p.send(wire(kindClose, 0, u16(CodeDraining), []byte("\x1b[31mbye\u202e\xff")), wire(0x07, 0))
	var closed *CloseError
	if err := s.Wait(); !errors.As(err, &closed) ||
		*closed != (CloseError{CodeDraining, "?[31mbye??"}) {
		t.Errorf("the session ended with %#v", err)
	}
}
