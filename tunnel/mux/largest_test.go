package mux

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"culvert/internal/bounds"
)

// checkLargest checks that a session knows which stream holds most, once it ranks them.
func checkLargest(t *testing.T, s *Session) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.memory.largest
	sum, most, holding := 0, 0, 0
	look := func(st *stream) {
		mem := st.recv.mem()
		sum, most = sum+mem, max(most, mem)
		if mem > 0 {
			holding++
		}
		if rank := st.recv.rank; (rank > 0) != (l != nil && mem > 0) || rank > 0 && l[rank-1] != st {
			t.Fatalf("a stream with %d bytes is at %d of %d", mem, rank, len(l))
		}
	}
	for _, st := range s.streams.byID {
		look(st)
	}
	for st := range s.streams.leftovers {
		look(st)
	}
	if sum != s.memory.buffered || sum > s.cfg.MaxBuffered {
		t.Fatalf("%d bytes are held, %d count, at most %d may be", sum, s.memory.buffered,
			s.cfg.MaxBuffered)
	}
	if l != nil && (len(l) != holding || holding > 0 && l[0].recv.mem() != most) {
		t.Fatalf("%d streams of %d are known; the largest holds %d bytes", len(l), holding, most)
	}
}

// Past MaxBuffered, the stream that holds most is reset, whatever comes, is read, and ends
// meanwhile. The streams are compared once for that, not with each record.
func TestLargestIsReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 1 << 20
		counts := new(bounds.Counts)
		s, p := newRawClient(t, Config{MaxBuffered: most, Bounds: counts}, rawHello)
		streams, sent, unread := map[uint32]*Stream{}, map[uint32]int{}, map[uint32]int{}
		next := uint32(1)
		ranks, ranked := 0, false
		for i := range 4000 {
			if len(streams) < 60 {
				streams[next] = p.accept(s, next)
				next += 2
			}
			var id uint32
			for id = range streams {
				break
			}
			st := streams[id]
			switch n := 1 + rand.IntN(maxData); {
			case rand.IntN(6) == 0 && unread[id] > 0:
				n, _ = st.Read(make([]byte, n))
				unread[id] -= n
			case rand.IntN(20) == 0:
				p.send(wire(kindFin, id))
				st.CloseWrite() // what it holds is left over
				delete(streams, id)
			case i%500 == 499:
				for id, st := range streams {
					st.Close()
					delete(streams, id)
				}
			case sent[id]+n <= DefaultWindow:
				p.send(wire(kindData, id, make([]byte, n)))
				sent[id], unread[id] = sent[id]+n, unread[id]+n
			}
			p.quiet()
			checkLargest(t, s)
			s.mu.Lock()
			for id, st := range streams {
				if st.ended {
					delete(streams, id)
				}
			}
			if now := s.memory.largest != nil; now != ranked {
				ranks, ranked = ranks+1, now
			}
			s.mu.Unlock()
		}
		if n := int(counts.Of(bounds.Buffered)); n < 20 || ranks < 4 || ranks > n/5 {
			t.Errorf("%d streams are reset; it began or ceased %d times to rank them", n, ranks)
		}
	})
}
