package mux

import (
	"context"
	"errors"
	"runtime"
	"time"

	"culvert/internal/bounds"
	"culvert/internal/pollbreak"
	"culvert/tunnel/mux/pace"
)

// link is one carrier of a session, with the goroutines that serve it and all state that is true
// of this carrier only. attachLocked makes it and detachLocked drops it, so nothing of a carrier
// can reach the next one. A session has one link at a time, or none while it waits for the next.
// What a link meets after it was detached is ignored.
type link struct {
	session *Session
	carrier Carrier
	ended   chan struct{} // closed when the link is detached

	// All below is guarded by session.mu.

	pace   *pace.Controller // bounds what is inflight
	sample rttSample        // the acknowledgement that is being timed
	rtt    roundTrips
	ping   pingState
	pong   pongState
	ack    ackState
	input  recordInput // the record that the reader is handling
	check  checkTimer
	gap    gapTimer
	linkTimes

	// resend is where sending continues after a resumption: at the session's position, unless
	// retained bytes have to be sent again.
	resend uint64

	// receiving reports that data has come since this side last pinged because none did.
	receiving bool

	// owedSince is since when not all that was sent is acknowledged; zero when it is.
	owedSince time.Time

	sending sendWatch

	// heldSince is since when nothing is sent or taken, because another carrier may replace this one:
	// see Session.offer. It is zero unless that is so.
	heldSince time.Time
}

// linkTimes is when a link began, and was last used.
type linkTimes struct {
	since    time.Time
	lastRead time.Time // when a record last came: any record is a sign of life
	lastSent time.Time // when a record was last sent
	ackedAt  time.Time // when an acknowledgement last came
}

// rttSample is a position whose acknowledgement shows a round trip.
type rttSample struct {
	position uint64
	sentAt   time.Time // zero when none is awaited
}

// newLink makes the session's state for a new carrier, whose peer has received the bytes before
// position and was told in the hello how much this side has received.
func newLink(s *Session, carrier Carrier, position uint64) *link {
	now := time.Now()
	l := &link{
		session:   s,
		carrier:   carrier,
		ended:     make(chan struct{}),
		resend:    position,
		linkTimes: linkTimes{since: now, lastRead: now, lastSent: now},
		ack:       ackState{position: s.received, recordAt: now},
	}
	if position < s.out.position {
		l.owedSince = now
	}
	l.sending.observer, _ = carrier.(sendObserver)
	transport, _ := carrier.(pace.Transport)
	l.pace = pace.New(paceConfig, pace.Start{
		Now:          now,
		Position:     position,
		Transport:    transport,
		LastInflight: s.lost.inflight,
	})
	return l
}

// attachLocked replaces the session's carrier once the hellos are exchanged, and starts to send
// at the peer's receive position.
func (s *Session) attachLocked(carrier Carrier, peerPosition uint64) {
	s.detachLocked()
	s.stopAwayTimerLocked()
	s.out.retained.acknowledge(peerPosition)
	s.out.acked = peerPosition
	l := newLink(s, carrier, peerPosition)
	s.link = l
	if !s.lost.since.IsZero() {
		// On a carrier that was resumed on, a ping soon shows whether the new path works in both
		// directions, and how long its round trip is. It also answers whoever waits in Ping.
		s.lost.since = time.Time{}
		l.queuePingLocked()
		l.receiving = true // what was on the way comes again
	}
	l.scheduleCheckLocked()
	s.loops.Go(l.readLoop)
	s.loops.Go(l.writeLoop)
	s.changed.Broadcast()
}

// detachLocked drops the session's link, if there is one.
func (s *Session) detachLocked() {
	l := s.link
	if l == nil {
		return
	}
	s.lost.inflight, s.lost.roundTrip = l.pace.Inflight(), s.smoothedRTTLocked()
	s.link = nil
	l.check.stop()
	l.gap.stop()
	l.ack.stop()
	s.dropDatagramsLocked()
	s.settleMemoryLocked()
	close(l.ended)
	s.out.wake.Broadcast()
	s.loops.Go(func() { l.carrier.Close() }) // which may wait for the peer
	s.changed.Broadcast()
}

// held reports whether nothing is sent or taken. Called with the mutex held.
func (l *link) held() bool { return !l.heldSince.IsZero() }

// end ends the link with err. A session that can be resumed waits for another carrier; any other
// ends with it.
func (l *link) end(err error) {
	s := l.session
	s.mu.Lock()
	if s.link != l || s.err != nil {
		s.mu.Unlock()
		return
	}
	if s.resumption == nil || s.out.closing || !isLoss(err) {
		if !s.out.closing && isLoss(err) {
			s.countLossLocked(err)
		}
		s.mu.Unlock()
		s.fail(err)
		return
	}
	s.loseCarrierLocked(err)
	s.mu.Unlock()
	if s.host != nil {
		s.host.boundAway()
	}
}

// loseCarrierLocked detaches the carrier, because of err, and ends the session when no other comes
// in time.
func (s *Session) loseCarrierLocked(err error) {
	if s.link.held() {
		// The server closes the carrier when it takes the other, and the answer on that may be slower.
		s.lost.uncounted = err
	} else {
		s.countLossLocked(err)
	}
	s.detachLocked()
	since, window := time.Now(), s.resumption.window
	s.lost.since, s.lost.cause = since, err
	s.lost.timer = time.AfterFunc(window, func() {
		if s.abandon(since, &AbandonedError{Window: window, Err: err}) {
			s.cfg.Bounds.Refused(bounds.ResumeWindow)
		}
	})
}

