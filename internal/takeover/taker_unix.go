//go:build unix

package takeover

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Taker is the new process. All methods may be called concurrently after Follow.
type Taker struct {
	channel
	Offer Offer
	Files []*os.File // of the listeners, in the order of Offer.Listen; the caller closes them

	claim    func(pair uint64) bool
	released chan struct{} // closed once the old process has given up what this one needs
	done     chan struct{} // closed when the old process has ended, or the Taker is closed

	mu     sync.Mutex // guards all below
	routes map[string]struct{}
	report func(name string, here bool) // of routes; may be nil
	closed bool
	relays map[*relay]struct{}

	working sync.WaitGroup
}

// Take begins to take over from the process at the other end of a connection. The caller closes the
// Taker.
func Take(conn *net.UnixConn) (*Taker, error) {
	t := &Taker{
		channel: channel{conn: conn}, released: make(chan struct{}), done: make(chan struct{}),
		routes: make(map[string]struct{}), relays: make(map[*relay]struct{}),
	}
	m, err := t.expect(sockets)
	if err == nil {
		if err = m.decode(&t.Offer); err == nil &&
			(t.Offer.Version != Version || len(m.files) != len(t.Offer.Listen)) {
			err = errProtocol
		}
	}
	if err != nil {
		m.close()
		conn.Close()
		return nil, err
	}
	t.Files = m.files
	return t, nil
}

// Begin makes the old process stop accepting, and returns its state. Until Serving, clients wait.
func (t *Taker) Begin() (s State, err error) {
	if err := t.send(begin, nil); err != nil {
		return s, err
	}
	m, err := t.expect(stateOf)
	if err != nil {
		return s, err
	}
	defer m.close()
	if err := m.decode(&s); err != nil {
		return s, err
	}
	for _, name := range s.Routes {
		t.routes[name] = struct{}{}
	}
	return s, nil
}

// Follow answers the claims of the old process from now on, until that has ended or Close is
// called.
func (t *Taker) Follow(claim func(pair uint64) bool) {
	t.claim = claim
	t.working.Go(func() {
		defer close(t.done)
		for t.step() == nil {
		}
		t.forgetRoutes()
	})
}

// forgetRoutes notes that the sessions of the old process have ended with it.
func (t *Taker) forgetRoutes() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name := range t.routes {
		if t.report != nil {
			t.report(name, false)
		}
	}
	clear(t.routes)
}

// Serving tells the old process that this one accepts, and waits until it has given up what this
// one needs.
func (t *Taker) Serving() error {
	if err := t.send(serving, nil); err != nil {
		return err
	}
	timeout := time.NewTimer(stepTimeout)
	defer timeout.Stop()
	select {
	case <-t.released:
		return nil
	case <-t.done:
		return io.ErrUnexpectedEOF
	case <-timeout.C:
		return os.ErrDeadlineExceeded
	}
}

// Done is closed once the old process has ended.
func (t *Taker) Done() <-chan struct{} { return t.done }

// step handles a message.
func (t *Taker) step() error {
	m, err := t.receive()
	if err != nil {
		return err
	}
	defer m.close()
	switch m.kind {
	case released:
		select {
		case <-t.released:
			return errProtocol
		default:
			close(t.released)
			return nil
		}
	case claim:
		var c Claim
		if err := m.decode(&c); err != nil {
			return err
		}
		return t.send(answer, Answer{c.ID, t.claim(c.Pair)})
	case route:
		var r Route
		if err := m.decode(&r); err != nil {
			return err
		}
		t.note(r)
		return nil
	}
	return errProtocol
}

func (t *Taker) note(r Route) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r.Here {
		t.routes[r.Name] = struct{}{}
	} else {
		delete(t.routes, r.Name)
	}
	if t.report != nil {
		t.report(r.Name, r.Here)
	}
}

// Owns reports whether the old process has a session.
func (t *Taker) Owns(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, here := t.routes[name]
	return here
}

// Routes returns the sessions of the old process, and reports later changes. Report is called with
// a lock held.
func (t *Taker) Routes(report func(name string, here bool)) (names []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.report = report
	for name := range t.routes {
		names = append(names, name)
	}
	return names
}

// Pass passes a connection to the old process. Of one that is no socket, such as one with TLS, the
// bytes are relayed.
func (t *Taker) Pass(conn net.Conn, c Conn) error {
	if socket, ok := conn.(interface{ File() (*os.File, error) }); ok {
		defer conn.Close() // the other process has it
		file, err := socket.File()
		if err != nil {
			return err
		}
		defer file.Close()
		return t.send(passed, c, file)
	}
	near, far, err := socketPair()
	if err != nil {
		conn.Close()
		return err
	}
	defer far.Close()
	if err = t.send(passed, c, far); err == nil {
		err = t.relay(conn, near)
	}
	if err != nil {
		conn.Close()
		near.Close()
	}
	return err
}

// socketPair returns the ends of a connection, of which one is for another process.
func socketPair() (near net.Conn, far *os.File, err error) {
	syscall.ForkLock.RLock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	file := os.NewFile(uintptr(fds[0]), "relay")
	defer file.Close()
	far = os.NewFile(uintptr(fds[1]), "relay")
	if near, err = net.FileConn(file); err != nil {
		far.Close()
	}
	return near, far, err
}

// relay is a connection whose bytes go to the old process.
type relay struct{ near, far net.Conn }

// relay copies in both directions until both have ended.
func (t *Taker) relay(near, far net.Conn) error {
	r := &relay{near, far}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return net.ErrClosed
	}
	t.relays[r] = struct{}{}
	t.working.Go(func() {
		r.run()
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.relays, r)
	})
	return nil
}

func (r *relay) run() {
	defer r.close()
	var copying sync.WaitGroup
	for _, way := range []struct{ to, from net.Conn }{{r.near, r.far}, {r.far, r.near}} {
		copying.Go(func() {
			if _, err := io.Copy(way.to, way.from); err != nil {
				r.close() // a reset is no end of file
				return
			}
			if half, ok := way.to.(interface{ CloseWrite() error }); ok {
				half.CloseWrite()
			}
		})
	}
	copying.Wait()
}

func (r *relay) close() {
	r.near.Close()
	r.far.Close()
}

// Close ends what the Taker does. Connections that are relayed are cut.
func (t *Taker) Close() {
	t.conn.Close()
	t.mu.Lock()
	t.closed = true
	for r := range t.relays {
		r.close()
	}
	t.mu.Unlock()
	for _, file := range t.Files {
		file.Close() // again, if the caller has closed it
	}
	t.working.Wait()
}
