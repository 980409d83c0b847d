package mux

import (
	"context"
	"errors"
	"time"

	"culvert/tunnel/mux/pace"
)

// link is one carrier of a session, with the two goroutines that serve it. A session has one link at a time, or none
// while it waits for the next. What a link meets after it was cut off counts for nothing.
type link struct {
	session *Session
	carrier Carrier
	ended   chan struct{} // closed when the link is cut off
}

// attach makes a carrier the session's, in place of an earlier one, and starts to send again at the peer's receive
// position. Called with the mutex held, after the hellos.
func (s *Session) attach(carrier Carrier, peerPosition uint64) {
	s.detach()
	l := &link{session: s, carrier: carrier, ended: make(chan struct{})}
	s.link = l
	s.out.retained.acknowledge(peerPosition)
	s.out.acked = peerPosition
	s.out.timedAt = time.Time{} // what is sent again would tell nothing of the round trip
	s.out.owedSince = time.Time{}
	if s.out.acked < s.out.position {
		s.out.owedSince = time.Now()
	}
	s.out.resend = peerPosition
	s.in.acked = s.in.position // the hello has said it
	s.in.ackDue = false
	s.in.last = time.Now()
	s.in.ackedAt = s.in.last
	s.out.last = s.in.last
	transport, _ := carrier.(pace.Transport)
	s.pace.Reset(s.in.last, peerPosition, transport)
	s.sched.quantum = s.pace.FrameSize()
	if s.in.pongToken < s.out.pingToken {
		s.queuePing()
	}
	s.awaySince = time.Time{}
	if s.awayTimer != nil {
		s.awayTimer.Stop()
		s.awayTimer = nil
	}
	s.watch()
	s.loops.Go(l.readLoop)
	s.loops.Go(l.writeLoop)
	s.changed.Broadcast()
}

// detach cuts off the present link, if there is one. Called with the mutex held.
func (s *Session) detach() {
	l := s.link
	if l == nil {
		return
	}
	s.link = nil
	s.dropDatagrams()
	close(l.ended)
	s.out.wake.Broadcast()
	s.loops.Go(func() { l.carrier.Close() }) // which may wait for the peer
	s.changed.Broadcast()
}

// lose has the link end of err. A session that can be resumed waits for another carrier; any other dies.
func (l *link) lose(err error) {
	s := l.session
	s.mu.Lock()
	if s.link != l || s.err != nil {
		s.mu.Unlock()
		return
	}
	if s.resumption == nil || s.out.closing || !isLoss(err) {
		s.mu.Unlock()
		s.fail(err)
		return
	}
	s.depart(err)
	s.mu.Unlock()
	if s.host != nil {
		s.host.boundAway()
	}
}

// depart takes the session's carrier away and has the session die when no other comes. Called with the mutex held.
func (s *Session) depart(err error) {
	s.detach()
	s.stopWatch()
	s.awaySince, s.lossCause = time.Now(), err
	window := s.resumption.window
	s.awayTimer = time.AfterFunc(window, func() { s.fail(&AbandonedError{Window: window, Err: err}) })
}

// isLoss tells an error of the carrier from what the peer said or did.
func isLoss(err error) bool {
	var protocolErr *ProtocolError
	var closed *CloseError
	return !errors.As(err, &protocolErr) && !errors.As(err, &closed)
}

// readLoop files records until the link or the session ends. It never waits for a stream or the writer.
func (l *link) readLoop() {
	var rest pollBreak
	defer rest.close()
	c := newBlock(largeBlock)
	for {
		record, err := l.carrier.ReadRecord(c.buf[:0])
		if err == nil {
			size := len(record)
			c, err = l.handleRecord(record, c)
			rest.worked(size)
		}
		if err != nil {
			c.free()
			l.endOnInput(err)
			return
		}
	}
}

// endOnInput ends the link on what the reader met. A peer that broke the rules is told so.
func (l *link) endOnInput(err error) {
	s := l.session
	var protocolErr *ProtocolError
	if errors.As(err, &protocolErr) {
		s.mu.Lock()
		if s.link == l {
			s.sayFarewell(err, CodeProtocol, protocolErr.What)
		}
		s.mu.Unlock()
		timer := time.NewTimer(closeTimeout)
		defer timer.Stop()
		select {
		case <-s.done: // the writer has sent it
		case <-l.ended:
		case <-timer.C:
		}
	}
	l.lose(err)
}

// UnsentLimiter is a carrier that can bound what its socket holds and has not sent yet, in bytes. It is a hint.
type UnsentLimiter interface{ LimitUnsent(bytes int) }

// batch is the records that are written together.
type batch struct {
	held    [maxBlocks]*block // what holds each record
	records [maxBlocks][]byte
	n       int
	size    int  // bytes of all records
	last    bool // the last of them carries the close frame
	unsent  int  // bytes that the carrier's socket should hold unsent
}

// writeLoop packs and writes records until the link or the session ends.
func (l *link) writeLoop() {
	s := l.session
	limiter, _ := l.carrier.(UnsentLimiter)
	unsent := 0
	var rest pollBreak
	defer rest.close()
	var b batch
	for l.nextBatch(&b) {
		if limiter != nil && (b.unsent > unsent+unsent/4 || b.unsent < unsent-unsent/4) {
			unsent = b.unsent
			limiter.LimitUnsent(unsent)
		}
		err := l.carrier.WriteRecords(b.records[:b.n]...)
		s.mu.Lock()
		for _, held := range b.held[:b.n] {
			held.record.writers--
			held.freeUnused()
		}
		s.mu.Unlock()
		switch {
		case err != nil:
			l.lose(err)
			return
		case b.last:
			s.fail(nil)
			return
		}
		rest.worked(b.size)
	}
}

// nextBatch waits until something is to be sent, and packs as much of it as is to leave at once. It returns false when the
// link or the session has ended.
func (l *link) nextBatch(b *batch) bool {
	s := l.session
	s.mu.Lock()
	defer s.mu.Unlock()
	*b = batch{}
	for s.err == nil && s.link == l {
		for b.n < maxBlocks && b.size < s.pace.BurstSize() && !b.last {
			held, record, last := s.pack()
			if held == nil {
				break
			}
			held.record.writers++
			b.held[b.n], b.records[b.n], b.last = held, record, last
			b.n++
			b.size += len(record)
		}
		if b.n > 0 {
			b.unsent = s.pace.UnsentLimit()
			s.out.last = time.Now()
			s.watch()
			return true
		}
		if s.pace.CanSend(s.out.position - s.out.acked) {
			s.pace.OnAppLimited()
		}
		s.out.wake.Wait()
	}
	return false
}

// AwaitCarrier waits until the session has a carrier, ctx is done, or the session is dead, which is a *SessionError.
func (s *Session) AwaitCarrier(ctx context.Context) error {
	return s.await(ctx, func() bool { return s.link != nil })
}

// AwaitLoss waits until the session has no carrier, and returns nil; LossCause then says what its last one ended of. It
// returns an error when ctx is done or, a *SessionError, when the session is dead.
func (s *Session) AwaitLoss(ctx context.Context) error {
	return s.await(ctx, func() bool { return s.link == nil })
}

// await waits until the condition holds.
func (s *Session) await(ctx context.Context, holds func() bool) error {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})
	defer stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.err != nil:
			return &SessionError{s.err}
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case holds():
			return nil
		}
		s.changed.Wait()
	}
}

// LossCause returns what the session's last carrier ended of, nil when it never lost one.
func (s *Session) LossCause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lossCause
}
