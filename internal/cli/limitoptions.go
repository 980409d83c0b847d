package cli

import (
	"time"

	"culvert/internal/cli/flags"
	"culvert/tunnel"
	"culvert/tunnel/mux"
)

// limitOptions bound what clients may use.
type limitOptions struct {
	resumeWindow time.Duration
	drainTimeout time.Duration
	maxAge       time.Duration // of sessions; 0 for any
	maxRate      int           // handshakes a second
	maxSessions  int
	maxStreams   int
	memory       memoryOption
	noSpeed      bool
}

func (o *limitOptions) define(s *flags.Set) {
	s.Group("limits")
	s.Duration(&o.resumeWindow, "resume-window", mux.DefaultResumeWindow,
		"keep the session of a client that lost its connection for `TIME`")
	s.Duration(&o.drainTimeout, "drain-timeout", tunnel.DefaultDrainTimeout,
		"when told to stop, give open streams `TIME` to end")
	s.Duration(&o.maxAge, "max-session-age", 0, "make clients connect again, without a loss of "+
		"streams that take less than --drain-timeout, before a session is older than `TIME`; "+
		"0 for never")
	s.Int(&o.maxRate, "max-handshake-rate", tunnel.DefaultMaxHandshakeRate,
		"begin at most `N` handshakes in a second, and ask other clients to come later")
	s.Int(&o.maxSessions, "max-sessions", tunnel.DefaultMaxSessions,
		"limit concurrent sessions of all clients to `N`")
	s.Int(&o.maxStreams, "max-streams", mux.DefaultMaxStreams,
		"limit concurrent streams per session to `N`")
	o.memory.define(s)
	s.Bool(&o.noSpeed, "no-speed",
		"refuse culvert speed, which sends and receives as fast as the path allows for some seconds")
}

// checkAge refuses an age at which clients would have ever more sessions that drain.
func (o *limitOptions) checkAge() error {
	if o.maxAge == 0 || o.maxAge >= o.drainTimeout {
		return nil
	}
	return &flags.ValueError{
		Flag: "max-session-age", Value: o.maxAge.String(),
		Why:     "it must be 0, or at least --drain-timeout, " + shortDuration(o.drainTimeout),
		Example: "24h",
	}
}
