package tunnel

import (
	"math/rand/v2"
	"time"
)

// backoff is the pause before an attempt to reconnect. The first attempt comes at once; the pause grows with every one that
// fails.
type backoff time.Duration

// after begins anew when a carrier that stood for some time was lost. A path that keeps breaking is tried again soon. A
// remote that keeps ending the session is not: there the pause goes on growing.
func (b *backoff) after(lasted time.Duration, sessionDead bool) {
	switch {
	case lasted >= steadyAfter:
		*b = 0
	case !sessionDead:
		*b = backoff(backoffBroken)
	}
}

// next returns the pause, with jitter so that the clients of a remote that restarts don't all come at once, and doubles it.
func (b *backoff) next() time.Duration {
	pause := time.Duration(*b)
	*b = backoff(min(max(2*pause, backoffMin), backoffMax))
	if pause == 0 {
		return 0
	}
	return pause/2 + rand.N(pause/2+1)
}
