package protocol

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"testing"
)

func secretsAt(counter uint64) secrets {
	s := secrets{shareKey: [keySize]byte{1, 2, 3}}
	binary.LittleEndian.PutUint64(s.nonce[:], counter)
	return s
}

func TestNonceIsRepeatedThreeTimes(t *testing.T) {
	got := newNaclNonce([8]byte{1, 2, 3, 4, 5, 6, 7, 8})
	want := naclNonce{1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8}
	if *got != want {
		t.Fatalf("got %v", got)
	}
}

func TestCounterCarriesAndWraps(t *testing.T) {
	for _, tt := range []struct{ start, next uint64 }{
		{0, 1},
		{math.MaxUint8, 1 << 8},
		{math.MaxInt32, 1 << 31},
		{math.MaxUint32, 1 << 32},
		{math.MaxInt64, 1 << 63},
		{1<<63 | math.MaxUint32, 1<<63 + 1<<32},
		{math.MaxUint64, 0},
	} {
		c := newCounter(secretsAt(tt.start).nonce)
		c.advance()
		if c.current != tt.next || c.exhausted {
			t.Errorf("after %#x: got %#x, exhausted %v; want %#x", tt.start, c.current, c.exhausted,
				tt.next)
		}
	}
}

// TestCounterNeverRepeats starts one step before all 2^64 nonces are used.
func TestCounterNeverRepeats(t *testing.T) {
	for _, start := range []uint64{0, 5, 1 << 32, math.MaxUint64} {
		sealer, opener := newSecretboxDirection(secretsAt(start)),
			newSecretboxDirection(secretsAt(start))
		sealer.counter.current, opener.counter.current = start-1, start-1
		record, err := sealer.seal(nil, []byte("the last one"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := opener.open(nil, record); err != nil {
			t.Fatal(err)
		}
		if got, err := sealer.seal(nil, nil); !errors.Is(err, ErrCounterExhausted) || got != nil {
			t.Errorf("start %#x: sealing under the first nonce again: got %v", start, err)
		}
		if _, err := opener.open(nil, record); !errors.Is(err, ErrCounterExhausted) {
			t.Errorf("start %#x: opening under the first nonce again: got %v", start, err)
		}
	}
}

func TestRecordsOpenInOrderOnly(t *testing.T) {
	s := secretsAt(math.MaxUint32 - 1)
	sealer := newSecretboxDirection(s)
	var records [][]byte
	for i := range 4 {
		r, err := sealer.seal(nil, []byte{byte(i)})
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, r)
	}
	opener := newSecretboxDirection(s)
	for i, r := range records {
		for j, other := range records {
			if j == i {
				continue
			}
			if _, err := opener.open(nil, other); !errors.Is(err, ErrNotOpened) {
				t.Fatalf("record %d opened in place of %d: %v", j, i, err)
			}
		}
		got, err := opener.open(nil, r)
		if err != nil || !bytes.Equal(got, []byte{byte(i)}) {
			t.Fatalf("record %d: got %v, %v", i, got, err)
		}
	}
}

// TestRecordEveryByteFlipped flips each bit of records of several lengths, and cuts and lengthens
// them.
func TestRecordEveryByteFlipped(t *testing.T) {
	for _, size := range []int{0, 1, 15, 16, 17, 63, 64, 65, 300} {
		payload := bytes.Repeat([]byte{'x'}, size)
		s := secretsAt(7)
		record, err := newSecretboxDirection(s).seal(nil, payload)
		if err != nil {
			t.Fatal(err)
		}
		if len(record) != size+boxOverhead {
			t.Fatalf("a payload of %d bytes became a record of %d", size, len(record))
		}
		refused := func(what string, altered []byte) {
			t.Helper()
			if _, err := newSecretboxDirection(s).open(nil,
				altered); !errors.Is(err, ErrNotOpened) {
				t.Fatalf("size %d, %s: got %v, want ErrNotOpened", size, what, err)
			}
		}
		for i := range record {
			for bit := range 8 {
				record[i] ^= 1 << bit
				refused("bit flipped", record)
				record[i] ^= 1 << bit
			}
		}
		for n := range record {
			refused("cut at the end", record[:n])
		}
		refused("cut at the start", record[1:])
		refused("longer", append(record, 0))
		got, err := newSecretboxDirection(s).open(nil, record)
		if err != nil || !bytes.Equal(got, payload) {
			t.Fatalf("size %d: the unaltered record: %v", size, err)
		}
	}
}
