package tunnel

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"culvert/internal/bounds"
	"culvert/tunnel/policy"
)

// remoteExit is where the datagrams of an association leave the tunnel: a socket, the addresses of
// its targets, and the hosts it has sent to. Only those may answer; the socket accepts nothing from
// anybody else.
type remoteExit struct {
	*flow
	conn  *net.UDPConn
	rules func() remoteRules
	load  *exitLoad

	lookups sync.WaitGroup

	mu       sync.Mutex // guards all below
	targets  map[endpoint]*resolution
	pending  int // lookups in progress
	contacts map[netip.Addr]struct{}
}

// exitLoad is what all exits of one client hold together, beyond their sockets.
type exitLoad struct {
	lookups  quantity       // in progress, or waiting for a place
	names    policy.Lookups // the places, also of the client's streams
	waiting  quantity       // bytes of datagrams that wait for them
	targets  quantity       // remembered
	contacts quantity
	bounds   *bounds.Counts
	reserve  reserveFunc

	mu       sync.Mutex
	releases []func() // of the memory for what waits, waitingChunk each
}

// reserveFunc takes memory from the budget until release is called, which is nil if there is none.
type reserveFunc func(bytes int) (release func())

func newExitLoad(
	counts *bounds.Counts, names policy.Lookups, reserve reserveFunc,
) *exitLoad {
	l := &exitLoad{names: names, bounds: counts, reserve: reserve}
	l.lookups.most = maxClientLookups
	l.waiting.most = maxClientWaiting
	l.targets.most = maxClientTargets
	l.contacts.most = maxClientContacts
	return l
}

// takeWaiting takes room for a datagram that waits, and reports whether there was some.
func (l *exitLoad) takeWaiting(size int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.waiting.take(size) {
		l.bounds.Refused(bounds.ClientUDPWaiting)
		return false
	}
	if l.waiting.taken.Load() <= int64(len(l.releases)*waitingChunk) {
		return true
	}
	release := l.reserve(waitingChunk)
	if release == nil {
		l.bounds.Refused(bounds.Memory)
		l.waiting.leave(size)
		return false
	}
	l.releases = append(l.releases, release)
	return true
}

// leaveWaiting gives the room of a datagram back.
func (l *exitLoad) leaveWaiting(size int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting.leave(size)
	for n := len(l.releases) - 1; n >= 0 && l.waiting.taken.Load() <= int64(n*waitingChunk); n-- {
		l.releases[n]()
		l.releases = l.releases[:n]
	}
}

// exitLookup is the place of a lookup of an exit, which has been taken.
type exitLookup struct {
	load *exitLoad
	used bool // the lookup gives it back
}

// Take implements policy.Lookups.
func (l *exitLookup) Take(ctx context.Context) (leave func(), err error) {
	leaveNames, err := l.load.names.Take(ctx)
	if err != nil {
		return nil, err
	}
	l.used = true
	return func() {
		leaveNames()
		l.load.lookups.leave(1)
	}, nil
}

// end gives the place back if there was nothing to look up.
func (l *exitLookup) end() {
	if !l.used {
		l.load.lookups.leave(1)
	}
}

// resolution is what is known about the addresses of a target.
type resolution struct {
	rules   remoteRules      // that were applied; others need another resolution
	addrs   []netip.AddrPort // that the rules allow; those of before during a lookup
	expires time.Time        // when to look up again
	pending bool             // a lookup is in progress
	waiting [][]byte         // datagrams for the target meanwhile, when it has no addresses
}

func newRemoteExit(
	datagrams *flow, conn *net.UDPConn, rules func() remoteRules, load *exitLoad,
) *remoteExit {
	return &remoteExit{
		flow:     datagrams,
		conn:     conn,
		rules:    rules,
		load:     load,
		targets:  make(map[endpoint]*resolution),
		contacts: make(map[netip.Addr]struct{}),
	}
}

func (e *remoteExit) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer e.leave()
	defer e.lookups.Wait()
	defer cancel()
	return e.join(ctx, e.conn, func(p []byte) {
		if target, payload, err := parseEndpoint(p); err == nil {
			e.write(e.route(ctx, target, payload), payload)
		}
	}, e.read)
}

// leave gives back what the exit remembers. No lookup may be in progress.
func (e *remoteExit) leave() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.load.targets.leave(len(e.targets))
	e.load.contacts.leave(len(e.contacts))
	clear(e.targets)
	clear(e.contacts)
}

// read reads the next datagram from the socket and puts its source before it. ok is false for one
// from a stranger.
func (e *remoteExit) read(buf []byte) (p []byte, ok bool, err error) {
	n, from, err := e.conn.ReadFromUDPAddrPort(buf[sourceSize:])
	if err != nil {
		return nil, false, err
	}
	source := endpoint{addr: from.Addr().Unmap().WithZone(""), port: from.Port()}
	e.mu.Lock()
	_, ok = e.contacts[source.addr]
	e.mu.Unlock()
	start := sourceSize - source.size()
	source.append(buf[start:start])
	return buf[start : sourceSize+n], ok, nil
}

// route returns where to send a datagram for a target, nothing when the rules forbid it. It never
// waits for a lookup: meanwhile it returns what was known before. When that is nothing, it keeps
// datagrams, up to a limit.
func (e *remoteExit) route(ctx context.Context, target endpoint, p []byte) []netip.AddrPort {
	rules := e.rules()
	e.mu.Lock()
	defer e.mu.Unlock()
	known := e.targets[target]
	if known != nil && known.rules != rules {
		known = nil // it may have what is forbidden now
	}
	if known == nil || !known.pending && !time.Now().Before(known.expires) {
		if known = e.resolve(ctx, rules, target, known); known == nil {
			return nil
		}
	}
	if known.pending && known.addrs == nil {
		e.keep(known, p)
	}
	return known.addrs
}

