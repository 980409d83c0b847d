package tunnel

import (
	"sync"
	"time"

	"culvert/certs"
	"culvert/internal/logburst"

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

// limitedLog logs some of many events, which carry how many were left out before. When no more
// event follows, a line of its own reports those left out, two periods later or when it is closed.
type limitedLog struct {
	zerolog.Logger
	limit *logLimit
}

// limitLog returns a log of at most burst events in a period, as far as also, which may be nil,
// agrees. It must be closed.
func limitLog(
	log zerolog.Logger, burst uint32, period time.Duration, also zerolog.Sampler,
) *limitedLog {
	l := newLogLimit(log, burst, period, also)
	return &limitedLog{log.Sample(l).Hook(l), l}
}

// forwardLog returns the log of a forward to a target, about which anybody who reaches the listener
// can cause warnings. It must be closed.
func forwardLog(log zerolog.Logger, target string) *limitedLog {
	return limitLog(log.With().Str("target", target).Logger(), 1, streamWarningsPeriod, nil)
}

// at is WithLevel, except that events below warnings are neither limited nor counted.
func (l *limitedLog) at(level zerolog.Level) *zerolog.Event {
	if level < zerolog.WarnLevel {
		return l.limit.log.WithLevel(level)
	}
	return l.WithLevel(level)
}

// close reports what was left out and not reported yet. Events that are left out later never are.
func (l *limitedLog) close() { l.limit.close() }

// logLimit decides what a limitedLog logs. It is a zerolog.Sampler and a zerolog.Hook.
type logLimit struct {
	log      zerolog.Logger // without the limit
	limit    *logburst.Sampler
	also     zerolog.Sampler // that has to agree; may be nil
	patience time.Duration   // until the events left out are reported although none follows

	mu     sync.Mutex // guards all below
	left   int64      // how many events were left out since the last that was logged
	level  zerolog.Level
	timer  *time.Timer // reports them; nil if there are none
	closed bool
}

func newLogLimit(
	log zerolog.Logger, burst uint32, period time.Duration, also zerolog.Sampler,
) *logLimit {
	return &logLimit{
		log: log, limit: logburst.New(burst, period), also: also, patience: 2 * period,
	}
}

// Sample reports whether an event is logged.
func (l *logLimit) Sample(level zerolog.Level) bool {
	if l.limit.Sample(level) && (l.also == nil || l.also.Sample(level)) {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left++
	l.level = level
	if l.timer == nil && !l.closed {
		l.timer = time.AfterFunc(l.patience, l.report)
	}
	return false
}

// Run adds to an event how many like it were left out.
func (l *logLimit) Run(e *zerolog.Event, _ zerolog.Level, _ string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left > 0 {
		e.Int64("omitted", l.left)
	}
	l.resetLocked()
}

func (l *logLimit) resetLocked() {
	l.left = 0
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
}

// report logs how many events were left out. If the log has no room for that it waits again.
func (l *logLimit) report() {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.timer == nil: // another event has reported them, or close
	case l.also != nil && !l.also.Sample(l.level):
		l.timer = time.AfterFunc(l.patience, l.report)
	default:
		l.reportLocked()
	}
}

func (l *logLimit) reportLocked() {
	if l.left > 0 {
		l.log.WithLevel(l.level).Int64("omitted", l.left).Msg("similar events were left out")
	}
	l.resetLocked()
}

func (l *logLimit) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.reportLocked()
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
