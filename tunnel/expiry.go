package tunnel

import (
	"time"

	"culvert/certs"
)

// expiryPause returns how long to wait before checking again whether a certificate has expired. The
// clock may be set meanwhile, which timers don't notice, or the machine may sleep.
func expiryPause(cert *certs.Certificate, now time.Time) time.Duration {
	return max(0, min(cert.Expires().Sub(now), expiryCheck))
}
