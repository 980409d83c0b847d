package mux

import (
	"context"
	"net"
	"sync"
	"time"

	"culvert/internal/bounds"
)

// Carrier moves records between the two ends of a session, whole, in order and authentic. What else
// one can do, the session finds by type assertion, and does without where it is missing:
//
//	Exporter                 the session can be resumed on another carrier
//	EarlyCloser              a client learns why it is sent away before there is a session
//	RecordAwaiter            an idle session holds no buffer
//	UnsentLimiter            what waits in the socket stays short
//	pace.Transport           losses of the transport are seen
//	TransportSent (sendObserver), LastRead (readObserver)
//	                         a record that takes long counts as progress, and as a sign of life
type Carrier interface {
	// ReadRecord returns the next record, in buf's array if that is large enough. One goroutine
	// calls it.
	ReadRecord(buf []byte) ([]byte, error)

	// WriteRecords sends records in order and keeps no reference to them. One goroutine calls it
	// at a time.
	WriteRecords(records ...[]byte) error

	// Close ends the carrier at once. It may be called concurrently with, and unblocks, the other
	// methods.
	Close() error
}

// EarlyCloser is a carrier that can tell the peer that it closes before there is a session because
// this side has no time or place for one, rather than for anything that the peer did.
type EarlyCloser interface{ CloseEarly() error }

// RecordAwaiter is a carrier that can wait for a record without a buffer for it.
type RecordAwaiter interface {
	// AwaitRecord returns once some of the next record has arrived, or ReadRecord fails. It calls
	// idle before it waits. The goroutine that reads calls it.
	AwaitRecord(idle func())
}

// Session is many streams over one carrier at a time. All methods may be called concurrently.
//
// A session whose carriers can export secrets (see Exporter) outlives its carrier: when that ends,
// the session waits for the next one, which the client brings with Resume, and no stream notices.
type Session struct {
	cfg    Config
	client bool
	peer   hello // the peer's limits; fixed once the session has begun
	host   *Host // of a server's session that can be resumed

	done     chan struct{} // closed when the session has ended
	loops    sync.WaitGroup
	resuming sync.Mutex // held while a carrier is exchanged

	mu sync.Mutex // guards all below and the state of every stream

	link       *link       // all that belongs to the carrier; nil while there is none
	lost       lostCarrier // what is known of the carrier before
	resumption *resumption // nil when the session ends with its carrier

	streams  streamTable
	sched    scheduler
	out      outbox
	received uint64 // sequenced bytes received
	memory   memory
	pings    pings

	totals  sessionTotals
	changed sync.Cond // incoming, streams, pongs or the link changed, or the session ended
	err     error     // why the session ended, sticky
}

// lostCarrier is what a session remembers of its last carrier.
type lostCarrier struct {
	since time.Time   // when it was lost; zero while there is a carrier
	cause error       // why
	timer *time.Timer // ends the session when no other carrier comes; nil while there is one
	// lasted is how long the session was last without one, for Stats.
	lasted time.Duration
	// inflight is its bound on inflight data, from which the next carrier's startup begins.
	inflight uint64
	// roundTrip is its smoothed round trip, for Stats. Nothing of the next carrier depends on it.
	roundTrip time.Duration
	// uncounted is its cause while it may yet turn out to have been replaced; nil otherwise.
	uncounted error
}

// pings is what a session keeps of its pings on all carriers. Tokens ascend, so that the answer to
// a ping also answers those before it, which may have been lost with their carrier.
type pings struct {
	issued    uint64        // token of the newest ping
	answered  uint64        // token of the newest ping that was answered
	roundTrip time.Duration // of that ping, for the users of Ping and Stats
}

// NewClient starts a session as the side that speaks first. It returns when the peer has answered
// the hello. The session owns the carrier from here on, even when NewClient fails.
func NewClient(ctx context.Context, carrier Carrier, cfg Config) (*Session, error) {
	s := makeSession(cfg, true)
	err := exchange(ctx, carrier, s.cfg.HelloTimeout, errNoHello, func() error {
		if err := carrier.WriteRecords(appendHello(nil, s.hello())); err != nil {
			return err
		}
		answer, err := readHello(carrier, roleServer)
		if err != nil {
			return err
		}
		return s.begin(carrier, answer)
	})
	if err != nil {
		s.fail(err) // it may have begun just when the time was over
		return nil, err
	}
	return s, nil
}

