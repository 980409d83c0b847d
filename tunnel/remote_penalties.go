package tunnel

import (
	"errors"
	"os"
	"sync"
	"time"

	"culvert/protocol"
)

// penalties slow down and then refuse sources whose clients fail to be admitted, in the manner of
// PerSourcePenalties in sshd_config(5). Each failure adds to the time that a source has to wait
// out. While that is short, its clients are only slowed; once it reaches penaltyLimit they are
// refused until it is over. All methods may be called concurrently.
type penalties struct {
	mu      sync.Mutex
	sources map[source]penalty
}

// penalty is what a source has to wait out.
type penalty struct {
	over   time.Time
	refuse bool
}

func newPenalties() *penalties { return &penalties{sources: make(map[source]penalty)} }

// add lengthens the penalty of a source, and reports whether that is why its clients are refused
// from now on.
func (p *penalties) add(from source, d time.Duration) (refused bool) {
	if !from.IsValid() || d == 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	of, ok := p.sources[from]
	if !ok && len(p.sources) >= maxPenalized {
		p.forgetOne()
	}
	if of.over.Before(now) {
		of = penalty{over: now}
	}
	of.over = of.over.Add(d)
	if most := now.Add(maxPenalty); of.over.After(most) {
		of.over = most
	}
	refused = !of.refuse && of.over.Sub(now) >= penaltyLimit
	of.refuse = of.refuse || refused
	p.sources[from] = of
	return refused
}

// forgetOne makes room for a source: of some, it forgets the one whose penalty is over first.
// Called with the mutex held.
func (p *penalties) forgetOne() {
	const looked = 16 // in the random order of a map
	var found source
	n := 0
	for from, of := range p.sources {
		if n == 0 || of.over.Before(p.sources[found].over) {
			found = from
		}
		if n++; n == looked {
			break
		}
	}
	delete(p.sources, found)
}

// of returns how long a source still has to wait, and whether its clients are refused until then.
func (p *penalties) of(from source) (left time.Duration, refuse bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	of, ok := p.sources[from]
	if !ok {
		return 0, false
	}
	if left = time.Until(of.over); left <= 0 {
		delete(p.sources, from)
		return 0, false
	}
	return left, of.refuse
}

// penaltyFor returns the penalty for a client that was not admitted because of err.
func penaltyFor(err error) time.Duration {
	var refused *protocol.RefusedError
	var handshake *protocol.HandshakeError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return penaltyTimeout
	case errors.As(err, &refused): // the client refused the remote
		return penaltyLeft
	case errors.As(err, &handshake) && handshake.Code == protocol.CloseInternal:
		return 0
	case errors.As(err, &handshake) && handshake.Code != 0:
		return penaltyFailed
	}
	return penaltyLeft // or had to make way, or is no WebSocket client after all
}