// keep keeps a datagram until the lookup of its target is done, or drops it. Called with the mutex
// held.
func (e *remoteExit) keep(known *resolution, p []byte) {
	switch {
	case len(known.waiting) >= maxWaitingDatagrams:
		e.load.bounds.Refused(bounds.UDPWaiting)
	case e.load.takeWaiting(len(p)):
		known.waiting = append(known.waiting, bytes.Clone(p))
	}
}

// takeLookup takes a place for a lookup, and reports whether there was one. Called with the mutex
// held.
func (e *remoteExit) takeLookup() bool {
	if e.pending >= maxLookups {
		e.load.bounds.Refused(bounds.UDPLookups)
		return false
	}
	taken := e.load.lookups.take(1)
	if !taken {
		e.load.bounds.Refused(bounds.ClientUDPLookups)
	}
	return taken
}

// resolve determines the addresses of a target, of which known is what the same rules have given
// before, or nil. For a name, it starts a lookup, which sends what waits for it when it is done.
// When there are too many lookups or targets, what is known stays as it is. Called with the mutex
// held.
func (e *remoteExit) resolve(
	ctx context.Context, rules remoteRules, target endpoint, known *resolution,
) *resolution {
	if target.name != "" && !e.takeLookup() {
		if known != nil && known.addrs != nil {
			known.expires = time.Now().Add(noTargetLife)
		}
		return known
	}
	if !e.makeRoom(target) {
		e.load.bounds.Refused(bounds.ClientUDPTargets)
		if target.name != "" {
			e.load.lookups.leave(1)
		}
		return nil
	}
	if known == nil {
		known = &resolution{rules: rules}
		e.targets[target] = known
	}
	if target.name == "" {
		known.update(resolveDatagram(ctx, rules, target))
		return known
	}
	known.pending = true
	e.pending++
	e.lookups.Go(func() {
		place := &exitLookup{load: e.load}
		addrs, err := resolveDatagram(policy.WithLookups(ctx, place), rules, target)
		place.end()
		e.finish(known, addrs, err)
	})
	return known
}

// finish ends a lookup and sends what waits for it, unless other rules hold by now.
func (e *remoteExit) finish(known *resolution, addrs []netip.AddrPort, err error) {
	current := e.rules() == known.rules
	e.mu.Lock()
	e.pending--
	known.update(addrs, err)
	addrs, waiting := known.addrs, known.waiting
	known.pending, known.waiting = false, nil
	e.mu.Unlock()
	for _, p := range waiting {
		if current {
			e.write(addrs, p)
		}
		e.load.leaveWaiting(len(p))
	}
}

// update takes the result of a lookup. Those addresses of before that are still there stay the
// first, so that a running flow keeps its server when the answers rotate. All stay when the
// resolver fails.
func (known *resolution) update(addrs []netip.AddrPort, err error) {
	known.expires = time.Now().Add(noTargetLife)
	var dns *net.DNSError
	switch {
	case err == nil:
		place := func(addr netip.AddrPort) int {
			if i := slices.Index(known.addrs, addr); i >= 0 {
				return i
			}
			return len(known.addrs)
		}
		slices.SortStableFunc(addrs, func(a, b netip.AddrPort) int { return place(a) - place(b) })
		known.addrs, known.expires = addrs, time.Now().Add(targetLife)
	case errors.Is(err, policy.ErrNotAllowed), errors.As(err, &dns) && dns.IsNotFound:
		known.addrs = nil
	}
}

// resolveDatagram returns the addresses of a target that the rules allow. Every target of every
// datagram passes through here.
func resolveDatagram(
	ctx context.Context, rules remoteRules, target endpoint,
) ([]netip.AddrPort, error) {
	host := target.name
	if host == "" {
		host = target.addr.String()
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	addrs, err := rules.Resolve(ctx, "udp", host, target.port)
	// Most services of this machine listen at 127.0.0.1, and few at ::1 alone. The exit's socket,
	// which is not connected, is not told where nobody listens.
	here := netip.AddrPortFrom(netip.IPv6Loopback(), target.port)
	if i := slices.Index(addrs, here); i >= 0 {
		addrs = append(slices.Delete(addrs, i, i+1), here)
	}
	return addrs, err
}

// makeRoom makes room to remember a target, if need be in place of another, and reports whether
// there is some. Called with the mutex held.
func (e *remoteExit) makeRoom(target endpoint) bool {
	if _, known := e.targets[target]; known {
		return true
	}
	if len(e.targets) < maxTargets && e.load.targets.take(1) {
		return true
	}
	for other, known := range e.targets {
		if !known.pending {
			delete(e.targets, other)
			return true
		}
	}
	return false
}

// write sends a datagram to the first of the addresses to which the system has a route.
func (e *remoteExit) write(addrs []netip.AddrPort, p []byte) {
	for _, addr := range addrs {
		e.remember(addr.Addr())
		if _, err := e.conn.WriteToUDPAddrPort(p, addr); err == nil {
			return
		}
	}
}

// remember permits a host to answer. When there are too many, it forgets another one until that is
// sent to again; an exit that has none then gets no answers from the host.
func (e *remoteExit) remember(host netip.Addr) {
	host = host.WithZone("")
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, known := e.contacts[host]; known {
		return
	}
	if len(e.contacts) < maxContacts && e.load.contacts.take(1) {
		e.contacts[host] = struct{}{}
		return
	}
	for other := range e.contacts {
		delete(e.contacts, other)
		e.contacts[host] = struct{}{}
		return
	}
}
