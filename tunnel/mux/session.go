package mux

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"culvert/tunnel/mux/pace"
)

// Carrier moves records between the two ends of a session, whole, in order and authentic.
type Carrier interface {
	// ReadRecord returns the next record, which stands in buf's array where that is large enough. One goroutine calls it.
	ReadRecord(buf []byte) ([]byte, error)

	// WriteRecords sends records in their order, and keeps no reference to them. One goroutine calls it at a time.
	WriteRecords(records ...[]byte) error

	// Close ends the carrier at once. It may be called concurrently with, and unblocks, the other methods.
	Close() error
}

// Session is many streams over one carrier at a time. All methods may be called concurrently.
//
// A session whose carriers can export secrets (see Exporter) outlives its carrier: when that ends, the session waits for the
// next one, which the client brings with Resume, and no stream notices.
type Session struct {
	cfg    Config
	client bool
	peer   hello // the peer's limits; fixed once the session stands
	host   *Host // of a server's session that can be resumed

	done     chan struct{} // closed when the session is dead
	loops    sync.WaitGroup
	resuming sync.Mutex // held while a carrier is exchanged

	mu sync.Mutex // guards all below and the state of every stream

	link       *link       // nil while the session is without a carrier
	resumption *resumption // nil when the session ends with its carrier
	awaySince  time.Time   // when the last carrier was lost
	lossCause  error       // what it ended of
	awayTimer  *time.Timer // ends a session that stays away
	watcher    *time.Timer // calls look
	lookAt     time.Time

	streams   map[uint32]*Stream
	leftovers map[*Stream]struct{} // streams that have ended with data which their users may still read
	ours      int                  // streams in the table that this side opened
	theirs    int                  // streams that the peer opened: in the table, or not yet released by the user
	nextID    uint32               // id of the next stream that this side opens
	lastTheir uint32               // highest id that the peer has opened
	incoming  []*Stream
	changed   sync.Cond // incoming, streams or link changed, or the session died
	draining  bool      // this side takes no new streams
	peerDrain bool      // the peer takes none
	buffered  int       // bytes of memory that received and unread data holds
	grown     uint64    // by how many bytes the windows of all streams have grown together
	datagrams DatagramStats

	sched scheduler
	out   outbox
	in    inbox
	pace  *pace.Controller // bounds what is inflight
	err   error            // cause of death, sticky
}

