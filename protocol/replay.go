package protocol

import (
	"hash/maphash"
	"sync"

	"culvert/certs"
)

// ReplayCache remembers which (client key, nonce) pairs a server has answered, so that a replayed
// ClientHello does not make it seal a second plaintext under the same key and nonce. One cache
// serves all of a server's connections, and it is safe for concurrent use.
//
// The memory is bounded by keeping two generations of at most capacity pairs: when the younger is
// full, the older is dropped. So it always holds the last capacity pairs, and at most twice as
// many. A pair is kept as a 64-bit hash under a random key of the process, so a client can't
// construct collisions; with 2^18 pairs held, a fresh hello collides with probability 2^-46.
//
// What the bound leaves open: a recorded hello is answered again after capacity other hellos, or
// after the server restarted. Two boxes under one nonce reveal the XOR of their plaintexts, which
// are fresh random nonces and share keys, and allow forging a box under that nonce, which a client
// accepts only while it waits for its one answer.
type ReplayCache struct {
	seed     maphash.Seed
	capacity int

	mu             sync.Mutex // guards both generations
	younger, older map[uint64]struct{}
}

// replayPair is the input of the hash; its size is fixed, so that no two pairs have the same bytes.
type replayPair struct {
	key   certs.PublicKey
	nonce [nonceSize]byte
}

// NewReplayCache returns a cache that remembers at least the last capacity pairs; 0 or less is
// DefaultReplayCapacity. It grows as it fills.
func NewReplayCache(capacity int) *ReplayCache {
	if capacity <= 0 {
		capacity = DefaultReplayCapacity
	}
	return &ReplayCache{
		seed:     maphash.MakeSeed(),
		capacity: capacity,
		younger:  make(map[uint64]struct{}),
	}
}

// add remembers a pair. It reports whether the pair is new.
func (c *ReplayCache) add(key certs.PublicKey, nonce [nonceSize]byte) bool {
	h := maphash.Comparable(c.seed, replayPair{key, nonce})
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, seen := c.younger[h]; seen {
		return false
	}
	if _, seen := c.older[h]; seen {
		return false
	}
	if len(c.younger) >= c.capacity {
		c.older, c.younger = c.younger, make(map[uint64]struct{})
	}
	c.younger[h] = struct{}{}
	return true
}
