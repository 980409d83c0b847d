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

	mu     sync.Mutex
	open   chan struct{} // closed while connections are accepted; the mutex guards the variable
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
		conn, err := e.Listener.Accept()
		switch {
		case err == nil:
			return conn, nil
		case errors.Is(err, os.ErrDeadlineExceeded): // of pause
		case e.isOpen():
			return nil, err
		}
	}
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

// pause stops accepting.
func (e *entrance) pause() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.open = make(chan struct{})
	e.setDeadline(time.Unix(1, 0))
}

// resume undoes pause.
func (e *entrance) resume() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.setDeadline(time.Time{})
	close(e.open)
}

func (e *entrance) setDeadline(t time.Time) {
	if ln, ok := e.Listener.(interface{ SetDeadline(time.Time) error }); ok {
		ln.SetDeadline(t)
	}
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
