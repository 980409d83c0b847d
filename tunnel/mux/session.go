package mux

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// Carrier moves records between the two ends of a session, whole, in order and authentic.
type Carrier interface {
	// ReadRecord returns the next record, valid until the next call. One goroutine calls it.
	ReadRecord() ([]byte, error)

	// WriteRecord sends a record and keeps no reference to it. One goroutine calls it at a time.
	WriteRecord(p []byte) error

	// Close ends the carrier at once. It may be called concurrently with, and unblocks, the other methods.
	Close() error
}

// Session is many streams over one carrier. All methods may be called concurrently.
type Session struct {
	cfg     Config
	carrier Carrier
	client  bool
	peer    hello // the peer's limits; fixed once the session stands

	done  chan struct{} // closed when the session is dead
	loops sync.WaitGroup

	mu sync.Mutex // guards all below and the state of every stream

	streams   map[uint32]*Stream
	leftovers map[*Stream]struct{} // streams that have ended with data which their users may still read
	ours      int                  // streams in the table that this side opened
	theirs    int                  // streams that the peer opened: in the table, or not yet released by the user
	nextID    uint32               // id of the next stream that this side opens
	lastTheir uint32               // highest id that the peer has opened
	incoming  []*Stream
	changed   sync.Cond // incoming or streams changed, or the session died
	draining  bool      // this side takes no new streams
	peerDrain bool      // the peer takes none
	buffered  int       // bytes of memory that received and unread data holds
	datagrams DatagramStats

	sched scheduler
	out   outbox
	in    inbox
	err   error // cause of death, sticky
}

// NewClient starts a session as the side that speaks first. It returns when the peer has answered the hello. The session
// owns the carrier from here on, also when NewClient fails.
func NewClient(ctx context.Context, carrier Carrier, cfg Config) (*Session, error) {
	return newSession(ctx, carrier, cfg, true)
}

// NewServer starts a session as the side that speaks second. It returns when the peer's hello has come. The session owns
// the carrier from here on, also when NewServer fails.
func NewServer(ctx context.Context, carrier Carrier, cfg Config) (*Session, error) {
	return newSession(ctx, carrier, cfg, false)
}

func newSession(ctx context.Context, carrier Carrier, cfg Config, client bool) (*Session, error) {
	s := makeSession(carrier, cfg, client)
	if err := s.exchangeHellos(ctx); err != nil {
		carrier.Close()
		return nil, err
	}
	s.mu.Lock()
	s.in.last = time.Now()
	s.out.last = s.in.last
	s.startKeepalive()
	s.mu.Unlock()
	s.loops.Go(s.readLoop)
	s.loops.Go(s.writeLoop)
	return s, nil
}

// makeSession makes a session that does not run yet.
func makeSession(carrier Carrier, cfg Config, client bool) *Session {
	s := &Session{
		cfg:       cfg.withDefaults(),
		carrier:   carrier,
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
	return s
}

// exchangeHellos sends this side's hello and reads the peer's, the client's first.
func (s *Session) exchangeHellos(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, s.cfg.HelloTimeout)
	defer cancel()
	stop := context.AfterFunc(limited, func() { s.carrier.Close() })
	err := s.sayHello()
	switch {
	case stop(): // in time
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	default:
		return ErrNotCulvert
	}
}

// sayHello takes the steps of exchangeHellos, which bounds them.
func (s *Session) sayHello() error {
	mine, want := roleServer, roleClient
	if s.client {
		mine, want = roleClient, roleServer
	}
	send := func() error {
		return s.carrier.WriteRecord(appendHello(nil, hello{
			role:        mine,
			maxRecord:   MaxRecordSize,
			firstCredit: uint32(s.cfg.Window),
			maxStreams:  uint32(s.cfg.MaxStreams),
		}))
	}
	receive := func() error {
		record, err := s.carrier.ReadRecord()
		if err != nil {
			return err
		}
		var rest []byte
		if s.peer, rest, err = parseHello(record, want); err != nil {
			return err
		}
		if len(rest) > 0 {
			return protocolErrorf("%d bytes after the hello", len(rest))
		}
		if s.peer.sendPosition != 0 || s.peer.receivePosition != 0 {
			return protocolErrorf("hello of a new session at positions %d and %d", s.peer.sendPosition, s.peer.receivePosition)
		}
		return nil
	}
	steps := []func() error{send, receive}
	if !s.client {
		steps = []func() error{receive, send}
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
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
			return nil, &SessionError{s.err}
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case len(s.incoming) > 0:
			st := s.incoming[0]
			s.incoming[0] = nil
			s.incoming = s.incoming[1:]
			return st, nil
		}
		s.changed.Wait()
	}
}

// Drain tells the peer that this side takes no new streams, and waits until those that are open have ended or ctx is
// done. It does not close the session.
func (s *Session) Drain(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})
	defer stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.draining && s.err == nil {
		s.draining = true
		s.control(kindDraining, 0, nil)
	}
	for len(s.streams) > 0 && s.err == nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.changed.Wait()
	}
	return nil
}

// Close ends the session: the peer is told, waiting at most a second, every stream fails with a *SessionError, and all
// goroutines have ended when Close returns.
func (s *Session) Close() error { return s.CloseWith(CodeDone, "") }

// CloseWith is Close with a reason for the peer. The text is for its log; it is cut to 256 bytes.
func (s *Session) CloseWith(code Code, text string) error {
	s.mu.Lock()
	if s.err == nil && !s.out.closing {
		s.sayFarewell(ErrSessionClosed, code, text)
		timer := time.AfterFunc(closeTimeout, func() { s.fail(ErrSessionClosed) })
		defer timer.Stop()
	}
	s.mu.Unlock()
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
		RoundTrip:    s.in.roundTrip,
		Datagrams:    s.datagrams,
	}
}

// Ping measures the round trip to the peer. One call at a time.
func (s *Session) Ping(ctx context.Context) (time.Duration, error) {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})
	defer stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sendPing()
	token := s.out.pingToken
	for s.in.pongToken < token {
		switch {
		case s.err != nil:
			return 0, &SessionError{s.err}
		case ctx.Err() != nil:
			return 0, context.Cause(ctx)
		}
		s.changed.Wait()
	}
	return s.in.roundTrip, nil
}

// forget takes a stream out of the table. Called with the mutex held.
func (s *Session) forget(st *Stream) {
	if st.removed {
		return
	}
	st.removed = true
	s.sched.remove(st)
	delete(s.streams, st.id)
	if st.recv.queue.mem > 0 {
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
	close(s.done)
	s.mu.Unlock()
	s.carrier.Close()
}

// isOwn says whether this side opens streams with this id.
func (s *Session) isOwn(id uint32) bool { return (id%2 == 1) == s.client }

var _ net.Conn = (*Stream)(nil)
