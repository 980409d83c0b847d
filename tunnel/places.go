package tunnel

import (
	"context"
	"sync/atomic"
)

// places bounds how many of something there are at once. All methods may be called concurrently.
type places chan struct{}

func newPlaces(n int) places { return make(places, n) }

// take takes a place, and reports whether there was one.
func (p places) take() bool {
	select {
	case p <- struct{}{}:
		return true
	default:
		return false
	}
}

// await takes a place as soon as there is one, and reports whether that was before ctx was done.
func (p places) await(ctx context.Context) bool {
	select {
	case p <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// leave gives a place back.
func (p places) leave() { <-p }

// taken returns the number of places that are taken.
func (p places) taken() int { return len(p) }

// left returns the number of places that are free.
func (p places) left() int { return cap(p) - len(p) }

// quantity bounds how much of something there is. All methods may be called concurrently.
type quantity struct {
	most  int64
	taken atomic.Int64
}

// take takes n more, and reports whether that is within the bound. Otherwise it takes nothing.
func (q *quantity) take(n int) bool {
	if q.taken.Add(int64(n)) > q.most {
		q.leave(n)
		return false
	}
	return true
}

// leave gives n back.
func (q *quantity) leave(n int) { q.taken.Add(-int64(n)) }
