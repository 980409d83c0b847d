// Package bounds counts what was refused, dropped or ended because a bound of docs/limits.md was
// reached. Both ends of a tunnel count in the same way, whichever package enforces the bound.
package bounds

import (
	"errors"
	"sync/atomic"
)

// Bound is a bound whose refusals are counted.
type Bound int

// Counts counts refusals by bound. All methods may be called concurrently. A nil *Counts counts
// nothing.
type Counts struct{ refused [numBounds]atomic.Uint64 }

// Refused counts a refusal.
func (c *Counts) Refused(b Bound) {
	if c != nil {
		c.refused[b].Add(1)
	}
}

// Note counts a refusal if err wraps an *Error.
func (c *Counts) Note(err error) {
	if exceeded, ok := errors.AsType[*Error](err); ok {
		c.Refused(exceeded.Bound)
	}
}

// Each calls f for each bound, with the number of refusals so far.
func (c *Counts) Each(f func(b Bound, refused uint64)) {
	for b := range numBounds {
		f(b, c.refused[b].Load())
	}
}

// Of returns the number of refusals of a bound.
func (c *Counts) Of(b Bound) uint64 {
	if c == nil {
		return 0
	}
	return c.refused[b].Load()
}

// String returns the name of the bound in docs/limits.md.
func (b Bound) String() string { return names[b] }

// Error is an error that a bound causes, on its way to whoever counts it. It reads as Err does.
type Error struct {
	Bound Bound
	Err   error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }
