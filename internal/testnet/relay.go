package testnet

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// RelayConfig configures a [Relay]. The zero value relays everything at once.
type RelayConfig struct {
	// Rate limits each direction of all connections together, in bytes a second; 0 is no limit.
	Rate int

	// Delay is added to each direction, and twice to the setup of a connection, as by TCP's handshake
	// over such a path.
	Delay time.Duration

	// Idle closes a connection after this long without traffic, as proxies do; 0 is never.
	Idle time.Duration
}

// relayBacklog bounds how many pieces a direction of a connection holds while they are delayed.
const relayBacklog = 4096

// relayPiece is the maximum number of bytes that a relay reads at once.
const relayPiece = 16 << 10

// Relay relays TCP connections to a server, and can cut, silence or freeze them. Its methods may be
// called concurrently.
type Relay struct {
	// IdleClosed receives a value for each connection that was closed for being idle.
	IdleClosed chan struct{}

	cfg     RelayConfig
	address string
	dial    func() (net.Conn, error)
	ctx     context.Context // ends with the test
	down    atomic.Bool
	frozen  gate // of all connections

	mu       sync.Mutex
	pairs    map[*relayPair]struct{}
	allowed  [2]time.Time // when each direction may send again
	accepted int
}

// relayPair is a connection through a relay, by its two sockets.
type relayPair struct {
	ends    [2]*net.TCPConn
	cut     atomic.Bool
	silent  atomic.Bool
	frozen  gate
	traffic chan struct{} // receives a value when bytes arrive; nil without an idle time
}

// StartRelay relays the connections accepted on ln to connections that dial makes, until the test
// ends. Both must be TCP. The relay takes ownership of the listener.
func StartRelay(
	tb testing.TB, ln net.Listener, dial func() (net.Conn, error), cfg RelayConfig,
) *Relay {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &Relay{
		IdleClosed: make(chan struct{}, 1024), cfg: cfg, address: ln.Addr().String(), dial: dial,
		ctx: ctx, pairs: make(map[*relayPair]struct{}),
	}
	Serve(tb, ln, func(conn net.Conn) { r.relay(conn.(*net.TCPConn)) })
	tb.Cleanup(func() { // runs before that of Serve, which waits
		cancel()
		r.Cut()
	})
	return r
}

// RelayTo is [StartRelay] from a free loopback port to a server's address.
func RelayTo(tb testing.TB, server string, cfg RelayConfig) *Relay {
	tb.Helper()
	return StartRelay(tb, Listen(tb), func() (net.Conn, error) { return net.Dial("tcp", server) }, cfg)
}

// Address returns the address that the relay listens on.
func (r *Relay) Address() string { return r.address }

// Accepted returns the number of connections that the relay has accepted so far.
func (r *Relay) Accepted() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.accepted
}

// Cut resets the current connections, and returns their number. Later connections are relayed.
func (r *Relay) Cut() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for p := range r.pairs {
		if p.reset() {
			n++
		}
	}
	return n
}

// Silence drops all further data on the current connections, including their end, and returns the
// number of those that were not silent yet. Later connections are relayed.
func (r *Relay) Silence() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for p := range r.pairs {
		if !p.silent.Swap(true) {
			n++
		}
	}
	return n
}

// gate blocks the callers of pass while it is shut.
type gate struct{ shut atomic.Pointer[chan struct{}] }

// close shuts the gate until open is called.
func (g *gate) close() (open func()) {
	c := make(chan struct{})
	g.shut.Store(&c)
	return func() {
		g.shut.CompareAndSwap(&c, nil)
		close(c)
	}
}

// pass waits until the gate is open, and reports false if ctx is done first.
func (g *gate) pass(ctx context.Context) bool {
	c := g.shut.Load()
	if c == nil {
		return ctx.Err() == nil
	}
	select {
	case <-*c:
		return true
	case <-ctx.Done():
		return false
	}
}

// Freeze makes the relay forward nothing until thaw is called: neither data nor the ends of
// connections. Nothing is lost: what arrives in the meantime waits in the sockets, even on later
// connections.
func (r *Relay) Freeze() (thaw func()) { return r.frozen.close() }

// FreezeConnections is Freeze for the current connections. Later connections are relayed.
func (r *Relay) FreezeConnections() (thaw func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var opens []func()
	for p := range r.pairs {
		opens = append(opens, p.frozen.close())
	}
	return func() {
		for _, open := range opens {
			open()
		}
	}
}

