package tunnel

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// simPath is a network of the simulation: one between the local and the remote, or the one on which
// either node has its clients or targets. It has the faults of a real one, in virtual time.
type simPath struct {
	mu    sync.Mutex
	rng   *rand.Rand
	delay time.Duration // one way; 0 for the loopback of a machine
	rate  int           // bytes a second and connection; 0 for no limit
	held  [2]bool       // nothing arrives at an end (0: that which dialed) for now
	hole  bool          // connections are silent from their first packet on
	limit *simLimit     // of the next connection; nil for none
	drips bool          // a read gets one byte
	links []*simLink    // those that either end uses
}

// simLink is a TCP connection. Its mutex is locked after that of its path, if both are.
type simLink struct {
	path   *simPath
	mu     sync.Mutex
	cond   *sync.Cond
	delay  time.Duration
	rate   int
	drips  bool
	held   [2]bool
	silent [2]bool // nothing arrives at an end any more
	ends   [2]simEnd
	limit  *simLimit // nil for none, or once it was met
}

// simLimit lets a connection fail once a number of bytes has been sent to an end.
type simLimit struct {
	end, bytes int
	fail       func(l *simLink) // is called with the connection's mutex held
}

func (p *simPath) setLimit(limit *simLimit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limit = limit
}

// simEnd is what one end of a connection receives and has done.
type simEnd struct {
	queue  []simSegment // on the way to this end, or there and unread
	size   int          // bytes in it
	free   time.Time    // when the line to this end has taken what was sent to it
	last   time.Time    // when the last segment arrives
	closed bool         // by this end's user
	shut   bool         // this end sends no more
	linger bool         // SetLinger(0) was called

	readBy, writeBy time.Time // deadlines
}

// simSegment is data, an end of file or a reset.
type simSegment struct {
	data   []byte
	kind   simKind
	arrive time.Time
}

type simKind int

const (
	simData simKind = iota
	simFIN
	simReset
)

// simWindow is how much a connection takes that its peer has not read.
const simWindow = 256 << 10

// simConn is one end of a connection. It does what package net's do on Linux: data that came before
// a reset can be read, and a Close with unread data is a reset.
type simConn struct {
	*simLink
	end         int
	local, peer net.Addr
}

type simAddr string

func (a simAddr) Network() string { return "tcp" }
func (a simAddr) String() string  { return string(a) }

func (a simAddr) tcp() *net.TCPAddr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(string(a)))
}

// connect makes a connection. Of those through a path with a delay, some take much longer.
func (p *simPath) connect(from, to simAddr) (near, far *simConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := &simLink{path: p, delay: p.delay, rate: p.rate, drips: p.drips, held: p.held, limit: p.limit}
	p.limit = nil
	if p.delay > 0 && l.limit == nil {
		l.delay += time.Duration(p.rng.Int64N(int64(p.delay)/4 + 1))
		if p.rng.IntN(12) == 0 {
			l.delay *= time.Duration(2 + p.rng.IntN(15))
		}
	}
	l.silent = [2]bool{p.hole, p.hole}
	l.cond = sync.NewCond(&l.mu)
	p.links = append(p.links, l)
	// The accepting end has the addresses that a listener of TCP reports. The other hasn't, lest it
	// be looked up in the routes of this machine.
	return &simConn{l, 0, from, to}, &simConn{l, 1, to.tcp(), from.tcp()}
}

func (p *simPath) random(n int64) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rng.Int64N(n)
}

// each calls f with every connection that is in use, with its mutex held, and returns their number.
func (p *simPath) each(f func(l *simLink)) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.links = slices.DeleteFunc(p.links, func(l *simLink) bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.ends[0].closed && l.ends[1].closed {
			return true
		}
		f(l)
		l.wakeLocked()
		n++
		return false
	})
	return n
}

// hold holds everything back that is on its way to the ends, or lets it arrive.
func (p *simPath) hold(near, far bool) {
	p.mu.Lock()
	p.held = [2]bool{near, far}
	p.mu.Unlock()
	p.each(func(l *simLink) { l.held = [2]bool{near, far} })
}

// change sets what later connections are like, and those of now.
func (p *simPath) change(delay time.Duration, rate int) {
	p.mu.Lock()
	p.delay, p.rate = delay, rate
	p.mu.Unlock()
	p.each(func(l *simLink) { l.delay, l.rate = delay, rate })
}

// cut resets all connections and loses what is on the way; ends are those that learn of it.
func (p *simPath) cut(ends ...int) {
	p.each(func(l *simLink) {
		for end := range l.ends {
			l.silent[end] = true
		}
		for _, end := range ends {
			e := &l.ends[end]
			e.queue = slices.DeleteFunc(e.queue, func(s simSegment) bool {
				return s.arrive.After(time.Now())
			})
			e.queue = append(e.queue, simSegment{kind: simReset, arrive: time.Now()})
			l.silent[end] = false
		}
	})
}

// silence loses all that is sent to the ends from now on, on the connections of now.
func (p *simPath) silence(ends ...int) {
	p.each(func(l *simLink) {
		for _, end := range ends {
			l.silent[end] = true
		}
	})
}

// setHole sets whether later connections are silent, too.
func (p *simPath) setHole(hole bool) {
	p.mu.Lock()
	p.hole = hole
	p.mu.Unlock()
}

// damage changes a bit of what is on its way to an end, and reports whether there was anything.
func (p *simPath) damage(end int) (done bool) {
	p.each(func(l *simLink) {
		for _, s := range l.ends[end].queue {
			if len(s.data) > 0 && !done {
				s.data[len(s.data)/2] ^= 1
				done = true
			}
		}
	})
	return done
}

// establish waits until a connection is established, or the path refuses it: until a packet and its
// answer have come through, which TCP sends again after pauses that double.
func (p *simPath) establish(ctx context.Context) error {
	for pause := time.Second; ; pause *= 2 {
		p.mu.Lock()
		delay, lost := 2*p.delay, p.hole || p.held[0] || p.held[1]
		p.mu.Unlock()
		wait := delay
		if lost {
			wait = pause
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		if !lost {
			return nil
		}
	}
}

// wakeLocked makes all who wait look again.
func (l *simLink) wakeLocked() { l.cond.Broadcast() }

// wakeAt makes those who wait look again at a time.
func (l *simLink) wakeAt(at time.Time) {
	time.AfterFunc(time.Until(at), func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.wakeLocked()
	})
}

// arrivedLocked reports whether a segment has arrived at an end.
func (l *simLink) arrivedLocked(end int, s simSegment) bool {
	return !l.silent[end] && !l.held[end] && !s.arrive.After(time.Now())
}

// resetLocked reports whether a reset has arrived at an end.
func (l *simLink) resetLocked(end int) bool {
	queue := l.ends[end].queue
	return len(queue) > 0 && queue[len(queue)-1].kind == simReset &&
		l.arrivedLocked(end, queue[len(queue)-1])
}

// resetNowLocked resets an end, once it has received what was sent to it.
func (l *simLink) resetNowLocked(end int) {
	l.queueLocked(end, simSegment{kind: simReset})
}

// sendLocked sends a segment to an end, as far as the connection's limit allows.
func (l *simLink) sendLocked(end int, s simSegment) {
	if l.limit == nil || l.limit.end != end || len(s.data) < l.limit.bytes {
		if l.limit != nil && l.limit.end == end {
			l.limit.bytes -= len(s.data)
		}
		l.queueLocked(end, s)
		return
	}
	limit := l.limit
	l.limit = nil
	if s.data = s.data[:limit.bytes]; len(s.data) > 0 {
		l.queueLocked(end, s)
	}
	limit.fail(l)
}

func (l *simLink) queueLocked(end int, s simSegment) {
	e := &l.ends[end]
	if len(e.queue) > 0 && e.queue[len(e.queue)-1].kind == simReset {
		return
	}
	now := time.Now()
	if e.free.Before(now) {
		e.free = now
	}
	if l.rate > 0 {
		e.free = e.free.Add(time.Duration(len(s.data)) * time.Second / time.Duration(l.rate))
	}
	s.arrive = e.free.Add(l.delay)
	if s.arrive.Before(e.last) {
		s.arrive = e.last
	}
	e.last = s.arrive
	e.queue = append(e.queue, s)
	e.size += len(s.data)
	if s.arrive.After(now) {
		l.wakeAt(s.arrive)
	}
	l.wakeLocked()
}

func simError(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Err: err}
}

var errSimReset = os.NewSyscallError("read", syscall.ECONNRESET)

func (c *simConn) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := &c.ends[c.end]
	for {
		switch {
		case e.closed:
			return 0, simError("read", net.ErrClosed)
		case passed(e.readBy):
			return 0, simError("read", os.ErrDeadlineExceeded)
		case len(e.queue) > 0 && c.arrivedLocked(c.end, e.queue[0]):
			switch head := &e.queue[0]; head.kind {
			case simFIN:
				if len(e.queue) > 1 && c.resetLocked(c.end) {
					return 0, simError("read", errSimReset)
				}
				return 0, io.EOF
			case simReset:
				return 0, simError("read", errSimReset)
			default:
				n := copy(p, head.data)
				if c.drips {
					n = min(n, 1)
				}
				if head.data = head.data[n:]; len(head.data) == 0 {
					e.queue = e.queue[1:]
				}
				e.size -= n
				c.wakeLocked()
				return n, nil
			}
		}
		c.cond.Wait()
	}
}

