package mux

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"os"
	"time"
)

// Exporter is a carrier whose two ends can derive secrets that nobody else knows, as those of
// protocol.Conn with forward secrecy can. Sessions over such carriers can be resumed.
type Exporter interface {
	Export(label string, context []byte, n int) ([]byte, error)
}

// Labels of exported secrets.
const (
	labelResumption = "culvert session resumption" // of the first carrier, with the id
	labelBinding    = "culvert session binding"    // of the carrier on which it is resumed
)

// resumption is what a session needs to be resumed: its name, and a key that only the two ends of
// its first carrier have.
type resumption struct {
	id     sessionID
	key    []byte
	window time.Duration // how long the session waits for a carrier

	// At a server: who may resume it, and with whose sessions it is counted.
	identity, owner string
}

// newResumption derives the key from the session's first carrier. It fails when the carrier exports
// nothing.
func newResumption(carrier Carrier, id sessionID, window time.Duration) (*resumption, error) {
	exporter, ok := carrier.(Exporter)
	if !ok {
		return nil, errNoExporter
	}
	key, err := exporter.Export(labelResumption, id[:], sha256.Size)
	if err != nil {
		return nil, err
	}
	return &resumption{id: id, key: key, window: window}, nil
}

var errNoExporter = errors.New("the carrier exports no secrets")

// proof shows the peer on a new carrier that this side is an end of the session. It is bound to the
// carrier, so it is worthless on another, and to the role, so it can't be sent back.
func (r *resumption) proof(carrier Carrier, role role) (proof [proofSize]byte, err error) {
	exporter, ok := carrier.(Exporter)
	if !ok {
		return proof, errNoExporter
	}
	binding, err := exporter.Export(labelBinding, nil, sha256.Size)
	if err != nil {
		return proof, err
	}
	mac := hmac.New(sha256.New, r.key)
	mac.Write([]byte{byte(role)})
	mac.Write(binding)
	mac.Sum(proof[:0])
	return proof, nil
}

// proves reports whether the peer's proof is right.
func (r *resumption) proves(carrier Carrier, role role, proof [proofSize]byte) bool {
	want, err := r.proof(carrier, role)
	return err == nil && subtle.ConstantTimeCompare(want[:], proof[:]) == 1
}

// checkPositionLocked returns an error when the peer can't have received what it claims, less than
// it has acknowledged or more than was sent, or can't have sent as little as it claims.
func (s *Session) checkPositionLocked(theirs hello) error {
	if p := theirs.receivePosition; p < s.out.acked || p > s.out.position {
		return protocolErrorf("resumed at %d, between %d and %d possible", p, s.out.acked, s.out.position)
	}
	if p := theirs.sendPosition; p < s.received { // a hello from before, which came late
		return protocolErrorf("resumed with %d sent, and %d received", p, s.received)
	}
	return nil
}

// ErrElsewhere means that the peer on a new carrier doesn't have the session, which still works on
// the carrier that it has: it is another server.
var ErrElsewhere = errors.New("another server answers, which does not have the session")

// errNoAnswer is why a carrier isn't used on which nobody answers a resumption in time.
var errNoAnswer = fmt.Errorf("the server doesn't answer: %w", os.ErrDeadlineExceeded)

// Resume gives a client's session another carrier, which replaces the one that it has lost or still
// has. It returns the session itself, with all its streams; or, when the server no longer has it, a
// new session on the same carrier, and the old one fails with ErrSessionUnknown. It also fails when
// the server refuses that new session, which is a *RefusedError. When Resume fails with another
// error, the carrier is closed and the session is as it was, so that another can be tried. A
// session that still has a carrier waits meanwhile, and keeps that whenever Resume fails: with
// ErrElsewhere when the server doesn't have the session.
func (s *Session) Resume(ctx context.Context, carrier Carrier) (*Session, error) {
	s.resuming.Lock()
	defer s.resuming.Unlock()
	defer s.release()
	resumed := s
	err := exchange(ctx, carrier, s.resumeTimeout(), errNoAnswer, func() (err error) {
		resumed, err = s.resume(carrier)
		return err
	})
	if err != nil {
		if resumed != nil && resumed != s { // it may have begun just when the time was over
			resumed.fail(err)
		}
		return nil, err
	}
	if resumed != s { // not before: who learns of it may end ctx, and with that the other session
		s.fail(ErrSessionUnknown)
	}
	return resumed, nil
}

