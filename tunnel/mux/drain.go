package mux

import (
	"context"
	"errors"
)

// drainState is what a side knows of its own draining: that the peer has heard of it shows in what
// the peer acknowledges. Streams that the peer has opened before it could hear are taken, so that
// a node that stops costs nobody a connection.
type drainState struct {
	begun    bool   // this side opens no streams, and will take none
	packed   bool   // the draining frame is in a record
	position uint64 // where that record ends; 0 before it was counted

	// heard is drainHeardLocked before the record that is being handled. The peer puts its ack into a
	// record ahead of the open frames that it had queued when it heard.
	heard bool
}

// drainHeardLocked reports whether the peer has acknowledged that this side drains.
func (s *Session) drainHeardLocked() bool {
	d := &s.streams.draining
	return d.position > 0 && s.out.acked >= d.position
}

// Drain tells the peer that this side takes no new streams, and waits until those that are open
// have ended or ctx is done. Streams that the peer opens before it has heard are still taken. It
// does not close the session.
func (s *Session) Drain(ctx context.Context) error {
	s.mu.Lock()
	if !s.streams.draining.begun && s.err == nil {
		s.streams.draining.begun = true
		s.queueControlLocked(kindDraining, 0, nil)
	}
	s.mu.Unlock()
	hearing, cancel := context.WithTimeout(ctx, drainNotice)
	defer cancel()
	s.await(hearing, func() bool { return s.link == nil || s.drainHeardLocked() })
	err := s.await(ctx, func() bool {
		return len(s.streams.byID) == 0 && len(s.streams.leftovers) == 0
	})
	var ended *SessionError
	if errors.As(err, &ended) {
		return nil
	}
	return err
}

// AwaitDraining waits until the peer has told that it takes no new streams. It returns an error
// when ctx is done or, a *SessionError, when the session has ended.
func (s *Session) AwaitDraining(ctx context.Context) error {
	return s.await(ctx, func() bool { return s.streams.peerDrain })
}
