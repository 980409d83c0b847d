package tunnel

import (
	"sync/atomic"
	"time"

	"culvert/certs"

	"github.com/rs/zerolog"
)

// identify adds the fields about a client: its key, and the comment of that in the authorized keys.
func (a *remoteAccess) identify(fields zerolog.Context, client certs.PublicKey) zerolog.Context {
	fields = fields.Stringer("key", client)
	if name := a.commentOf(client); name != "" {
		fields = fields.Str("name", name)
	}
	return fields
}

// sessionLog returns the logger for a session. Called with the remote's mutex held.
func (r *Remote) sessionLog(a *admission) zerolog.Logger {
	fields := r.cfg.Log.With()
	if a.name != "" {
		fields = fields.Str("session", a.name)
	}
	return r.access.identify(fields, a.peer.Key).Logger()
}

// refusedKeyError is why a client whose key it has proven is not admitted.
type refusedKeyError struct {
	key certs.PublicKey
	err error
}

func (e *refusedKeyError) Error() string { return e.err.Error() }

func (e *refusedKeyError) Unwrap() error { return e.err }

// limitedLog lets through some of many events, and makes them carry how many were left out before.
// It is a zerolog.Sampler and a zerolog.Hook.
type limitedLog struct {
	limit *zerolog.BurstSampler
	also  zerolog.Sampler // that has to agree; may be nil
	left  atomic.Int64
}

// limitLog returns a logger of at most burst events in a period, as far as also, which may be nil,
// agrees.
func limitLog(
	log zerolog.Logger, burst uint32, period time.Duration, also zerolog.Sampler,
) zerolog.Logger {
	l := newLimitedLog(burst, period, also)
	return log.Sample(l).Hook(l)
}

func newLimitedLog(burst uint32, period time.Duration, also zerolog.Sampler) *limitedLog {
	return &limitedLog{limit: &zerolog.BurstSampler{Burst: burst, Period: period}, also: also}
}

// Sample reports whether an event is logged.
func (l *limitedLog) Sample(level zerolog.Level) bool {
	if l.limit.Sample(level) && (l.also == nil || l.also.Sample(level)) {
		return true
	}
	l.left.Add(1)
	return false
}

// Run adds to an event how many like it were left out.
func (l *limitedLog) Run(e *zerolog.Event, _ zerolog.Level, _ string) {
	if n := l.left.Swap(0); n > 0 {
		e.Int64("omitted", n)
	}
}

// shortTime rounds a duration that was measured for people: to three digits, or a tenth of a
// second.
func shortTime(d time.Duration) time.Duration {
	for unit := time.Microsecond; unit < 100*time.Millisecond; unit *= 10 {
		if d < 1000*unit {
			return d.Round(unit)
		}
	}
	return d.Round(100 * time.Millisecond)
}
