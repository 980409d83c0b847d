package protocol

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"testing"
)

// newAEADPair returns both sides of one direction.
func newAEADPair(tb testing.TB, suite string, every uint64) (sealing, opening *aeadDirection) {
	tb.Helper()
	key := [keySize]byte{1, 2, 3}
	var err error
	if sealing, err = newAEADDirection(suite, key, every); err != nil {
		tb.Fatal(err)
	}
	if opening, err = newAEADDirection(suite, key, every); err != nil {
		tb.Fatal(err)
	}
	return sealing, opening
}

func eachSuite(t *testing.T, test func(t *testing.T, suite string)) {
	t.Helper()
	for _, suite := range []string{suiteAESGCM, suiteChaCha20} {
		t.Run(suite, func(t *testing.T) { test(t, suite) })
	}
}

func TestAEADEveryByteCounts(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite string) {
		sealing, _ := newAEADPair(t, suite, ratchetEvery)
		record, err := sealing.seal(nil, []byte("a payload of some length"))
		if err != nil {
			t.Fatal(err)
		}
		for i := range record {
			for bit := range 8 {
				_, opening := newAEADPair(t, suite, ratchetEvery)
				altered := bytes.Clone(record)
				altered[i] ^= 1 << bit
				if _, err := opening.open(nil, altered); !errors.Is(err, ErrNotOpened) {
					t.Fatalf("bit %d of byte %d: %v", bit, i, err)
				}
			}
		}
		for n := range len(record) {
			_, opening := newAEADPair(t, suite, ratchetEvery)
			if _, err := opening.open(nil, record[:n]); !errors.Is(err, ErrNotOpened) {
				t.Fatalf("%d bytes: %v", n, err)
			}
		}
	})
}

func TestAEADOrder(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite string) {
		sealing, opening := newAEADPair(t, suite, 3)
		var records [][]byte
		for i := range 12 {
			record, err := sealing.seal(nil, fmt.Append(nil, i))
			if err != nil {
				t.Fatal(err)
			}
			records = append(records, record)
		}
		for i, record := range records {
			for j, other := range records {
				if j == i {
					continue
				}
				// A failed open does not advance the number, so each can be tried in turn.
				if _, err := opening.open(nil, other); !errors.Is(err, ErrNotOpened) {
					t.Fatalf("record %d in the place of %d: %v", j, i, err)
				}
			}
			if got, err := opening.open(nil, record); err != nil || string(got) != fmt.Sprint(i) {
				t.Fatalf("record %d: %q, %v", i, got, err)
			}
		}
	})
}

func TestAEADRatchet(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite string) {
		const every = 4
		sealing, opening := newAEADPair(t, suite, every)
		keys := map[[keySize]byte]int{}
		for i := range 5 * every {
			keys[sealing.key]++
			record, err := sealing.seal(nil, []byte("same"))
			if err != nil {
				t.Fatal(err)
			}
			stale, err := newAEADDirection(suite, [keySize]byte{1, 2, 3}, math.MaxUint64)
			if err != nil {
				t.Fatal(err)
			}
			stale.next = uint64(i)
			if _, err := stale.open(nil, record); (err == nil) != (i < every) {
				t.Fatalf("record %d under the first key: %v", i, err)
			}
			if got, err := opening.open(nil, record); err != nil || string(got) != "same" {
				t.Fatalf("record %d: %q, %v", i, got, err)
			}
		}
		if len(keys) != 5 {
			t.Fatalf("%d keys", len(keys))
		}
		for _, n := range keys {
			if n != every {
				t.Fatalf("a key sealed %d records", n)
			}
		}
	})
}

func TestAEADCounterNeverRepeats(t *testing.T) {
	sealing, opening := newAEADPair(t, suiteAESGCM, ratchetEvery)
	sealing.next, opening.next = math.MaxUint64, math.MaxUint64
	if b, err := sealing.seal(nil, []byte("x")); !errors.Is(err, ErrCounterExhausted) || b != nil {
		t.Errorf("seal: %x, %v", b, err)
	}
	if _, err := opening.open(nil, make([]byte, 17)); !errors.Is(err, ErrCounterExhausted) {
		t.Errorf("open: %v", err)
	}
}

func TestUnknownSuite(t *testing.T) {
	if _, err := newAEADDirection("rot13", [keySize]byte{}, 1); err == nil {
		t.Error("there is no such suite")
	}
}
