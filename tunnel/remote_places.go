package tunnel

import (
	"sync"
	"sync/atomic"
	"time"

	"culvert/internal/bounds"
)

// fairPlaces bounds how many of something clients hold before they are admitted. One more always
// gets a place. When all are taken, or all of its source's share, it replaces the one that has been
// without progress for longest: of its own source, or of the one that holds most if that is
// another. So whoever holds places for long, or many of them, yields to those who need one briefly.
// All methods may be called concurrently.
type fairPlaces struct {
	most     int // in all
	share    int // per source; doesn't apply to the unknown one
	reserved int // of most, for clients of which the source has a session

	counts      *bounds.Counts // of the places that were taken away
	whole, each bounds.Bound   // most and share

	mu        sync.Mutex // guards both
	strangers holders
	known     holders // with a session
}

func newFairPlaces(most, share, reserved int) *fairPlaces {
	f := &fairPlaces{most: most, share: share, reserved: reserved}
	f.strangers.places = make(map[source]map[*fairPlace]struct{})
	f.known.places = make(map[source]map[*fairPlace]struct{})
	return f
}

// counting lets f count the places that it takes away, because of its bound for all or of that for
// a source, and returns f.
func (f *fairPlaces) counting(counts *bounds.Counts, whole, each bounds.Bound) *fairPlaces {
	f.counts, f.whole, f.each = counts, whole, each
	return f
}

// fairPlace is a place of fairPlaces that is taken.
type fairPlace struct {
	holders  *holders // nil once it was left; guarded by in.mu
	in       *fairPlaces
	from     source
	end      func()
	progress atomic.Int64 // when there was some, in nanoseconds since fairEpoch
}

// fairEpoch is what times of progress count from. Unlike the wall clock, it is never set.
var fairEpoch = time.Now()

// take takes a place. If the place is needed for another one, end is called, once, and concurrently
// with other calls; it must not block. known reports whether the source has a session.
func (f *fairPlaces) take(from source, known bool, end func()) *fairPlace {
	p := &fairPlace{in: f, from: from, end: end}
	p.touch()
	f.mu.Lock()
	exceeded := f.whole
	if from.IsValid() && len(f.holders(known).places[from]) >= f.share {
		exceeded = f.each
	}
	out := f.displaced(from, known)
	if out != nil {
		f.counts.Refused(exceeded)
		f.leave(out)
	}
	p.holders = f.holders(known)
	p.holders.add(p)
	f.mu.Unlock()
	if out != nil {
		out.end()
	}
	return p
}

// holders returns those among which a client is. Called with the mutex held.
func (f *fairPlaces) holders(known bool) *holders {
	if known {
		return &f.known
	}
	return &f.strangers
}

// displaced returns the place that one more client makes necessary to leave, or nil. Called with
// the mutex held.
func (f *fairPlaces) displaced(from source, known bool) *fairPlace {
	own := f.holders(known).places[from]
	switch {
	case from.IsValid() && len(own) >= f.share:
		return stalest(own, nil)
	case f.strangers.n+f.known.n < f.most && (known || f.strangers.n < f.most-f.reserved):
		return nil
	case f.strangers.n > 0:
		return f.strangers.stalest(from)
	}
	return f.known.stalest(from)
}

// wait returns how long to wait until one more client's place costs nobody one that it took less
// than hold ago, and whether it is the client's own source that it would cost one.
func (f *fairPlaces) wait(
	from source, known bool, hold time.Duration,
) (left time.Duration, own bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := f.displaced(from, known)
	if out == nil {
		return 0, false
	}
	left = hold - time.Since(fairEpoch) + time.Duration(out.progress.Load())
	return left, from.IsValid() && out.from == from
}

// free ends what holds a place, the one that take would choose, and reports whether there was one.
func (f *fairPlaces) free() bool {
	f.mu.Lock()
	out := f.strangers.stalest(source{})
	if out == nil {
		out = f.known.stalest(source{})
	}
	if out != nil {
		f.leave(out)
	}
	f.mu.Unlock()
	if out != nil {
		out.end()
	}
	return out != nil
}

// taken returns the number of places that are taken.
func (f *fairPlaces) taken() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.strangers.n + f.known.n
}

// leave gives a place back. Called with the mutex held.
func (f *fairPlaces) leave(p *fairPlace) {
	if p.holders != nil {
		p.holders.remove(p)
		p.holders = nil
	}
}

// leave gives the place back. Calls after the first one do nothing.
func (p *fairPlace) leave() {
	p.in.mu.Lock()
	defer p.in.mu.Unlock()
	p.in.leave(p)
}

// touch notes that there is progress.
func (p *fairPlace) touch() { p.progress.Store(int64(time.Since(fairEpoch))) }

// holders are the places of some clients, by source.
type holders struct {
	n      int
	places map[source]map[*fairPlace]struct{}
}

func (h *holders) add(p *fairPlace) {
	of := h.places[p.from]
	if of == nil {
		of = make(map[*fairPlace]struct{})
		h.places[p.from] = of
	}
	of[p] = struct{}{}
	h.n++
}

func (h *holders) remove(p *fairPlace) {
	of := h.places[p.from]
	delete(of, p)
	if len(of) == 0 {
		delete(h.places, p.from)
	}
	h.n--
}

// stalest returns the place that has been without progress for longest, of the source from if none
// holds more places, and otherwise of those that hold most; nil if there is none.
func (h *holders) stalest(from source) (found *fairPlace) {
	most := 0
	for _, of := range h.places {
		most = max(most, len(of))
	}
	if own := h.places[from]; len(own) > 0 && len(own) == most {
		return stalest(own, nil)
	}
	for _, of := range h.places {
		if len(of) == most {
			found = stalest(of, found)
		}
	}
	return found
}

// stalest returns the place among found, which may be nil, and the others that has been without
// progress for longest.
func stalest(places map[*fairPlace]struct{}, found *fairPlace) *fairPlace {
	for p := range places {
		if found == nil || p.progress.Load() < found.progress.Load() {
			found = p
		}
	}
	return found
}