// NewServer starts a session as the side that speaks second. It returns when the peer's hello has
// come. The session owns the carrier from here on, even when NewServer fails. It ends with its
// carrier; a Host makes sessions that don't.
func NewServer(ctx context.Context, carrier Carrier, cfg Config) (*Session, error) {
	s := makeSession(cfg, false)
	err := exchange(ctx, carrier, s.cfg.HelloTimeout, errNoHello, func() error {
		offer, err := readHello(carrier, roleClient)
		if err != nil {
			return err
		}
		return s.answer(carrier, offer)
	})
	if err != nil {
		s.fail(err)
		return nil, err
	}
	return s, nil
}

// answer sends the server's hello for a new session and starts it.
func (s *Session) answer(carrier Carrier, offer hello) error {
	mine := s.hello()
	if s.resumption != nil {
		mine.id, mine.window = s.resumption.id, s.resumption.window
	}
	if err := carrier.WriteRecords(appendHello(nil, mine)); err != nil {
		return err
	}
	return s.begin(carrier, offer)
}

// begin starts a new session once both hellos are exchanged.
func (s *Session) begin(carrier Carrier, theirs hello) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.endingLocked(); err != nil { // it was admitted, and closed since
		return &SessionError{err}
	}
	s.peer = theirs
	if s.client {
		if theirs.sendPosition != 0 || theirs.receivePosition != 0 {
			return protocolErrorf("hello of a new session at positions %d and %d",
				theirs.sendPosition, theirs.receivePosition)
		}
		if theirs.id != (sessionID{}) {
			window := max(theirs.window, minWindow)
			s.resumption, _ = newResumption(carrier, theirs.id, window)
		}
	}
	s.joinBudgetLocked()
	s.attachLocked(carrier, 0)
	return nil
}

// makeSession makes a session that does not run yet.
func makeSession(cfg Config, client bool) *Session {
	s := &Session{
		cfg:     cfg.withDefaults(),
		client:  client,
		done:    make(chan struct{}),
		streams: newStreamTable(client),
	}
	s.changed.L = &s.mu
	s.out.wake.L = &s.mu
	s.out.control.sum = &s.memory.queued
	for pressure := range s.memory.paused {
		s.memory.paused[pressure].paused = true
	}
	return s
}

// hello returns this side's hello, without what only a resumption needs.
func (s *Session) hello() hello {
	h := hello{
		role:        roleServer,
		maxRecord:   MaxRecordSize,
		firstCredit: uint32(s.cfg.Window),
		maxStreams:  uint32(s.cfg.MaxStreams),
	}
	if s.client {
		h.role = roleClient
	}
	return h
}

func readHello(carrier Carrier, want role) (hello, error) {
	record, err := carrier.ReadRecord(nil)
	if err != nil {
		return hello{}, err
	}
	return parseHello(record, want)
}

// errNoHello is why a peer that says nothing gets no session.
var errNoHello = &bounds.Error{Bound: bounds.Hello, Err: ErrNotCulvert}

// exchange bounds the exchange of hellos, and returns late when it takes too long. When it fails,
// the carrier is closed.
func exchange(ctx context.Context, carrier Carrier, timeout time.Duration, late error,
	steps func() error) error {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	stop := context.AfterFunc(limited, func() {
		if early, ok := carrier.(EarlyCloser); ok && ctx.Err() != nil {
			early.CloseEarly()
		}
		carrier.Close()
	})
	err := steps()
	switch {
	case stop(): // in time
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	default:
		err = late
	}
	if err != nil {
		carrier.Close()
	}
	return err
}

// Close ends the session: the peer is told, waiting at most a second, every stream fails with a
// *SessionError, and all goroutines have ended when Close returns.
func (s *Session) Close() error { return s.CloseWith(CodeDone, "") }

// CloseWith is Close with a reason for the peer. The text is for its log; it is cut to 256 bytes.
func (s *Session) CloseWith(code Code, text string) error {
	s.BeginClose(code, text)
	<-s.done
	s.loops.Wait()
	return nil
}

// BeginClose is CloseWith without waiting. When it returns, the session takes neither streams nor
// carriers. The session ends within a second.
func (s *Session) BeginClose(code Code, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beginCloseLocked(ErrSessionClosed, code, text)
}

// beginCloseLocked is BeginClose with the error that the session ends with.
func (s *Session) beginCloseLocked(cause error, code Code, text string) {
	if s.err != nil || s.out.closing {
		return
	}
	s.sendCloseLocked(cause, code, text)
	wait := closeTimeout
	if s.link == nil {
		wait = 0 // there is nobody to tell
	}
	s.loops.Add(1)
	timer := time.AfterFunc(wait, func() {
		defer s.loops.Done()
		s.fail(ErrSessionClosed)
	})
	s.out.closeTimer = timer
}