// passes waits until the connection is not frozen, and reports false if the test ends first.
func (r *Relay) passes(p *relayPair) bool { return r.frozen.pass(r.ctx) && p.frozen.pass(r.ctx) }

// SetDown makes the relay drop all data, also on later connections, until it is called with false.
// Dropped data is lost, so the affected connections must be cut.
func (r *Relay) SetDown(down bool) { r.down.Store(down) }

func (r *Relay) relay(client *net.TCPConn) {
	if !r.wait(2 * r.cfg.Delay) {
		return
	}
	server, err := r.dial()
	if err != nil {
		return // which closes the client
	}
	p := &relayPair{ends: [2]*net.TCPConn{client, server.(*net.TCPConn)}}
	defer p.close()
	if !r.add(p) {
		return
	}
	defer r.remove(p)
	var watching sync.WaitGroup
	defer watching.Wait()
	done := make(chan struct{})
	defer close(done)
	if r.cfg.Idle > 0 {
		p.traffic = make(chan struct{}, 1)
		watching.Go(func() { r.closeIdle(p, done) })
	}
	var ways sync.WaitGroup
	for from := range 2 {
		ways.Go(func() { r.copy(p, from) })
	}
	ways.Wait()
}

// closeIdle closes a connection once it has been idle for too long, and returns when it ends.
func (r *Relay) closeIdle(p *relayPair, done <-chan struct{}) {
	idle := time.NewTimer(r.cfg.Idle)
	defer idle.Stop()
	for {
		select {
		case <-p.traffic:
			idle.Reset(r.cfg.Idle)
		case <-idle.C:
			select {
			case <-p.traffic: // it arrived just in time; on a busy machine both are ready
				idle.Reset(r.cfg.Idle)
				continue
			default:
			}
			r.IdleClosed <- struct{}{}
			p.close()
			return
		case <-done:
			return
		}
	}
}

// add registers a connection to be cut. It reports false at the end of the test.
func (r *Relay) add(p *relayPair) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pairs[p] = struct{}{}
	r.accepted++
	return r.ctx.Err() == nil
}

func (r *Relay) remove(p *relayPair) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pairs, p)
}

// copy relays one direction, from the end with the index from to the other one.
func (r *Relay) copy(p *relayPair, from int) {
	type piece struct {
		due  time.Time
		data []byte
	}
	way := make(chan piece, relayBacklog)
	var writing sync.WaitGroup
	writing.Go(func() {
		for next := range way {
			if !r.wait(time.Until(next.due)) || !r.passes(p) || p.silent.Load() || r.down.Load() {
				continue
			}
			p.ends[1-from].Write(next.data) // an error ends the reader's side too
		}
		if r.passes(p) && !p.silent.Load() && !r.down.Load() {
			p.ends[1-from].CloseWrite()
		}
	})
	defer writing.Wait()
	defer close(way)
	for {
		buf := make([]byte, relayPiece)
		n, err := p.ends[from].Read(buf)
		if n > 0 {
			select {
			case p.traffic <- struct{}{}:
			default: // already signalled, or no idle time
			}
			r.wait(r.reserve(from, n))
			r.passes(p)
			way <- piece{time.Now().Add(r.cfg.Delay), buf[:n]}
		}
		if err != nil {
			return
		}
	}
}

// reserve takes n bytes of a direction's rate, and returns how long to wait for them.
func (r *Relay) reserve(direction, n int) time.Duration {
	if r.cfg.Rate == 0 {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if r.allowed[direction].Before(now) {
		r.allowed[direction] = now
	}
	wait := r.allowed[direction].Sub(now)
	takes := time.Duration(n) * time.Second / time.Duration(r.cfg.Rate)
	r.allowed[direction] = r.allowed[direction].Add(takes)
	return wait
}

// wait waits, and reports false if the test ends first.
func (r *Relay) wait(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.ctx.Done():
		return false
	}
}

// reset resets both ends. It reports false if they have been reset before.
func (p *relayPair) reset() bool {
	first := !p.cut.Swap(true)
	for _, end := range p.ends {
		end.SetLinger(0)
	}
	p.close()
	return first
}

func (p *relayPair) close() {
	for _, end := range p.ends {
		end.Close()
	}
}
