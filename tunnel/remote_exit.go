package tunnel

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"culvert/internal/bounds"
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
	lookups  quantity // in progress
	waiting  quantity // bytes of datagrams that wait for them
	targets  quantity // remembered
	contacts quantity
	bounds   *bounds.Counts
}

func newExitLoad(counts *bounds.Counts) *exitLoad {
	l := &exitLoad{bounds: counts}
	l.lookups.most = maxSessionLookups
	l.waiting.most = maxSessionWaiting
	l.targets.most = maxSessionTargets
	l.contacts.most = maxSessionContacts
	return l
}

// resolution is what is known about the addresses of a target.
type resolution struct {
	addrs   []netip.AddrPort // that the rules allow; none during the lookup
	rules   remoteRules      // that were applied
	expires time.Time        // zero during the lookup
	waiting [][]byte         // datagrams for the target during the lookup
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
// waits for a lookup: meanwhile it keeps datagrams, up to a limit, and returns nothing.
func (e *remoteExit) route(ctx context.Context, target endpoint, p []byte) []netip.AddrPort {
	rules := e.rules()
	e.mu.Lock()
	defer e.mu.Unlock()
	known := e.targets[target]
	switch {
	case known == nil,
		!known.expires.IsZero() && (known.rules != rules || !time.Now().Before(known.expires)):
		if known = e.resolve(ctx, rules, target, p); known == nil {
			return nil
		}
	case known.expires.IsZero():
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
	case !e.load.waiting.take(len(p)):
		e.load.bounds.Refused(bounds.SessionUDPWaiting)
	default:
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
		e.load.bounds.Refused(bounds.SessionUDPLookups)
	}
	return taken
}

// resolve determines the addresses of a target. For a name, it starts a lookup, which sends p when
// it is done. It returns nil when there are too many lookups or targets. Called with the mutex
// held.
func (e *remoteExit) resolve(
	ctx context.Context, rules remoteRules, target endpoint, p []byte,
) *resolution {
	if target.name != "" && !e.takeLookup() {
		return nil
	}
	if !e.makeRoom(target) {
		e.load.bounds.Refused(bounds.SessionUDPTargets)
		if target.name != "" {
			e.load.lookups.leave(1)
		}
		return nil
	}
	result := &resolution{rules: rules}
	e.targets[target] = result
	if target.name == "" {
		result.addrs, result.expires = resolveDatagram(ctx, rules, target)
		return result
	}
	e.keep(result, p)
	e.pending++
	e.lookups.Go(func() {
		addrs, expires := resolveDatagram(ctx, rules, target)
		e.mu.Lock()
		e.pending--
		waiting := result.waiting
		result.addrs, result.expires, result.waiting = addrs, expires, nil
		e.mu.Unlock()
		e.load.lookups.leave(1)
		for _, p := range waiting {
			e.write(addrs, p)
			e.load.waiting.leave(len(p))
		}
	})
	return result
}

// resolveDatagram returns the addresses of a target that the rules allow, and when to ask again.
// Every target of every datagram passes through here.
func resolveDatagram(
	ctx context.Context, rules remoteRules, target endpoint,
) (addrs []netip.AddrPort, expires time.Time) {
	host := target.name
	if host == "" {
		host = target.addr.String()
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	addrs, err := rules.Resolve(ctx, "udp", host, target.port)
	if err != nil {
		return nil, time.Now().Add(noTargetLife)
	}
	return addrs, time.Now().Add(targetLife)
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
		if !known.expires.IsZero() { // otherwise it is being looked up
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
