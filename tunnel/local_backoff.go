package tunnel

import (
	"math/rand/v2"
	"time"
)

// backoff is the pause before an attempt to reconnect. The first attempt starts at once; the pause
// grows with each failure.
type backoff time.Duration

// after adjusts the pause to how long the lost carrier lasted. It resets the pause after one that
// was steady, and shortens it when only the path keeps breaking. When the remote keeps ending the
// session, the pause continues to grow.
func (b *backoff) after(lasted time.Duration, sessionDead bool) {
	switch {
	case lasted >= steadyAfter:
		*b = 0
	case !sessionDead:
		*b = backoff(backoffBroken)
	}
}

// next returns the pause and doubles it. Jitter keeps the clients of a restarted remote from
// reconnecting all at once.
func (b *backoff) next() time.Duration {
	pause := time.Duration(*b)
	*b = backoff(min(max(2*pause, backoffMin), backoffMax))
	if pause == 0 {
		return 0
	}
	return pause/2 + rand.N(pause/2+1)
}
