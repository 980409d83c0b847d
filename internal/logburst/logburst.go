// Package logburst bounds how many events of a kind are logged in a time.
package logburst

import (
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// Sampler takes the first events of each period. Unlike zerolog's own, it doesn't fall silent when
// the clock is set back. All methods may be called concurrently.
type Sampler struct {
	burst  uint32
	period time.Duration

	mu    sync.Mutex // guards both
	since time.Time  // when the period began; zero before the first event
	taken uint32     // in it
}

// New returns a Sampler of burst events in a period, which begins with the first of them.
func New(burst uint32, period time.Duration) *Sampler {
	return &Sampler{burst: burst, period: period}
}

// Sample implements zerolog.Sampler.
func (s *Sampler) Sample(zerolog.Level) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); s.since.IsZero() || now.Sub(s.since) >= s.period {
		s.since, s.taken = now, 0
	}
	if s.taken >= s.burst {
		return false
	}
	s.taken++
	return true
}
