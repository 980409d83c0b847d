package tunnel

import (
	"math/rand/v2"
	"sync"
	"time"

	"culvert/internal/bounds"

	"golang.org/x/time/rate"
)

// handshakeRate bounds how many handshakes a remote begins in any second, and tells the clients
// beyond that when to come again, each at another time: the clients of a node that was lost come to
// another all at once. All methods may be called concurrently.
type handshakeRate struct {
	perSecond float64        // in the long run
	random    func() float64 // in [0, 1); rand.Float64 except in tests

	mu      sync.Mutex // guards the rest
	limiter *rate.Limiter
	reserve float64   // tokens that only returning clients get
	turn    time.Time // of the client that was refused last

	share    int            // of a source, in the second since counting
	begun    map[source]int // by each source in that second
	counting time.Time
}

// newHandshakeRate returns a bound of most handshakes a second, at least 1.
func newHandshakeRate(most int) *handshakeRate {
	burst := max(1, most/handshakeBurstPart)
	perSecond := float64(most) * (1 - 1./handshakeBurstPart)
	return &handshakeRate{
		perSecond: perSecond,
		random:    rand.Float64,
		limiter:   rate.NewLimiter(rate.Limit(perSecond), burst),
		reserve:   float64(burst / handshakeReservedPart),
		share:     max(1, most/handshakeSourcePart),
		begun:     make(map[source]int),
	}
}

// take reports whether a handshake of a source, which may be invalid, may begin now. If not, it
// returns for how long the client should stay away, in whole seconds, and which bound it is.
// returning means that it may have a session here: such clients go before others.
func (h *handshakeRate) take(
	now time.Time, from source, returning bool,
) (after time.Duration, refused bounds.Bound, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.Sub(h.counting) >= time.Second {
		h.counting = now
		clear(h.begun)
	}
	if h.begun[from] >= h.share { // which is no reason to keep others away for longer
		return time.Second, bounds.SourceHandshakeRate, false
	}
	if returning || h.limiter.TokensAt(now) >= 1+h.reserve {
		if h.limiter.AllowN(now, 1) {
			if from.IsValid() {
				h.begun[from]++
			}
			return 0, 0, true
		}
	}
	if h.turn.Before(now) {
		h.turn = now
	}
	h.turn = h.turn.Add(time.Duration(float64(time.Second) / h.perSecond))
	if h.turn.Sub(now) > handshakeTurnMost {
		h.turn = now.Add(handshakeTurnMost)
		after = time.Duration((0.5 + h.random()/2) * float64(handshakeTurnMost))
	} else {
		after = h.turn.Sub(now) + time.Duration(h.random()*float64(time.Second))
	}
	return max(time.Second, after.Truncate(time.Second)), bounds.HandshakeRate, false
}