// abandon ends a session that is still without the carrier that it lost at a time: another may have
// come just before this call. It reports whether it has ended the session.
func (s *Session) abandon(since time.Time, err error) (abandoned bool) {
	s.mu.Lock()
	if s.link == nil && s.lost.since.Equal(since) && s.err == nil {
		abandoned = true
		s.failLocked(err)
	}
	ended := s.err != nil
	s.mu.Unlock()
	if ended && s.host != nil {
		s.host.forget(s)
	}
	return abandoned
}

// stopAwayTimerLocked lets the session live though no carrier comes.
func (s *Session) stopAwayTimerLocked() {
	if s.lost.timer != nil {
		s.lost.timer.Stop()
		s.lost.timer = nil
	}
}

// isLoss reports whether an error is the carrier's, as opposed to something the peer said or did.
func isLoss(err error) bool {
	var protocolErr *ProtocolError
	var closed *CloseError
	return !errors.As(err, &protocolErr) && !errors.As(err, &closed)
}

// readLoop handles records until the link or the session ends. It never waits for a stream or the
// writer.
func (l *link) readLoop() {
	var rest pollbreak.Break
	defer rest.Close()
	var c *block // none while the carrier waits
	free := func() {
		if c != nil {
			c.free()
			c = nil
		}
	}
	awaiter, _ := l.carrier.(RecordAwaiter)
	for {
		if awaiter != nil {
			awaiter.AwaitRecord(free)
		}
		if c == nil {
			c = newBlock(largeBlock)
		}
		record, err := l.carrier.ReadRecord(c.buf[:0])
		if err == nil {
			cost := recordCost + len(record)
			c, err = l.handleRecord(record, c)
			rest.Worked(cost + l.input.cost)
		}
		if err != nil {
			free()
			l.endOnInput(err)
			return
		}
	}
}

// endOnInput ends the link with the reader's error. A peer that broke the rules is told so first.
func (l *link) endOnInput(err error) {
	s := l.session
	var protocolErr *ProtocolError
	s.cfg.Bounds.Note(err)
	if errors.As(err, &protocolErr) {
		s.mu.Lock()
		if s.link == l {
			s.sendCloseLocked(err, CodeProtocol, protocolErr.What)
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
	l.end(err)
}

// UnsentLimiter is a carrier that can bound what its socket holds and has not sent yet, in bytes.
// It is a hint.
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
	var rest pollbreak.Break
	defer rest.Close()
	var b batch
	for l.nextBatch(&b) {
		if limiter != nil && (b.unsent > unsent+unsent/4 || b.unsent < unsent-unsent/4) {
			unsent = b.unsent
			limiter.LimitUnsent(unsent)
		}
		err := l.carrier.WriteRecords(b.records[:b.n]...)
		s.mu.Lock()
		l.sending.writing = false
		for _, held := range b.held[:b.n] {
			held.record.writers--
			held.freeUnused()
		}
		s.mu.Unlock()
		switch {
		case err != nil:
			l.end(err)
			return
		case b.last:
			s.fail(nil)
			return
		}
		rest.Worked(recordCost + b.size)
	}
}

// nextBatch waits until something is to be sent, and packs as much of it as should leave at once.
// It returns false when the link or the session has ended.
func (l *link) nextBatch(b *batch) bool {
	s := l.session
	s.mu.Lock()
	defer s.mu.Unlock()
	*b = batch{}
	for s.err == nil && s.link == l {
		if l.held() {
			s.out.wake.Wait()
			continue
		}
		for b.n < maxBlocks && b.size < l.pace.BurstSize() && !b.last {
			held, record, last := l.packLocked()
			if held == nil {
				break
			}
			held.record.writers++
			b.held[b.n], b.records[b.n], b.last = held, record, last
			b.n++
			b.size += len(record)
		}
		if b.n > 0 {
			s.settleMemoryLocked()
			b.unsent = l.pace.UnsentLimit()
			l.lastSent = time.Now()
			l.sending.writing = true
			l.sending.calls++
			if l.check.at.Sub(l.lastSent) > l.patienceLocked()/2 { // else it comes soon enough
				l.scheduleCheckLocked()
			}
			return true
		}
		if l.pace.CanSend(s.out.position - s.out.acked) {
			l.pace.OnAppLimited()
		} else {
			l.watchGapLocked()
		}
		s.settleMemoryLocked() // datagrams may have been dropped
		s.out.wake.Wait()
		l.gatherLocked()
	}
	return false
}

// gatherLocked lets all goroutines that are ready run first, if a record was sent just now: what
// they have to send can leave in the same record. Go runs a goroutine that was woken before those
// that have waited for longer, so the frames of many small streams would leave one by one.
func (l *link) gatherLocked() {
	if time.Since(l.lastSent) < gatherTime && l.session.memory.queued < gatherBelow {
		l.session.mu.Unlock()
		runtime.Gosched()
		l.session.mu.Lock()
	}
}

// Carrier returns the session's carrier, nil while there is none, for what it knows of its path.
// Only the session reads and writes records.
func (s *Session) Carrier() Carrier {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link == nil {
		return nil
	}
	return s.link.carrier
}

// AwaitCarrier waits until the session has a carrier. It returns an error when ctx is done or, a
// *SessionError, when the session has ended.
func (s *Session) AwaitCarrier(ctx context.Context) error {
	return s.await(ctx, func() bool { return s.link != nil })
}

// AwaitLoss waits until the session has no carrier; LossCause then returns why. It returns an
// error when ctx is done or, a *SessionError, when the session has ended.
func (s *Session) AwaitLoss(ctx context.Context) error {
	return s.await(ctx, func() bool { return s.link == nil })
}

// LossCause returns why the session lost its last carrier, nil when it never lost one.
func (s *Session) LossCause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost.cause
}

// Resumable reports whether the session outlives its carriers.
func (s *Session) Resumable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.resumption != nil
}
