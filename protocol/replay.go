package protocol

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"sync"

	"culvert/certs"
)

// ReplayCache remembers which (client key, nonce) pairs a server has answered, so that a replayed
// ClientHello does not make it seal a second plaintext under the same key and nonce. One cache
// serves all of a server's connections, and it is safe for concurrent use.
//
// The memory is bounded by keeping two generations of at most capacity pairs: when the younger is
// full, the older is dropped. So it always holds the last capacity pairs, and at most twice as
// many. A pair is kept as a 64-bit hash under a random key, so a client can't construct collisions;
// with 2^18 pairs held, a fresh hello collides with probability 2^-46.
//
// What the bound leaves open: a recorded hello is answered again after capacity other hellos, or
// after the server restarted, unless the new process took the cache over. Two boxes under one nonce
// reveal the XOR of their plaintexts, which are fresh random nonces and share keys, and allow
// forging a box under that nonce, which a client accepts only while it waits for its one answer.
type ReplayCache struct {
	key      [sha256.Size]byte // of the hash
	capacity int

	mu             sync.Mutex // guards all below
	younger, older map[uint64]struct{}
	claim          func(pair uint64) bool // see HandOver; may be nil
}

// ReplayState is a ReplayCache on its way to another process. It is secret.
type ReplayState struct {
	Key            []byte
	Younger, Older []uint64
}

// NewReplayCache returns a cache that remembers at least the last capacity pairs; 0 or less is
// DefaultReplayCapacity. It grows as it fills.
func NewReplayCache(capacity int) *ReplayCache {
	if capacity <= 0 {
		capacity = DefaultReplayCapacity
	}
	c := &ReplayCache{capacity: capacity, younger: make(map[uint64]struct{})}
	rand.Read(c.key[:]) // never fails
	return c
}

// NewReplayCacheFrom returns a cache of DefaultReplayCapacity that knows the pairs which another
// process has handed over.
func NewReplayCacheFrom(s ReplayState) (*ReplayCache, error) {
	c := NewReplayCache(0)
	if len(s.Key) != len(c.key) || len(s.Younger) > c.capacity || len(s.Older) > c.capacity {
		return nil, errReplayState
	}
	copy(c.key[:], s.Key)
	c.older = make(map[uint64]struct{}, len(s.Older))
	for _, pair := range s.Older {
		c.older[pair] = struct{}{}
	}
	for _, pair := range s.Younger {
		c.younger[pair] = struct{}{}
	}
	return c, nil
}

var errReplayState = errors.New("not the state of a replay cache")

// HandOver returns what the cache holds, for another process with the same key pair. From now on a
// pair is new only if claim, too, reports so: it asks that process, with Claim.
func (c *ReplayCache) HandOver(claim func(pair uint64) bool) ReplayState {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.claim = claim
	return ReplayState{
		Key:     slices.Clone(c.key[:]),
		Younger: slices.Collect(maps.Keys(c.younger)),
		Older:   slices.Collect(maps.Keys(c.older)),
	}
}

// TakeBack undoes HandOver: the other process has answered no client.
func (c *ReplayCache) TakeBack() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.claim = nil
}

// add remembers a pair. It reports whether the pair is new.
func (c *ReplayCache) add(key certs.PublicKey, nonce [nonceSize]byte) bool {
	mac := hmac.New(sha256.New, c.key[:])
	mac.Write(key[:])
	mac.Write(nonce[:])
	return c.Claim(binary.LittleEndian.Uint64(mac.Sum(nil)))
}

// Claim remembers a pair by its hash, for a process that has handed over its cache. It reports
// whether the pair is new.
func (c *ReplayCache) Claim(pair uint64) bool {
	fresh, claim := c.remember(pair)
	return fresh && (claim == nil || claim(pair))
}

func (c *ReplayCache) remember(pair uint64) (fresh bool, claim func(uint64) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, seen := c.younger[pair]; seen {
		return false, nil
	}
	if _, seen := c.older[pair]; seen {
		return false, nil
	}
	if len(c.younger) >= c.capacity {
		c.older, c.younger = c.younger, make(map[uint64]struct{})
	}
	c.younger[pair] = struct{}{}
	return true, c.claim
}
