package tunnel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"culvert/protocol"
	"culvert/tunnel/mux"
	"culvert/tunnel/mux/budget"
)

// Observer learns what a node does, beyond what Read returns. Its methods are called concurrently,
// also with locks held: they must not wait, and must not call the node.
type Observer interface {
	// Handshake is called when a client was admitted, or was not.
	Handshake(h Handshake)

	// Resume is called when a session that was without a carrier has another one, or has ended
	// without one; away is how long it was without.
	Resume(resumed bool, away time.Duration)

	// Move is called when a client is told to open another session.
	Move(reason MoveReason)

	// Dial is called when a target was reached, or was not.
	Dial(result mux.Result, took time.Duration)
}

// Handshake is an attempt to be admitted.
type Handshake struct {
	Result  HandshakeResult
	Version int           // of the handshake; 0 if it did not get that far
	Suite   string        // "" if it did not get that far
	Took    time.Duration // 0 if it did not begin
}

// HandshakeResult is how an attempt to be admitted ended.
type HandshakeResult int

// The results.
const (
	HandshakeAdmitted HandshakeResult = iota // the client has a session, a new one or the one it had
	HandshakeRefused                         // one side does not accept the other
	HandshakeFailed                          // the connection ended, or a side broke the rules
	HandshakeTimeout                         // it took too long
	HandshakeBusy                            // the remote had no room, or is shutting down
)

// String returns the result's name.
func (r HandshakeResult) String() string {
	return [...]string{"admitted", "refused", "failed", "timeout", "busy"}[r]
}

// noObserver is the Observer of a node that has none.
type noObserver struct{}

func (noObserver) Handshake(Handshake)            {}
func (noObserver) Resume(bool, time.Duration)     {}
func (noObserver) Move(MoveReason)                {}
func (noObserver) Dial(mux.Result, time.Duration) {}

// handshakeResult classifies why a client was not admitted; nil is for one that was.
func handshakeResult(err error) HandshakeResult {
	var session *mux.RefusedError
	var handshake *protocol.HandshakeError
	var refused *protocol.RefusedError
	switch {
	case err == nil:
		return HandshakeAdmitted
	case errors.Is(err, errDisplaced):
		return HandshakeBusy
	case errors.As(err, &session):
		if session.Code == mux.CodeNotAllowed || session.Code == mux.CodeShare {
			return HandshakeRefused
		}
		return HandshakeBusy
	case errors.As(err, &refused) && refused.Code == CloseBusy:
		return HandshakeBusy
	case IsAdmissionError(err), IsIdentityError(err), errors.As(err, &refused):
		return HandshakeRefused
	case errors.As(err, &handshake) &&
		(handshake.Code == protocol.CloseIdentity || refusesClient(handshake.Code)):
		return HandshakeRefused
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, mux.ErrNotCulvert):
		return HandshakeTimeout
	}
	return HandshakeFailed
}

// observeDial reports to o how an attempt to reach a target ended that began at a time.
func observeDial(o Observer, began time.Time, err error) {
	result := mux.ResultOK
	switch {
	case errors.Is(err, errNotWanted), errors.Is(err, context.Canceled):
		result = mux.ResultReset
	case err != nil:
		result = mux.ResultOf(dialCode(err))
	}
	o.Dial(result, time.Since(began))
}

// Totals is what a node has counted since it was made. Only what is open goes down again.
type Totals struct {
	mux.Totals
	Sessions    uint64 // that began
	Resumptions uint64 // of sessions, on another carrier
}

// MemoryUse is what a node holds for its clients, in bytes.
type MemoryUse struct {
	Send      int64 // waits to be sent
	Receive   int64 // received and unread
	Retained  int64 // sent and unacknowledged
	Streams   int64 // of streams apart from their data
	Handshake int64 // of clients that are being admitted
	Other     int64 // of UDP sockets and associations
	Limit     int64 // for all together
}

// add adds what a budget counts apart from the data of sessions.
func (m *MemoryUse) add(b *budget.Budget) {
	m.Limit, m.Streams, m.Other = b.Limit(), b.Fixed(), b.Reserved()
}

// Reading is what a node is doing now, and what it has done since it was made.
type Reading struct {
	Totals
	Paths
	Memory MemoryUse
}

// Paths are those of a Remote's sessions, or that of the one of a Local that new streams use.
type Paths struct {
	Carried    int             // sessions with a carrier
	Away       int             // sessions without one
	RoundTrips []time.Duration // of sessions with a carrier that have measured theirs
	Rate       float64         // bytes a second that the path of some session delivers
}

// add adds that of a session.
func (p *Paths) add(session *mux.Session, stats mux.Stats) {
	switch {
	case session.Err() != nil:
		return
	case stats.Away:
		p.Away++
		return
	}
	p.Carried++
	p.Rate = stats.Rate
	if stats.SmoothedRTT > 0 {
		p.RoundTrips = append(p.RoundTrips, stats.SmoothedRTT)
	}
}

// sums count what the sessions of a node do, also after they have ended. All methods may be called
// concurrently.
type sums struct {
	mu       sync.Mutex // guards all below; locked before the mutex of a session
	sessions map[*mux.Session]struct{}
	totals   Totals // without those of sessions
}

// begin counts a session that begins.
func (s *sums) begin(session *mux.Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions == nil {
		s.sessions = make(map[*mux.Session]struct{})
	}
	s.sessions[session] = struct{}{}
	s.totals.Sessions++
}

// resumed counts a session that has another carrier.
func (s *sums) resumed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.totals.Resumptions++
}

// end counts a session that has ended.
func (s *sums) end(session *mux.Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, counted := s.sessions[session]; !counted {
		return
	}
	delete(s.sessions, session)
	totals := session.Totals()
	s.totals.Add(&totals)
}

// read returns what all sessions do and have done.
func (s *sums) read() Reading {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := Reading{Totals: s.totals}
	for session := range s.sessions {
		totals, stats := session.Totals(), session.Stats()
		r.Add(&totals)
		r.Memory.Send += int64(stats.Queued)
		r.Memory.Receive += int64(stats.Buffered)
		r.Memory.Retained += int64(stats.Retained)
		r.Paths.add(session, stats)
	}
	return r
}

// Read returns what the Remote does and has done.
func (r *Remote) Read() Reading {
	reading := r.observed.sums.read()
	reading.Memory.add(r.session.Memory)
	reading.Memory.Handshake = r.session.Memory.HeldBy(strangers)
	reading.Memory.Other -= reading.Memory.Handshake
	return reading
}

// Read returns what the Local does and has done. It may have sessions that only drain, or that wait
// for the better remote, so Paths is that of the current one.
func (l *Local) Read() Reading {
	reading := l.sums.read()
	reading.Paths = Paths{}
	if conn := l.connection(); conn != nil {
		reading.Paths.add(conn.session, conn.session.Stats())
	}
	reading.Memory.add(l.remotes[0].session.Memory)
	return reading
}

// Ready returns why the Remote takes no clients, or nil.
func (r *Remote) Ready() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.draining {
		return errDraining
	}
	return nil
}

// Ready returns why the Local reaches no targets, or nil.
func (l *Local) Ready() error {
	l.mu.Lock()
	conn, err := l.current, l.err
	l.mu.Unlock()
	switch {
	case err != nil:
		return err
	case conn == nil:
		return ErrNoSession
	case conn.session.Err() != nil:
		return conn.session.Err()
	case conn.session.Stats().Away:
		return fmt.Errorf("the connection to the remote is lost: %w", conn.session.LossCause())
	}
	return nil
}