// NewClient starts a session as the side that speaks first. It returns when the peer has answered the hello. The session
// owns the carrier from here on, also when NewClient fails.
func NewClient(ctx context.Context, carrier Carrier, cfg Config) (*Session, error) {
	s := makeSession(cfg, true)
	err := exchange(ctx, carrier, s.cfg.HelloTimeout, func() error {
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
		return nil, err
	}
	return s, nil
}

// NewServer starts a session as the side that speaks second. It returns when the peer's hello has come. The session owns
// the carrier from here on, also when NewServer fails. It ends with its carrier; a Host makes sessions that don't.
func NewServer(ctx context.Context, carrier Carrier, cfg Config) (*Session, error) {
	s := makeSession(cfg, false)
	err := exchange(ctx, carrier, s.cfg.HelloTimeout, func() error {
		offer, err := readHello(carrier, roleClient)
		if err != nil {
			return err
		}
		return s.answer(carrier, offer)
	})
	if err != nil {
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
	s.peer = theirs
	if s.client {
		if theirs.sendPosition != 0 || theirs.receivePosition != 0 {
			return protocolErrorf("hello of a new session at positions %d and %d", theirs.sendPosition, theirs.receivePosition)
		}
		if theirs.id != (sessionID{}) {
			s.resumption, _ = newResumption(carrier, theirs.id, max(theirs.window, minWindow))
		}
	}
	s.attach(carrier, 0)
	return nil
}

// makeSession makes a session that does not run yet.
func makeSession(cfg Config, client bool) *Session {
	s := &Session{
		cfg:       cfg.withDefaults(),
		client:    client,
		done:      make(chan struct{}),
		streams:   make(map[uint32]*Stream),
		leftovers: make(map[*Stream]struct{}),
		nextID:    2,
	}
	if client {
		s.nextID = 1
	}
	s.changed.L = &s.mu
	s.out.wake.L = &s.mu
	s.out.retained.budget = s.cfg.Retention
	s.pace = pace.New(paceConfig, time.Now())
	s.sched.quantum = s.pace.FrameSize()
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

// exchange bounds the exchange of hellos. When it fails, the carrier is closed.
func exchange(ctx context.Context, carrier Carrier, timeout time.Duration, steps func() error) error {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	stop := context.AfterFunc(limited, func() { carrier.Close() })
	err := steps()
	switch {
	case stop(): // in time
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	default:
		err = ErrNotCulvert
	}
	if err != nil {
		carrier.Close()
	}
	return err
}

// Open opens a stream and waits for the peer's answer. A refusal is an *OpenError.
func (s *Session) Open(ctx context.Context, target Target) (*Stream, error) {
	if len(target.Address) > maxTarget {
		return nil, &OpenError{Code: CodeBadTarget}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.newOutgoing(target)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		st.recv.wake.Broadcast()
	})
	defer stop()
	for st.state == opening && st.send.err == nil {
		if ctx.Err() != nil {
			st.release()
			st.reset(CodeCancelled)
			return nil, context.Cause(ctx)
		}
		st.recv.wake.Wait()
	}
	if st.state == openConfirmed {
		return st, nil
	}
	st.release()
	st.dropReceived()
	if st.openResult != nil {
		return nil, st.openResult
	}
	var reset *ResetError
	if errors.As(st.send.err, &reset) {
		return nil, &OpenError{Code: reset.Code}
	}
	return nil, st.send.err
}

// newOutgoing makes the stream and queues its open frame. Called with the mutex held.
func (s *Session) newOutgoing(target Target) (*Stream, error) {
	switch {
	case s.err != nil:
		return nil, &SessionError{s.err}
	case s.draining, s.peerDrain:
		return nil, &OpenError{Code: CodeDraining}
	case uint64(s.ours) >= uint64(s.peer.maxStreams):
		return nil, &OpenError{Code: CodeTooManyStreams}
	case s.nextID > 1<<32-3:
		return nil, ErrNoMoreStreams
	}
	st := newStream(s, s.nextID, target, true)
	s.nextID += 2
	s.ours++
	s.streams[st.id] = st
	s.control(kindOpen, st.id, openPayload(target, nil))
	return st, nil
}

// Accept waits for the next stream that the peer opens. The caller answers it with Confirm or Refuse. After the session
// has died, Accept returns a *SessionError.
func (s *Session) Accept(ctx context.Context) (*Stream, error) {
	var st *Stream
	err := s.await(ctx, func() bool {
		if len(s.incoming) > 0 {
			st = s.incoming[0]
			s.incoming[0] = nil
			s.incoming = s.incoming[1:]
		}
		return st != nil
	})
	return st, err
}

// Drain tells the peer that this side takes no new streams, and waits until those that are open have ended or ctx is
// done. It does not close the session.
func (s *Session) Drain(ctx context.Context) error {
	s.mu.Lock()
	if !s.draining && s.err == nil {
		s.draining = true
		s.control(kindDraining, 0, nil)
	}
	s.mu.Unlock()
	err := s.await(ctx, func() bool { return len(s.streams) == 0 })
	var dead *SessionError
	if errors.As(err, &dead) {
		return nil
	}
	return err
}

// Close ends the session: the peer is told, waiting at most a second, every stream fails with a *SessionError, and all
// goroutines have ended when Close returns.
func (s *Session) Close() error { return s.CloseWith(CodeDone, "") }

// CloseWith is Close with a reason for the peer. The text is for its log; it is cut to 256 bytes.
func (s *Session) CloseWith(code Code, text string) error {
	s.mu.Lock()
	if s.err == nil && !s.out.closing {
		s.sayFarewell(ErrSessionClosed, code, text)
		wait := closeTimeout
		if s.link == nil {
			wait = 0 // there is nobody to tell
		}
		timer := time.AfterFunc(wait, func() { s.fail(ErrSessionClosed) })
		defer timer.Stop()
	}
	s.mu.Unlock()
	<-s.done
	s.loops.Wait()
	return nil
}

// Done is closed when the session is dead. Err then says why.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err returns the cause of death, nil while the session lives. ErrSessionClosed means that this side closed it, a
// *CloseError that the peer did.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Wait waits until the session is dead and its goroutines have ended, and returns the cause of death.
func (s *Session) Wait() error {
	<-s.done
	s.loops.Wait()
	return s.Err()
}

// Stats is a snapshot of a session's counters.
type Stats struct {
	Streams      int           // streams open
	Buffered     int           // bytes of memory held by received and unread data
	Sent         uint64        // sequenced bytes put into records
	Acknowledged uint64        // sequenced bytes that the peer has acknowledged
	Received     uint64        // sequenced bytes received
	Resent       uint64        // bytes sent again after resumptions
	Retained     int           // bytes of memory held by what is sent and not acknowledged
	Away         bool          // without a carrier
	RoundTrip    time.Duration // of the last ping, 0 before the first
	Datagrams    DatagramStats
}

// Stats returns the session's counters.
func (s *Session) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{
		Streams:      len(s.streams),
		Buffered:     s.buffered,
		Sent:         s.out.position,
		Acknowledged: s.out.acked,
		Received:     s.in.position,
		Resent:       s.out.resent,
		Retained:     s.out.retained.mem,
		Away:         s.link == nil,
		RoundTrip:    s.in.roundTrip,
		Datagrams:    s.datagrams,
	}
}

// Ping measures the round trip to the peer. One call at a time.
func (s *Session) Ping(ctx context.Context) (time.Duration, error) {
	s.mu.Lock()
	s.sendPing()
	token := s.out.pingToken
	s.watch()
	s.mu.Unlock()
	var trip time.Duration
	err := s.await(ctx, func() bool {
		trip = s.in.roundTrip
		return s.in.pongToken >= token
	})
	return trip, err
}

// forget takes a stream out of the table. Called with the mutex held.
func (s *Session) forget(st *Stream) {
	if st.removed {
		return
	}
	st.removed = true
	s.grown -= st.recv.window - uint64(s.cfg.Window)
	s.sched.remove(st)
	delete(s.streams, st.id)
	if st.recv.mem() > 0 {
		s.leftovers[st] = struct{}{}
	}
	switch {
	case st.ours:
		s.ours--
	case st.closed:
		s.theirs--
	}
	s.changed.Broadcast()
}

// fail makes the session dead of err, unless it is dead already. A session that has said farewell dies of its cause.
func (s *Session) fail(err error) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	if s.out.closing {
		err = s.out.cause
	}
	s.err = err
	s.stopTimers()
	for _, st := range s.streams {
		st.end(&SessionError{s.err})
	}
	s.incoming = nil
	s.changed.Broadcast()
	s.out.wake.Broadcast()
	s.out.retained.release()
	s.detach()
	close(s.done)
	s.mu.Unlock()
	if s.host != nil {
		s.host.forget(s)
	}
}

// isOwn says whether this side opens streams with this id.
func (s *Session) isOwn(id uint32) bool { return (id%2 == 1) == s.client }

var _ net.Conn = (*Stream)(nil)
