package tunnel

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// entrance is a listener that can stop accepting while its connections wait in the kernel, and
// leave them to another process.
type entrance struct {
	net.Listener

	accepting sync.Mutex // held while the listener accepts

	mu     sync.Mutex
	open   chan struct{} // closed while connections are accepted; mu guards the variable
	once   sync.Once
	closed chan struct{}
}

func newEntrance(ln net.Listener) *entrance {
	e := &entrance{Listener: ln, open: make(chan struct{}), closed: make(chan struct{})}
	close(e.open)
	return e
}

// Accept implements net.Listener.
func (e *entrance) Accept() (net.Conn, error) {
	for {
		e.mu.Lock()
		open := e.open
		e.mu.Unlock()
		select {
		case <-open:
		case <-e.closed:
			return nil, net.ErrClosed
		}
		conn, err := e.acceptOpen()
		switch {
		case err == nil:
			return conn, nil
		case errors.Is(err, os.ErrDeadlineExceeded): // of pause
		case e.isOpen():
			return nil, err
		}
	}
}

// acceptOpen accepts a connection unless pause was called.
func (e *entrance) acceptOpen() (net.Conn, error) {
	e.accepting.Lock()
	defer e.accepting.Unlock()
	if !e.isOpen() {
		return nil, os.ErrDeadlineExceeded
	}
	return e.Listener.Accept()
}

func (e *entrance) isOpen() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case <-e.open:
		return true
	default:
		return false
	}
}

// pause stops accepting. Connections that are made after it has returned are left in the kernel.
func (e *entrance) pause() {
	e.mu.Lock()
	e.open = make(chan struct{})
	ends := e.setDeadline(time.Unix(1, 0))
	e.mu.Unlock()
	if ends {
		e.accepting.Lock() // an Accept that was under way has returned
		defer e.accepting.Unlock()
	}
}

// resume undoes pause.
func (e *entrance) resume() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.setDeadline(time.Time{})
	close(e.open)
}

// setDeadline sets the time at which Accept returns, and reports whether the listener has one.
func (e *entrance) setDeadline(t time.Time) bool {
	ln, ok := e.Listener.(interface{ SetDeadline(time.Time) error })
	return ok && ln.SetDeadline(t) == nil
}

// leave closes the listener, which another process has, after pause. Accept goes on waiting until
// Close. The file of a unix socket stays.
func (e *entrance) leave() {
	if ln, ok := e.Listener.(interface{ KeepFile(bool) }); ok {
		ln.KeepFile(true)
	}
	e.Listener.Close()
}

// Close implements net.Listener.
func (e *entrance) Close() error {
	e.once.Do(func() { close(e.closed) })
	return e.Listener.Close()
}
