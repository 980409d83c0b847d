package mux

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"culvert/internal/bounds"
)

// HostConfig bounds the sessions of a Host. A zero field means its documented default.
type HostConfig struct {
	// ResumeWindow is how long a session waits for another carrier. Default DefaultResumeWindow (2
	// minutes).
	ResumeWindow time.Duration

	// MaxAway bounds the sessions without a carrier. When there is one more, one of those of the
	// owner that has most of them ends, the one that has waited longest. Default DefaultMaxAway
	// (1,024).
	MaxAway int
}

// Host holds the sessions of a server that can be resumed. Its methods may be called concurrently.
type Host struct {
	cfg HostConfig

	bounding sync.Mutex // held while sessions beyond MaxAway end: each call sees what the last did

	mu       sync.Mutex // never locked while a session's is
	sessions map[sessionID]*Session
}

// NewHost makes a host without sessions.
func NewHost(cfg HostConfig) *Host {
	setDefault(&cfg.ResumeWindow, DefaultResumeWindow)
	setDefault(&cfg.MaxAway, DefaultMaxAway)
	return &Host{cfg: cfg, sessions: make(map[sessionID]*Session)}
}

// Peer is a client that brings a carrier to a Host.
type Peer struct {
	// Identity is the authenticated identity of the client; nobody else can resume its sessions.
	Identity string

	// Owner is whose sessions, and whose memory, are counted together. Identity when empty.
	Owner string

	// Admit, unless it is nil, decides on a new session before the client is answered. The session
	// doesn't run yet, but can be closed. A *RefusedError is what the client is told.
	Admit func(*Session) error
}

// Accept reads a client's hello from a carrier. It gives the carrier to the session of which the
// client proves to be an end, or else starts a new session. The session owns the carrier from here
// on, even when Accept fails.
func (h *Host) Accept(
	ctx context.Context, carrier Carrier, cfg Config, peer Peer,
) (s *Session, resumed bool, err error) {
	cfg = cfg.withDefaults()
	var fresh *Session
	err = exchange(ctx, carrier, cfg.HelloTimeout, errNoHello, func() error {
		offer, err := readHello(carrier, roleClient)
		if err != nil {
			return err
		}
		if s = h.find(carrier, offer, peer.Identity); s != nil {
			resumed, err = s.reattach(carrier, offer)
			if resumed || err != nil {
				return err
			}
		}
		fresh, err = h.start(carrier, cfg, peer, offer)
		s = fresh
		return err
	})
	if err != nil {
		if fresh != nil { // it may have begun just when the time was over
			fresh.fail(err)
		}
		return nil, false, err
	}
	return s, resumed, nil
}

// find returns the session that a hello asks to resume, nil when there is none or the client must
// not have it. The client can't tell the two apart.
func (h *Host) find(carrier Carrier, offer hello, identity string) *Session {
	h.mu.Lock()
	s := h.sessions[offer.id]
	h.mu.Unlock()
	if s == nil || s.resumption.identity != identity ||
		!s.resumption.proves(carrier, roleClient, offer.proof) {
		return nil
	}
	return s
}

// start makes a new session, if the client may have one.
func (h *Host) start(carrier Carrier, cfg Config, peer Peer, offer hello) (*Session, error) {
	s := makeSession(cfg, false)
	s.memory.client = cmp.Or(peer.Owner, peer.Identity)
	var id sessionID
	rand.Read(id[:]) // never fails, see crypto/rand
	if r, err := newResumption(carrier, id, h.cfg.ResumeWindow); err == nil {
		r.identity, r.owner = peer.Identity, cmp.Or(peer.Owner, peer.Identity)
		s.resumption, s.host = r, h
		h.mu.Lock()
		h.sessions[id] = s
		h.mu.Unlock()
	}
	err := s.admit(carrier, peer)
	if err == nil {
		err = s.answer(carrier, offer)
	}
	if err != nil {
		s.fail(err)
		return nil, err
	}
	return s, nil
}

// admit asks whether a client may have a new session, and tells a client that may not.
func (s *Session) admit(carrier Carrier, peer Peer) error {
	if peer.Admit == nil {
		return nil
	}
	err := peer.Admit(s)
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		carrier.WriteRecords(appendFrame(nil, kindClose, 0, codePayload(refused.Code, refused.Text)))
	}
	return err
}

// reattach gives a server's session a new carrier. It returns false when the session has ended
// meanwhile.
func (s *Session) reattach(carrier Carrier, offer hello) (bool, error) {
	s.resuming.Lock()
	defer s.resuming.Unlock()
	mine, err := s.acceptOffer(carrier, offer)
	if err != nil {
		var ended *SessionError
		if errors.As(err, &ended) {
			return false, nil
		}
		return false, err
	}
	if err := carrier.WriteRecords(appendHello(nil, mine)); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.endingLocked(); err != nil {
		return false, &SessionError{err}
	}
	s.countResumptionLocked(offer)
	s.attachLocked(carrier, offer.receivePosition)
	return true, nil
}

// acceptOffer detaches the session's carrier, since the newest wins, and returns the hello that
// answers.
func (s *Session) acceptOffer(carrier Carrier, offer hello) (hello, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.endingLocked(); err != nil {
		return hello{}, &SessionError{err}
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

// forget removes a session that has ended.
func (h *Host) forget(s *Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sessions[s.resumption.id] == s {
		delete(h.sessions, s.resumption.id)
	}
}

// boundAway ends a session when too many are without a carrier: of the owner that has most of them,
// so that nobody's sessions cost the others theirs, the one that has waited longest.
func (h *Host) boundAway() {
	h.bounding.Lock()
	defer h.bounding.Unlock()
	h.mu.Lock()
	if len(h.sessions) <= h.cfg.MaxAway {
		h.mu.Unlock()
		return // without looking at each, since all may lose their carriers at once
	}
	all := make([]*Session, 0, len(h.sessions))
	for _, s := range h.sessions {
		all = append(all, s)
	}
	h.mu.Unlock()
	away := make(map[*Session]time.Time)
	held := make(map[string]int) // by owner
	for _, s := range all {
		s.mu.Lock()
		if s.link == nil && s.err == nil && !s.lost.since.IsZero() {
			away[s] = s.lost.since
			held[s.resumption.owner]++
		}
		s.mu.Unlock()
	}
	if len(away) <= h.cfg.MaxAway {
		return
	}
	var found *Session
	for s, since := range away {
		if found == nil || cmp.Or(
			cmp.Compare(held[s.resumption.owner], held[found.resumption.owner]),
			away[found].Compare(since)) > 0 {
			found = s
		}
	}
	since := away[found]
	if found.abandon(since, &AbandonedError{Window: time.Since(since), Err: errTooManyAway}) {
		found.cfg.Bounds.Refused(bounds.AwaySessions)
	}
}

var errTooManyAway = errors.New("too many sessions without a carrier")
