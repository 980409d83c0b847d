package mux

import (
	"cmp"
	"context"
	"errors"
	"time"
)

// draining is how far a session has got in taking no new streams. Either side may begin. The other
// answers with a draining frame of its own, behind the open frames that it has queued before, so
// that each side knows when it has all of the other's: a node that stops costs nobody a connection.
type draining struct {
	ours, theirs bool // has sent, or queued, its draining frame
}

// drainLocked makes this side open no more streams, and tells the peer once.
func (s *Session) drainLocked() {
	if !s.streams.draining.ours {
		s.streams.draining.ours = true
		s.queueControlLocked(kindDraining, 0, nil)
	}
}

// handleDrainingLocked notes that the peer opens no more streams after those that it has opened so
// far, and takes none.
func (s *Session) handleDrainingLocked() {
	s.streams.draining.theirs = true
	s.drainLocked()
	s.changed.Broadcast()
}

// errUnacknowledged is why streams that have ended here are cut short at the peer.
var errUnacknowledged = errors.New("the peer has not acknowledged all")

// Drain tells the peer that this side takes no new streams, and waits until those that are open
// have ended, and the peer has what they carried, or ctx is done. Streams that the peer has opened
// before it heard are still taken, also when they arrive later, on another carrier. It does not
// close the session. An error means that streams are cut short, a *SessionError that it was by the
// end of the session.
func (s *Session) Drain(ctx context.Context) error {
	defer s.awaitAcks()()
	s.mu.Lock()
	s.drainLocked()
	s.mu.Unlock()
	s.awaitAllOpened(ctx)
	err := s.await(ctx, func() bool {
		return len(s.streams.byID) == 0 && len(s.streams.leftovers) == 0 &&
			s.out.acked >= s.out.streamsEnd
	})
	if _, ended := errors.AsType[*SessionError](err); err != nil && !ended {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, abandoned := errors.AsType[*AbandonedError](s.err)
	switch lost := abandoned || errors.Is(s.err, ErrSessionUnknown); {
	case lost && s.out.acked < s.out.streamsEnd:
		return errUnacknowledged
	case s.streams.cut > 0:
		return &SessionError{cmp.Or(s.err, s.out.cause)}
	}
	return nil
}

// awaitAcks has acknowledgements wake those who wait for a change, until the function that it
// returns is called.
func (s *Session) awaitAcks() (stop func()) {
	count := func(n int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.out.awaited += n
	}
	count(1)
	return func() { count(-1) }
}

// awaitAllOpened waits until the peer has answered that it opens no more streams, for drainNotice
// on each carrier, and for drainAway while there is none. It doesn't wait when they are refused
// anyway.
func (s *Session) awaitAllOpened(ctx context.Context) {
	begun := time.Now()
	until := func() time.Time {
		if s.link == nil {
			return s.lost.since.Add(drainAway)
		}
		return later(begun, s.link.since).Add(drainNotice)
	}
	s.mu.Lock()
	answered := s.cfg.NoIncoming
	s.mu.Unlock()
	for !answered && ctx.Err() == nil {
		s.mu.Lock()
		end := until()
		s.mu.Unlock()
		waiting, cancel := context.WithDeadline(ctx, end)
		err := s.await(waiting, func() bool {
			answered = s.streams.draining.theirs
			return answered || !until().Equal(end)
		})
		cancel()
		if err != nil {
			return // it was too long, or the session has ended
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// IsRetired reports whether the peer has told that it takes no new streams, and opens none.
func (s *Session) IsRetired() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams.draining.theirs
}

// AwaitDraining waits until the peer has told that it takes no new streams. It returns an error
// when ctx is done or, a *SessionError, when the session has ended.
func (s *Session) AwaitDraining(ctx context.Context) error {
	return s.await(ctx, func() bool { return s.streams.draining.theirs })
}
