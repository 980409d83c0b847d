package tunnel

import (
	"math/rand/v2"
	"time"
)

// backoff is the pause before an attempt to connect. It grows with each attempt, until a carrier
// shows that the path works.
type backoff struct {
	pause time.Duration // before the next attempt, without jitter
	asked time.Duration // by the server; the next pause is not shorter
	most  time.Duration // that it grows to; 0 means backoffMax

	jitter func(time.Duration) time.Duration // rand.N except in tests; nil means that, too
}

// lost adjusts the pause to the carrier that was lost: how long it lasted, and whether it carried
// data, which shows that the path is of use even if it breaks often. When the remote ended the
// session with it, data is no sign that the next one would last.
func (b *backoff) lost(lasted time.Duration, carried, sessionDead bool) {
	switch {
	case lasted >= steadyAfter:
		b.pause = 0
	case carried && !sessionDead:
		b.pause = backoffBroken
	}
}

// reset lets the next attempt start at once.
func (b *backoff) reset() { b.pause, b.asked = 0, 0 }

// upcoming returns the longest that the next pause can be.
func (b *backoff) upcoming() time.Duration { return max(b.pause, b.asked) }

// next returns the pause and doubles it. Jitter keeps the clients of a restarted remote from
// reconnecting all at once.
func (b *backoff) next() time.Duration {
	pause, asked := b.pause, b.asked
	most := b.most
	if most == 0 {
		most = backoffMax
	}
	jitter := b.jitter
	if jitter == nil {
		jitter = rand.N[time.Duration]
	}
	b.pause, b.asked = min(max(2*pause, backoffMin), most), 0
	if pause > 0 {
		pause = pause/2 + jitter(pause/2+1)
	}
	if pause < asked {
		return asked + jitter(askedJitter)
	}
	return pause
}
