package netfault

import (
	"net"
	"sync"
	"time"

	"culvert/internal/logburst"

	"github.com/rs/zerolog"
)

// acceptPauseMin and acceptPauseMax bound the pause after accepting has failed. It doubles from one
// failure to the next.
const (
	acceptPauseMin = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

// pauseLogPeriod is how long LogPauses logs nothing after a line.
const pauseLogPeriod = time.Minute

// Listener is a listener whose Accept returns only when there is a connection or never will be:
// after a temporary error it pauses and tries again.
type Listener struct {
	net.Listener
	failed func(err error, pause time.Duration)
	once   sync.Once
	closed chan struct{}
	err    error // of closing
}

// NewListener returns a Listener that takes its connections from ln. It calls failed before each
// pause, when that isn't nil.
func NewListener(ln net.Listener, failed func(err error, pause time.Duration)) *Listener {
	return &Listener{Listener: ln, failed: failed, closed: make(chan struct{})}
}

// LogPauses returns a function for NewListener that logs when connections begin to wait, and no
// more than once in pauseLogPeriod: a listener that is out of descriptors fails every second.
func LogPauses(log zerolog.Logger) func(err error, pause time.Duration) {
	log = log.Sample(logburst.New(1, pauseLogPeriod))
	return func(err error, _ time.Duration) {
		event := log.Warn().Err(Cause(err))
		if Exhausted(err) {
			event = event.Str("hint", "raise the limit of open files, such as with ulimit -n")
		}
		event.Msg("connections can't be accepted: they wait")
	}
}

// Accept waits for the next connection. An error is final; it is net.ErrClosed after Close.
func (l *Listener) Accept() (net.Conn, error) {
	pause := acceptPauseMin
	for {
		conn, err := l.Listener.Accept()
		if err == nil || !Temporary(err) {
			return conn, err
		}
		if l.failed != nil {
			l.failed(err, pause)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-l.closed:
			timer.Stop()
			return nil, net.ErrClosed
		}
		pause = min(2*pause, acceptPauseMax)
	}
}

// Close closes the listener and ends Accept. The address is free when any call of Close returns,
// not only the first.
func (l *Listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.err = l.Listener.Close()
	})
	return l.err
}
