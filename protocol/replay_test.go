package protocol

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"testing"

	"culvert/certs"
)

func nonceOf(n int) (b [nonceSize]byte) {
	binary.LittleEndian.PutUint64(b[:], uint64(n))
	return b
}

func TestReplayCacheKnowsKeyAndNonce(t *testing.T) {
	c := NewReplayCache(0)
	a, b := certs.PublicKey{1}, certs.PublicKey{2}
	steps := []struct {
		key   certs.PublicKey
		nonce int
		fresh bool
	}{{a, 1, true}, {a, 1, false}, {a, 2, true}, {b, 1, true}, {b, 1, false}, {a, 2, false}}
	for i, s := range steps {
		if got := c.add(s.key, nonceOf(s.nonce)); got != s.fresh {
			t.Errorf("step %d: got %v, want %v", i, got, s.fresh)
		}
	}
}

// TestReplayCacheBound checks both bounds at each size: the last capacity pairs are known, and at
// most twice as many are held.
func TestReplayCacheBound(t *testing.T) {
	const capacity = 50
	c := NewReplayCache(capacity)
	key := certs.PublicKey{1}
	for n := range 10 * capacity {
		if !c.add(key, nonceOf(n)) {
			t.Fatalf("pair %d is taken for an old one", n)
		}
		if held := len(c.younger) + len(c.older); held > 2*capacity {
			t.Fatalf("%d pairs are held, the bound is %d", held, 2*capacity)
		}
		for old := max(0, n-capacity+1); old <= n; old++ {
			if c.add(key, nonceOf(old)) {
				t.Fatalf("after pair %d, pair %d is forgotten", n, old)
			}
		}
	}
	if !c.add(key, nonceOf(0)) {
		t.Fatal("pair 0 is still held after 500 others")
	}
}

func TestReplayCacheConcurrent(t *testing.T) {
	c := NewReplayCache(0)
	var fresh atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for n := range 1000 {
				if c.add(certs.PublicKey{}, nonceOf(n)) {
					fresh.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if fresh.Load() != 1000 {
		t.Fatalf("%d pairs were new, want 1000", fresh.Load())
	}
}

// TestReplayCacheHandedOver checks that what a process has answered, neither it nor the one that
// takes over answers again, whichever of them a hello comes to.
func TestReplayCacheHandedOver(t *testing.T) {
	key := certs.PublicKey{1}
	before := NewReplayCache(0)
	before.add(key, nonceOf(1))
	var after *ReplayCache
	state := before.HandOver(func(pair uint64) bool { return after.Claim(pair) })
	after, err := NewReplayCacheFrom(state)
	if err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct {
		cache *ReplayCache
		nonce int
		fresh bool
	}{
		{after, 1, false}, {before, 1, false},
		{after, 2, true}, {before, 2, false},
		{before, 3, true}, {after, 3, false},
	} {
		if got := step.cache.add(key, nonceOf(step.nonce)); got != step.fresh {
			t.Errorf("step %d: %v, want %v", i, got, step.fresh)
		}
	}
	after = NewReplayCache(0)
	before.TakeBack()
	if !before.add(key, nonceOf(4)) || !after.add(key, nonceOf(4)) {
		t.Error("a cache that was taken back asks another process")
	}
	state.Key = state.Key[1:]
	if _, err := NewReplayCacheFrom(state); err == nil {
		t.Error("a malformed state is accepted")
	}
}