func (c *simConn) Write(p []byte) (n int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, peer := &c.ends[c.end], &c.ends[1-c.end]
	for {
		switch {
		case e.closed:
			return n, simError("write", net.ErrClosed)
		case e.shut:
			return n, simError("write", os.NewSyscallError("write", syscall.EPIPE))
		case c.resetLocked(c.end):
			return n, simError("write", os.NewSyscallError("write", syscall.ECONNRESET))
		case n == len(p):
			return n, nil
		case passed(e.writeBy):
			return n, simError("write", os.ErrDeadlineExceeded)
		case peer.closed: // what arrives there is answered with a reset
			c.sendLocked(c.end, simSegment{kind: simReset})
			return len(p), nil
		case peer.size < simWindow:
			m := min(len(p)-n, 16<<10)
			c.sendLocked(1-c.end, simSegment{data: slices.Clone(p[n : n+m])})
			n += m
			continue
		}
		c.cond.Wait()
	}
}

func passed(deadline time.Time) bool { return !deadline.IsZero() && !deadline.After(time.Now()) }

func (c *simConn) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := &c.ends[c.end]
	switch {
	case e.closed:
		return simError("close", net.ErrClosed)
	case c.resetLocked(c.end):
		return simError("close", os.NewSyscallError("shutdown", syscall.ENOTCONN))
	case !e.shut:
		e.shut = true
		c.sendLocked(1-c.end, simSegment{kind: simFIN})
	}
	return nil
}

// Close closes the connection. After SetLinger(0), its peer is reset once it has got what was
// written, for which a relay waits before such a Close.
func (c *simConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := &c.ends[c.end]
	if e.closed {
		return simError("close", net.ErrClosed)
	}
	e.closed = true
	switch {
	case e.linger || e.size > 0:
		c.sendLocked(1-c.end, simSegment{kind: simReset})
	case !e.shut:
		c.sendLocked(1-c.end, simSegment{kind: simFIN})
	}
	e.shut, e.size, e.queue = true, 0, nil
	c.wakeLocked()
	return nil
}

func (c *simConn) SetLinger(seconds int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ends[c.end].linger = seconds == 0
	return nil
}

func (c *simConn) setDeadlines(t time.Time, read, write bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := &c.ends[c.end]
	if e.closed {
		return simError("set", net.ErrClosed)
	}
	if read {
		e.readBy = t
	}
	if write {
		e.writeBy = t
	}
	if !t.IsZero() && t.After(time.Now()) {
		c.wakeAt(t)
	}
	c.wakeLocked()
	return nil
}

func (c *simConn) SetDeadline(t time.Time) error      { return c.setDeadlines(t, true, true) }
func (c *simConn) SetReadDeadline(t time.Time) error  { return c.setDeadlines(t, true, false) }
func (c *simConn) SetWriteDeadline(t time.Time) error { return c.setDeadlines(t, false, true) }
func (c *simConn) LocalAddr() net.Addr                { return c.local }
func (c *simConn) RemoteAddr() net.Addr               { return c.peer }

// simListener listens at an address of the simulation.
type simListener struct {
	path    *simPath
	addr    simAddr
	backlog chan net.Conn
	closed  chan struct{}
	close   func()
}

func (p *simPath) listen(addr simAddr) *simListener {
	ln := &simListener{
		path: p, addr: addr, backlog: make(chan net.Conn, 128), closed: make(chan struct{}),
	}
	ln.close = sync.OnceFunc(func() { close(ln.closed) })
	return ln
}

// dial connects to the listener, from an address.
func (ln *simListener) dial(ctx context.Context, from simAddr) (net.Conn, error) {
	if err := ln.path.establish(ctx); err != nil {
		return nil, simError("dial", err)
	}
	refused := simError("dial", os.NewSyscallError("connect", syscall.ECONNREFUSED))
	select {
	case <-ln.closed:
		return nil, refused
	default:
	}
	near, far := ln.path.connect(from, ln.addr)
	select {
	case ln.backlog <- far:
		return near, nil
	default:
		return nil, errors.Join(refused, near.Close(), far.Close())
	}
}

func (ln *simListener) Accept() (net.Conn, error) {
	select {
	case conn := <-ln.backlog:
		return conn, nil
	case <-ln.closed:
		return nil, simError("accept", net.ErrClosed)
	}
}

// Close refuses later connections and resets those that nobody has accepted.
func (ln *simListener) Close() error {
	ln.close()
	for {
		select {
		case conn := <-ln.backlog:
			abort(conn)
		default:
			return nil
		}
	}
}

func (ln *simListener) Addr() net.Addr { return ln.addr }
