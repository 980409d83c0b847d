package netfault

import (
	"net"
	"sync"
	"time"
)

// acceptPauseMin and acceptPauseMax bound the pause after accepting has failed. It doubles from one
// failure to the next.
const (
	acceptPauseMin = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

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
