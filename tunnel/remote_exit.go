package tunnel

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"culvert/tunnel/mux"
)

// remoteExit is where the datagrams of an association leave the tunnel: a socket, the addresses of
// its targets, and the hosts it has sent to. Only those may answer; the socket accepts nothing from
// anybody else.
type remoteExit struct {
	*flow
	conn  *net.UDPConn
	rules func() remoteRules

	lookups sync.WaitGroup

	mu       sync.Mutex // guards all below
	targets  map[endpoint]*resolution
	pending  int // lookups in progress
	contacts map[netip.Addr]struct{}
}

// resolution is what is known about the addresses of a target.
type resolution struct {
	addrs   []netip.AddrPort // that the rules allow; none during the lookup
	rules   remoteRules      // that were applied
	expires time.Time        // zero during the lookup
	waiting [][]byte         // datagrams for the target during the lookup
}

func newRemoteExit(
	datagrams *mux.Flow, conn *net.UDPConn, rules func() remoteRules,
) *remoteExit {
	return &remoteExit{
		flow:     newFlow(datagrams),
		conn:     conn,
		rules:    rules,
		targets:  make(map[endpoint]*resolution),
		contacts: make(map[netip.Addr]struct{}),
	}
}

func (e *remoteExit) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer e.lookups.Wait()
	defer cancel()
	return e.join(ctx, e.conn, func(p []byte) {
		if target, payload, err := parseEndpoint(p); err == nil {
			e.write(e.route(ctx, target, payload), payload)
		}
	}, e.read)
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
	case known.expires.IsZero() && len(known.waiting) < maxWaitingDatagrams:
		known.waiting = append(known.waiting, bytes.Clone(p))
	}
	return known.addrs
}

// resolve determines the addresses of a target. For a name, it starts a lookup, which sends p when
// it is done. It returns nil when there are too many lookups. Called with the mutex held.
func (e *remoteExit) resolve(
	ctx context.Context, rules remoteRules, target endpoint, p []byte,
) *resolution {
	if target.name != "" && e.pending >= maxLookups {
		return nil
	}
	if len(e.targets) >= maxTargets {
		e.forgetTarget()
	}
	result := &resolution{rules: rules}
	e.targets[target] = result
	if target.name == "" {
		result.addrs, result.expires = resolveDatagram(ctx, rules, target)
		return result
	}
	result.waiting = [][]byte{bytes.Clone(p)}
	e.pending++
	e.lookups.Go(func() {
		addrs, expires := resolveDatagram(ctx, rules, target)
		e.mu.Lock()
		e.pending--
		waiting := result.waiting
		result.addrs, result.expires, result.waiting = addrs, expires, nil
		e.mu.Unlock()
		for _, p := range waiting {
			e.write(addrs, p)
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

// forgetTarget makes room for a target. Since maxTargets exceeds maxLookups, some target is not
// being looked up.
func (e *remoteExit) forgetTarget() {
	for target, known := range e.targets {
		if !known.expires.IsZero() {
			delete(e.targets, target)
			return
		}
	}
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
// sent to again.
func (e *remoteExit) remember(host netip.Addr) {
	host = host.WithZone("")
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, known := e.contacts[host]; known {
		return
	}
	if len(e.contacts) >= maxContacts {
		for other := range e.contacts {
			delete(e.contacts, other)
			break
		}
	}
	e.contacts[host] = struct{}{}
}
