package mux

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"sync"
	"time"
)

// Exporter is a carrier whose two ends can derive secrets that nobody else knows, as protocol.Conn's with forward secrecy
// can. Sessions over such carriers can be resumed.
type Exporter interface {
	Export(label string, context []byte, n int) ([]byte, error)
}

// The labels of what is exported.
const (
	labelResumption = "culvert session resumption" // of the first carrier, with the session's id
	labelBinding    = "culvert session binding"    // of the carrier that the session is resumed on
)

// resumption is what a session needs to be resumed: its name, and a key that only the two ends of its first carrier have.
type resumption struct {
	id     sessionID
	key    []byte
	window time.Duration // how long the session waits for a carrier
	owner  string        // at a server: the identity of the client
}

// newResumption derives the key from the session's first carrier. It fails when that exports nothing.
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

// proof shows the peer on a new carrier that this side is an end of the session. It is bound to the carrier, so it is worth
// nothing on another, and to the role, so it can't be sent back.
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

// proves checks the peer's proof.
func (r *resumption) proves(carrier Carrier, role role, proof [proofSize]byte) bool {
	want, err := r.proof(carrier, role)
	return err == nil && subtle.ConstantTimeCompare(want[:], proof[:]) == 1
}

// checkPositionLocked makes sure that what the peer says it has received can be: no less than it has acknowledged, no more than
// was sent.
func (s *Session) checkPositionLocked(theirs hello) error {
	if p := theirs.receivePosition; p < s.out.acked || p > s.out.position {
		return protocolErrorf("resumed at %d, between %d and %d possible", p, s.out.acked, s.out.position)
	}
	return nil
}

// Resume gives a client's session another carrier, in place of the one that it has lost or still has. It returns the
// session itself, all its streams unharmed; or, when the server does not have it any more, a new one on the same carrier,
// the old being dead of ErrSessionUnknown. When it fails, the carrier is closed and the session as it was, so that the next
// can be tried.
func (s *Session) Resume(ctx context.Context, carrier Carrier) (*Session, error) {
	s.resuming.Lock()
	defer s.resuming.Unlock()
	resumed := s
	err := exchange(ctx, carrier, s.cfg.HelloTimeout, func() (err error) {
		resumed, err = s.resume(carrier)
		return err
	})
	if err != nil {
		return nil, err
	}
	return resumed, nil
}

// resume takes the steps of Resume.
func (s *Session) resume(carrier Carrier) (*Session, error) {
	mine, err := s.offer(carrier)
	if err != nil {
		return nil, err
	}
	if err := carrier.WriteRecords(appendHello(nil, mine)); err != nil {
		return nil, err
	}
	theirs, err := readHello(carrier, roleServer)
	if err != nil {
		return nil, err
	}
	if theirs.id != mine.id {
		s.fail(ErrSessionUnknown)
		next := makeSession(s.cfg, true)
		return next, next.begin(carrier, theirs)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return nil, &SessionError{s.err}
	case !s.resumption.proves(carrier, roleServer, theirs.proof):
		return nil, protocolErrorf("the server does not prove that it has the session")
	}
	if err := s.checkPositionLocked(theirs); err != nil {
		return nil, err
	}
	s.attachLocked(carrier, theirs.receivePosition)
	return s, nil
}

// offer cuts off the session's carrier, so that what was received is settled, and returns the hello for another.
func (s *Session) offer(carrier Carrier) (hello, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return hello{}, &SessionError{s.err}
	case s.resumption == nil:
		return hello{}, errNoExporter
	}
	proof, err := s.resumption.proof(carrier, roleClient)
	if err != nil {
		return hello{}, err
	}
	if s.link != nil {
		s.loseCarrierLocked(errReplaced)
	}
	h := s.hello()
	h.id, h.proof = s.resumption.id, proof
	h.sendPosition, h.receivePosition = s.out.position, s.received
	return h, nil
}

// HostConfig bounds the sessions of a Host. A zero field means its documented default.
type HostConfig struct {
	// ResumeWindow is how long a session waits for another carrier. Default DefaultResumeWindow (2 minutes).
	ResumeWindow time.Duration

	// MaxAway bounds the sessions without a carrier; the one that has waited longest makes way. Default DefaultMaxAway
	// (256).
	MaxAway int
}

// Host is a server's sessions that can be resumed. Its methods may be called concurrently.
type Host struct {
	cfg HostConfig

	mu       sync.Mutex // never taken while a session's is held
	sessions map[sessionID]*Session
}

