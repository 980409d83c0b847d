package tunnel

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"culvert/tunnel/mux"

	"github.com/rs/zerolog"
)

// places bounds how many of something there are at once.
type places chan struct{}

func (p places) take() bool {
	select {
	case p <- struct{}{}:
		return true
	default:
		return false
	}
}

func (p places) leave() { <-p }

// resolver is what serving datagrams needs of the rules for targets, *policy.Rules. Values are
// comparable.
type resolver interface {
	Resolve(ctx context.Context, network, host string, port uint16) ([]netip.AddrPort, error)
	Dial(ctx context.Context, network, address string) (net.Conn, error)
}

// serveDatagrams joins a stream of datagrams to a socket of its own, as the rules that hold at the time allow. The context
// ends with the session, whose places are mine.
func (r *Remote) serveDatagrams(ctx context.Context, stream *mux.Stream, rules func() resolver, mine places, log zerolog.Logger) {
	target := stream.Target().Address
	log = log.With().Str("target", target).Str("kind", "udp").Logger()
	if !mine.take() {
		stream.Refuse(mux.CodeTooManyStreams, "")
		return
	}
	defer mine.leave()
	if !r.exits.take() {
		stream.Refuse(mux.CodeTooManyStreams, "")
		return
	}
	defer r.exits.leave()
	conn, err := openExit(ctx, rules(), target)
	if err != nil {
		code := dialCode(err)
		log.Debug().Err(err).Stringer("code", code).Msg("target not reached")
		stream.Refuse(code, "")
		return
	}
	if err := stream.Confirm(); err != nil {
		conn.Close()
		return
	}
	if target == "" {
		err = newExit(stream, conn, rules).run(ctx)
	} else {
		err = relayDatagrams(ctx, stream, conn)
	}
	log.Debug().Err(err).Msg("stream ended")
}

// openExit opens the socket for a stream: one that is connected to the stream's target, or, when that is empty, one that
// can send anywhere.
func openExit(ctx context.Context, rules resolver, target string) (*net.UDPConn, error) {
	if target == "" {
		return net.ListenUDP("udp", nil)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := rules.Dial(ctx, "udp", target)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}

// relayDatagrams carries datagrams between a stream and a socket that is connected to its target until the stream ends, was
// idle for too long, or ctx is done.
func relayDatagrams(ctx context.Context, stream *mux.Stream, conn *net.UDPConn) error {
	outward := func(p []byte) {
		conn.Write(p) // an error is about the target, as it was a moment ago
	}
	inward := func(p []byte) ([]byte, bool, error) {
		n, err := conn.Read(p)
		return p[:n], true, err
	}
	return newFlow(stream).join(ctx, conn, outward, inward)
}

// join hands the flow's datagrams to outward, and sends what inward reads into a buffer and approves of, until the flow
// ends, inward fails or ctx is done. Then the stream and conn are closed.
func (f *flow) join(ctx context.Context, conn *net.UDPConn, outward func(p []byte), inward func(p []byte) ([]byte, bool, error)) error {
	closeBoth := func() {
		f.stream.Close()
		conn.Close()
	}
	stop := context.AfterFunc(ctx, closeBoth)
	defer stop()
	var reading sync.WaitGroup
	defer reading.Wait()
	defer closeBoth()
	reading.Go(func() {
		defer closeBoth()
		buf := make([]byte, sourceSize+mux.MaxDatagram)
		for {
			p, ok, err := inward(buf)
			switch {
			case err == nil && ok:
				f.send(p)
			case err != nil && !isDatagramError(err):
				return
			}
		}
	})
	return f.receive(outward)
}

// exit is where the datagrams of one association come out: a socket, where its targets are, and whom it has sent to. Only
// they may answer: the socket is no way in for anybody else.
type exit struct {
	*flow
	conn  *net.UDPConn
	rules func() resolver

	lookups sync.WaitGroup

	mu       sync.Mutex // guards all below
	targets  map[endpoint]*resolution
	pending  int // lookups that are under way
	contacts map[netip.Addr]struct{}
}

// resolution is what is known of a target.
type resolution struct {
	addrs   []netip.AddrPort // none when there are none that the rules allow, or none yet
	rules   resolver         // which have decided
	expires time.Time        // zero while the lookup is under way
	waiting [][]byte         // datagrams for the target meanwhile
}

func newExit(stream *mux.Stream, conn *net.UDPConn, rules func() resolver) *exit {
	return &exit{
		flow:     newFlow(stream),
		conn:     conn,
		rules:    rules,
		targets:  make(map[endpoint]*resolution),
		contacts: make(map[netip.Addr]struct{}),
	}
}

func (e *exit) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer e.lookups.Wait()
	defer cancel()
	return e.join(ctx, e.conn, func(p []byte) {
		if target, payload, err := parseEndpoint(p); err == nil {
			e.write(e.route(ctx, target, payload), payload)
		}
	}, e.read)
}

// read reads the next datagram from the socket and puts its source before it. It disapproves of those from strangers.
func (e *exit) read(buf []byte) (p []byte, ok bool, err error) {
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

// route returns where a datagram to a target goes: nowhere when the rules forbid it. It does not wait for a name: what is
// sent to that meanwhile is kept, within bounds, and goes nowhere now.
func (e *exit) route(ctx context.Context, target endpoint, p []byte) []netip.AddrPort {
	rules := e.rules()
	e.mu.Lock()
	defer e.mu.Unlock()
	known := e.targets[target]
	switch {
	case known == nil, !known.expires.IsZero() && (known.rules != rules || !time.Now().Before(known.expires)):
		if known = e.resolve(ctx, rules, target, p); known == nil {
			return nil
		}
	case known.expires.IsZero() && len(known.waiting) < maxWaitingDatagrams:
		known.waiting = append(known.waiting, bytes.Clone(p))
	}
	return known.addrs
}

// resolve learns where a target is. For a name, that is under way when resolve returns, and p waits for it. The result is
// nil when too many are. Called with the mutex held.
func (e *exit) resolve(ctx context.Context, rules resolver, target endpoint, p []byte) *resolution {
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

// resolveDatagram asks the rules where a target is, and says how long that holds. Every target of every datagram comes here.
func resolveDatagram(ctx context.Context, rules resolver, target endpoint) (addrs []netip.AddrPort, expires time.Time) {
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

// forgetTarget makes room for a target. There are more of them than lookups under way.
func (e *exit) forgetTarget() {
	for target, known := range e.targets {
		if !known.expires.IsZero() {
			delete(e.targets, target)
			return
		}
	}
}

// write sends a datagram to the first of the addresses that the system has a way to.
func (e *exit) write(addrs []netip.AddrPort, p []byte) {
	for _, addr := range addrs {
		e.remember(addr.Addr())
		if _, err := e.conn.WriteToUDPAddrPort(p, addr); err == nil {
			return
		}
	}
}

// remember lets a host answer. When there are too many, any other is forgotten until it is sent to again.
func (e *exit) remember(host netip.Addr) {
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
