package state

import (
	"context"
	"sync"
	"time"
)

// Source takes snapshots of a node for all its observers. All methods may be called concurrently.
type Source struct {
	take func() State

	mu     sync.Mutex // guards all below; held while a snapshot is taken
	shared *State     // the newest snapshot, with its rates; nil before the first
	newest *sample    // nil before the first
	older  *sample
}

// NewSource returns a Source of the snapshots that take makes, without rates.
func NewSource(take func() State) *Source { return &Source{take: take} }

// State returns a snapshot, which is shared with others and must not be changed. The first one
// after a while waits for minInterval, so that there is something to compare it with; if ctx is
// done before, its rates are 0.
func (s *Source) State(ctx context.Context) State {
	if !s.isWatched() {
		timer := time.NewTimer(minInterval)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shared != nil && time.Since(s.shared.Time) < minInterval {
		return *s.shared
	}
	taken := s.takeNow()
	s.shared = &taken
	return taken
}

// Invalidate makes the next snapshot a new one: something has changed that observers ask about at
// once.
func (s *Source) Invalidate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shared = nil
}

// isWatched reports whether there is a snapshot to compare the next one with. Otherwise it takes
// one.
func (s *Source) isWatched() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.newest != nil && time.Since(s.newest.at) < sampleLife {
		return true
	}
	s.takeNow()
	return false
}

// takeNow takes a snapshot with rates. Called with the mutex held.
func (s *Source) takeNow() State {
	now := time.Now()
	taken := s.take()
	taken.Version, taken.Time = Version, now
	if reference := s.reference(now); reference != nil {
		reference.rate(&taken)
	}
	if s.newest == nil || now.Sub(s.newest.at) >= minInterval {
		s.older, s.newest = s.newest, newSample(&taken)
	}
	return taken
}

// reference returns an earlier sample to compare a snapshot with, nil if there is none. Called with
// the mutex held.
func (s *Source) reference(now time.Time) *sample {
	for _, candidate := range []*sample{s.newest, s.older} {
		if candidate == nil {
			continue
		}
		if age := now.Sub(candidate.at); age >= minInterval && age < 2*sampleLife {
			return candidate
		}
	}
	return nil
}

// sample is the counts of a snapshot.
type sample struct {
	at       time.Time
	totals   Traffic
	sessions map[string]Traffic
	streams  map[streamKey]Traffic
}

type streamKey struct {
	session string
	id      uint32
}

func newSample(s *State) *sample {
	kept := &sample{
		at:       s.Time,
		totals:   s.Totals.Traffic,
		sessions: make(map[string]Traffic, len(s.Sessions)),
		streams:  make(map[streamKey]Traffic, len(s.Streams)),
	}
	for _, session := range s.Sessions {
		kept.sessions[session.ID] = session.Traffic
	}
	for _, stream := range s.Streams {
		kept.streams[streamKey{stream.Session, stream.ID}] = stream.Traffic
	}
	return kept
}

// rate fills in the rates of a later snapshot. What is new since the sample had carried nothing by
// then. Of very many streams a snapshot has only some, so others may be old: their rate isn't
// known.
func (s *sample) rate(taken *State) {
	seconds := taken.Time.Sub(s.at).Seconds()
	taken.Totals.rate(s.totals, seconds)
	for i := range taken.Sessions {
		session := &taken.Sessions[i]
		session.rate(s.sessions[session.ID], seconds)
	}
	for i := range taken.Streams {
		stream := &taken.Streams[i]
		before, known := s.streams[streamKey{stream.Session, stream.ID}]
		if known || !stream.Since.Before(s.at) {
			stream.rate(before, seconds)
		}
	}
}

func (t *Traffic) rate(before Traffic, seconds float64) {
	t.SentRate = perSecond(t.SentBytes, before.SentBytes, seconds)
	t.ReceivedRate = perSecond(t.ReceivedBytes, before.ReceivedBytes, seconds)
}

// perSecond returns the rate at which a count grows; 0 for another one, which begins again.
func perSecond(now, before uint64, seconds float64) float64 {
	if now < before || seconds <= 0 {
		return 0
	}
	return float64(now-before) / seconds
}