// endingLocked returns why the session has ended or is about to, nil when it is neither.
func (s *Session) endingLocked() error {
	if s.err == nil && s.out.closing {
		return s.out.cause
	}
	return s.err
}

// Done is closed when the session has ended. Err then returns why.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err returns why the session ended, nil while it has not. ErrSessionClosed means that this side
// closed it, a *CloseError that the peer did.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Wait waits until the session and its goroutines have ended, and returns why it ended.
func (s *Session) Wait() error {
	<-s.done
	s.loops.Wait()
	return s.Err()
}

// await waits until the condition, which is checked with the mutex held, is true. It returns an
// error when ctx is done or, a *SessionError, when the session has ended.
func (s *Session) await(ctx context.Context, condition func() bool) error {
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
		case condition():
			return nil
		}
		s.changed.Wait()
	}
}

// Stats is a snapshot of a session's counters.
type Stats struct {
	Streams      int           // streams open
	Buffered     int           // bytes of memory held by received and unread data
	Queued       int           // bytes of memory held by what waits to be sent
	Sent         uint64        // sequenced bytes put into records
	Acknowledged uint64        // sequenced bytes that the peer has acknowledged
	Received     uint64        // sequenced bytes received
	Resent       uint64        // bytes sent again after resumptions
	Retained     int           // bytes of memory held by what is sent and not acknowledged
	Away         bool          // without a carrier
	AwaySince    time.Time     // when it lost the last one; zero while it has one
	SmoothedRTT  time.Duration // an average of round trips, 0 before the first was measured
	LastAway     time.Duration // how long it was last without a carrier
	Rate         float64       // bytes a second that the path has recently delivered to the peer
	Datagrams    DatagramStats
}

// Stats returns the session's counters.
func (s *Session) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	datagrams := s.totals.datagrams
	for _, n := range s.totals.Dropped {
		datagrams.Dropped += n
	}
	return Stats{
		Streams:      len(s.streams.byID),
		Buffered:     s.memory.buffered,
		Queued:       s.memory.queued + s.memory.stalled + s.memory.metered,
		Sent:         s.out.position,
		Acknowledged: s.out.acked,
		Received:     s.received,
		Resent:       s.out.resent,
		Retained:     s.out.retained.mem,
		Away:         s.link == nil,
		AwaySince:    s.lost.since,
		SmoothedRTT:  s.smoothedRTTLocked(),
		LastAway:     s.lost.lasted,
		Rate:         s.rateLocked(),
		Datagrams:    datagrams,
	}
}

// Totals returns what the session has counted so far, also once it has ended.
func (s *Session) Totals() Totals {
	s.mu.Lock()
	defer s.mu.Unlock()
	totals := s.totals.Totals
	totals.Resent.Sent = s.out.resent
	return totals
}

// rateLocked returns the delivery rate of the present carrier, 0 without one.
func (s *Session) rateLocked() float64 {
	if s.link == nil {
		return 0
	}
	return s.link.pace.Rate()
}

// smoothedRTTLocked returns the present carrier's round trip, or that of the one before.
func (s *Session) smoothedRTTLocked() time.Duration {
	if s.link != nil && s.link.rtt.smoothed > 0 {
		return s.link.rtt.smoothed
	}
	return s.lost.roundTrip
}

// fail ends the session with err, unless it has ended already. When a close frame is due, the
// session ends with the cause of that.
func (s *Session) fail(err error) {
	s.mu.Lock()
	s.failLocked(err)
	s.mu.Unlock()
	if s.host != nil {
		s.host.forget(s)
	}
}

func (s *Session) failLocked(err error) {
	if s.err != nil {
		return
	}
	if s.out.closing {
		err = s.out.cause
	}
	s.err = err
	s.streams.cut += len(s.streams.byID)
	s.stopAwayTimerLocked()
	if timer := s.out.closeTimer; timer != nil && timer.Stop() {
		s.loops.Done()
	}
	for _, st := range s.streams.byID {
		st.endLocked(&SessionError{s.err})
	}
	for st := range s.streams.leftovers {
		st.limitDeliveryLocked()
	}
	for _, in := range s.streams.incoming { // which nobody will accept
		st := in.unanswered()
		st.releaseLocked()
		st.dropReceivedLocked()
	}
	s.streams.incoming = nil
	s.changed.Broadcast()
	s.out.wake.Broadcast()
	s.out.control.release()
	s.out.queued = controlLoad{}
	s.out.retained.release()
	s.detachLocked()
	s.settleMemoryLocked()
	close(s.done)
}

var _ net.Conn = (*Stream)(nil)