// resume is Resume without its time limit.
func (s *Session) resume(carrier Carrier) (*Session, error) {
	mine, err := s.offer(carrier)
	if err != nil {
		return nil, err
	}
	if err := carrier.WriteRecords(appendHello(nil, mine)); err != nil {
		return nil, err
	}
	theirs, err := readHello(carrier, roleServer)
	_, refused := errors.AsType[*RefusedError](err) // a new session, in place of this
	if err != nil && !refused {
		return nil, err
	}
	if refused || theirs.id != mine.id {
		if s.isHeld() {
			if err == nil { // so that the server doesn't keep the session that it has begun
				_ = carrier.WriteRecords(appendFrame(nil, kindClose, 0, codePayload(CodeDone, "")))
			}
			return nil, cmp.Or(err, ErrElsewhere)
		}
		if err != nil {
			s.fail(ErrSessionUnknown)
			return nil, err
		}
		s.mu.Lock()
		cfg := s.cfg // which TakeIncoming changes
		s.mu.Unlock()
		next := makeSession(cfg, true)
		return next, next.begin(carrier, theirs)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch err := s.endingLocked(); {
	case err != nil:
		return nil, &SessionError{err}
	case !s.resumption.proves(carrier, roleServer, theirs.proof):
		return nil, protocolErrorf("the server does not prove that it has the session")
	}
	if err := s.checkPositionLocked(theirs); err != nil {
		return nil, err
	}
	if s.link != nil {
		s.loseCarrierLocked(errReplaced)
	}
	s.lost.uncounted = nil
	s.countResumptionLocked(theirs)
	s.attachLocked(carrier, theirs.receivePosition)
	return s, nil
}

// resumeTimeout is how long the server may take to answer. While a carrier is held for that, the
// server hears nothing on it, and must not give it up.
func (s *Session) resumeTimeout() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link == nil {
		return s.cfg.HelloTimeout
	}
	return min(s.cfg.HelloTimeout, s.link.patienceLocked()/2)
}

// isHeld reports whether the session has a carrier that offer holds.
func (s *Session) isHeld() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.link != nil && s.link.held()
}

// release lets the carrier go on that offer has held, if the session still has it. One that was
// lost meanwhile counts then, unless another has replaced it.
func (s *Session) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.lost.uncounted; err != nil {
		s.lost.uncounted = nil
		s.countLossLocked(err)
	}
	l := s.link
	if l == nil || !l.held() {
		return
	}
	now := time.Now()
	if silent := l.lastRead.Add(now.Sub(l.heldSince)); silent.Before(now) {
		l.lastRead = silent // what it was silent meanwhile was of our own making
	} else {
		l.lastRead = now
	}
	l.heldSince = time.Time{}
	l.sample = rttSample{}
	s.changed.Broadcast()
	s.out.wake.Broadcast()
	l.scheduleCheckLocked()
}

// offer holds the session's carrier, so that what was sent and received is settled, and returns the
// hello for another.
func (s *Session) offer(carrier Carrier) (hello, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch err := s.endingLocked(); {
	case err != nil:
		return hello{}, &SessionError{err}
	case s.resumption == nil:
		return hello{}, errNoExporter
	}
	proof, err := s.resumption.proof(carrier, roleClient)
	if err != nil {
		return hello{}, err
	}
	if s.link != nil {
		s.link.heldSince = time.Now()
	}
	h := s.hello()
	h.id, h.proof = s.resumption.id, proof
	h.sendPosition, h.receivePosition = s.out.position, s.received
	return h, nil
}