// NewHost makes a host without sessions.
func NewHost(cfg HostConfig) *Host {
	setDefault(&cfg.ResumeWindow, DefaultResumeWindow)
	setDefault(&cfg.MaxAway, DefaultMaxAway)
	return &Host{cfg: cfg, sessions: make(map[sessionID]*Session)}
}

// Accept reads a client's hello from a carrier, and either gives the carrier to the session that the client proves to be an
// end of, or starts a new session. The owner is the client's authenticated identity; nobody else can resume the session.
// The session owns the carrier from here on, also when Accept fails.
func (h *Host) Accept(ctx context.Context, carrier Carrier, cfg Config, owner string) (s *Session, resumed bool, err error) {
	cfg = cfg.withDefaults()
	err = exchange(ctx, carrier, cfg.HelloTimeout, func() error {
		offer, err := readHello(carrier, roleClient)
		if err != nil {
			return err
		}
		if s = h.find(carrier, offer, owner); s != nil {
			resumed, err = s.reattach(carrier, offer)
			if resumed || err != nil {
				return err
			}
		}
		s, err = h.start(carrier, cfg, owner, offer)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	return s, resumed, nil
}

// find returns the session that a hello wants to resume and may, nil when there is none. A client that may not is told
// nothing else than one whose session is gone.
func (h *Host) find(carrier Carrier, offer hello, owner string) *Session {
	h.mu.Lock()
	s := h.sessions[offer.id]
	h.mu.Unlock()
	if s == nil || s.resumption.owner != owner || !s.resumption.proves(carrier, roleClient, offer.proof) {
		return nil
	}
	return s
}

// start makes a new session.
func (h *Host) start(carrier Carrier, cfg Config, owner string, offer hello) (*Session, error) {
	s := makeSession(cfg, false)
	var id sessionID
	rand.Read(id[:]) // never fails, see crypto/rand
	if r, err := newResumption(carrier, id, h.cfg.ResumeWindow); err == nil {
		r.owner = owner
		s.resumption, s.host = r, h
		h.mu.Lock()
		h.sessions[id] = s
		h.mu.Unlock()
	}
	if err := s.answer(carrier, offer); err != nil {
		s.fail(err)
		return nil, err
	}
	return s, nil
}

// reattach gives a session of this server a new carrier. It is false when the session died meanwhile.
func (s *Session) reattach(carrier Carrier, offer hello) (bool, error) {
	s.resuming.Lock()
	defer s.resuming.Unlock()
	mine, err := s.acceptOffer(carrier, offer)
	if err != nil {
		var dead *SessionError
		if errors.As(err, &dead) {
			return false, nil
		}
		return false, err
	}
	if err := carrier.WriteRecords(appendHello(nil, mine)); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return false, &SessionError{s.err}
	}
	s.attachLocked(carrier, offer.receivePosition)
	return true, nil
}

// acceptOffer cuts off the session's carrier, since the newest wins, and returns the hello that answers.
func (s *Session) acceptOffer(carrier Carrier, offer hello) (hello, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return hello{}, &SessionError{s.err}
	}
	if err := s.checkPositionLocked(offer); err != nil {
		return hello{}, err
	}
	proof, err := s.resumption.proof(carrier, roleServer)
	if err != nil {
		return hello{}, err
	}
	if s.link != nil {
		s.loseCarrierLocked(errReplaced)
	}
	h := s.hello()
	h.id, h.proof, h.window = s.resumption.id, proof, s.resumption.window
	h.sendPosition, h.receivePosition = s.out.position, s.received
	return h, nil
}

// forget takes a dead session out.
func (h *Host) forget(s *Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sessions[s.resumption.id] == s {
		delete(h.sessions, s.resumption.id)
	}
}

// boundAway ends the sessions that have waited longest for a carrier, while there are too many.
func (h *Host) boundAway() {
	h.mu.Lock()
	all := make([]*Session, 0, len(h.sessions))
	for _, s := range h.sessions {
		all = append(all, s)
	}
	h.mu.Unlock()
	var oldest *Session
	var oldestSince time.Time
	away := 0
	for _, s := range all {
		s.mu.Lock()
		if s.link == nil && s.err == nil {
			away++
			if oldest == nil || s.lost.since.Before(oldestSince) {
				oldest, oldestSince = s, s.lost.since
			}
		}
		s.mu.Unlock()
	}
	if away > h.cfg.MaxAway {
		oldest.fail(&AbandonedError{Window: time.Since(oldestSince), Err: errTooManyAway})
	}
}

var errTooManyAway = errors.New("too many sessions without a carrier")
