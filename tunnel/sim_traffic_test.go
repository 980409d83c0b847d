package tunnel

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"culvert/tunnel/mux"
)

// simPattern is the content of all transfers, each of which begins at its own offset. Its length is
// prime, so that a piece that is lost or repeated shifts what follows.
var simPattern = func() []byte {
	b := make([]byte, 65521)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}()

// simExchange is a connection through the tunnel. Either side sends its content and then closes its
// half, or resets the connection.
type simExchange struct {
	id    uint64
	door  string
	began time.Time
	state atomic.Int32  // one of those below
	ends  [2]simEndPlan // of the client and of the target
}

// States of an exchange.
const (
	simOpening = iota
	simServed  // it has reached the target
	simGivenUp // by the client
)

// simEndPlan is what one end of an exchange does, and what it has seen. The rest is valid once done
// is closed.
type simEndPlan struct {
	size   int           // bytes to send
	pauses int           // between pieces
	pause  time.Duration // that long
	slow   time.Duration // between reads
	resets bool          // after it has sent all

	done    chan struct{}
	sent    int
	sendErr error
	got     int
	readErr error // io.EOF for a clean end
	wrong   bool  // content was not what the peer sent
}

// simGreeting is what the target says first, so that the client knows that it is connected.
const simGreeting = 'g'

// content returns the next bytes that an end sends after an offset, at most n.
func (x *simExchange) content(end, offset, n int) []byte {
	start := (int(x.id%65521)*31 + end*17 + offset) % len(simPattern)
	return simPattern[start:min(len(simPattern), start+n)]
}

// run does what an end does, and closes the connection. The deadline bounds all of it.
func (x *simExchange) run(end int, conn net.Conn) {
	plan := &x.ends[end]
	defer close(plan.done)
	conn.SetDeadline(x.began.Add(simExchangeTime))
	var sending sync.WaitGroup
	sending.Go(func() { plan.sent, plan.sendErr = x.send(end, conn) })
	plan.got, plan.readErr = x.receive(end, conn)
	if plan.readErr != io.EOF {
		abort(conn)
	}
	sending.Wait()
	conn.Close()
}

// simExchangeTime bounds an exchange, which the slowest path allows by far.
const simExchangeTime = 20 * time.Minute

// send sends what an end has to send, and then its end.
func (x *simExchange) send(end int, conn net.Conn) (sent int, err error) {
	plan := &x.ends[end]
	pieces := plan.pauses + 1
	for piece := range pieces {
		until := plan.size * (piece + 1) / pieces
		for sent < until && err == nil {
			var n int
			n, err = conn.Write(x.content(end, sent, min(until-sent, 32<<10)))
			sent += n
		}
		if err != nil {
			return sent, err
		}
		if piece < pieces-1 {
			time.Sleep(plan.pause) // synctest
		}
	}
	if plan.resets {
		abort(conn)
		return sent, nil
	}
	return sent, closeWrite(conn)
}

// receive reads until the end and compares.
func (x *simExchange) receive(end int, conn net.Conn) (got int, err error) {
	plan := &x.ends[end]
	buf := make([]byte, 32<<10)
	for {
		n, err := conn.Read(buf)
		for rest := buf[:n]; len(rest) > 0; {
			want := x.content(1-end, got, len(rest))
			if string(rest[:len(want)]) != string(want) {
				plan.wrong = true
			}
			got += len(want)
			rest = rest[len(want):]
		}
		if err != nil {
			return got, err
		}
		if plan.slow > 0 {
			time.Sleep(plan.slow) // synctest
		}
	}
}

// dialTarget connects to a target of the simulation.
func (w *simWorld) dialTarget(network, address string) (net.Conn, error) {
	if address != simTargetAddress {
		return nil, simError("dial", os.NewSyscallError("connect", syscall.ECONNREFUSED))
	}
	if network == "udp" {
		return newSimDatagrams(), nil
	}
	near, far := w.targets.connect("10.0.0.254:9", simTargetAddress)
	w.users.Go(func() { w.serveExchange(far) })
	return near, nil
}

// serveExchange is the target of an exchange.
func (w *simWorld) serveExchange(conn net.Conn) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(simExchangeTime))
	var id [8]byte
	if _, err := io.ReadFull(conn, id[:]); err != nil {
		return // the client has left before it was served
	}
	value, ok := w.exchanges.Load(binary.BigEndian.Uint64(id[:]))
	if !ok {
		w.errorf("a target got a wrong header: %x", id)
		return
	}
	x := value.(*simExchange)
	if !x.state.CompareAndSwap(simOpening, simServed) {
		if x.state.Load() == simServed {
			w.errorf("exchange %d reached its target twice", x.id)
		}
		return
	}
	if _, err := conn.Write([]byte{simGreeting}); err != nil {
		x.fail(1, err)
		return
	}
	x.run(1, conn)
}

// fail is run for an end that can't begin.
func (x *simExchange) fail(end int, err error) {
	plan := &x.ends[end]
	plan.sendErr, plan.readErr = err, err
	close(plan.done)
}

// newExchange returns an exchange of a random kind.
func (w *simWorld) newExchange(rng *rand.Rand, door string) *simExchange {
	x := &simExchange{id: w.lastID.Add(1), door: door, began: time.Now()}
	client, target := &x.ends[0], &x.ends[1]
	client.done, target.done = make(chan struct{}), make(chan struct{})
	size := func() int { return 1 << rng.IntN(19) * (4 + rng.IntN(5)) / 4 }
	switch rng.IntN(8) {
	case 0: // a download
		target.size = size()
	case 1: // an upload
		client.size = size()
	case 2: // a talk in both directions
		client.size, target.size = 200+rng.IntN(800), 200+rng.IntN(800)
		client.pauses, target.pauses = rng.IntN(12), rng.IntN(12)
		client.pause = time.Duration(rng.Int64N(int64(20 * time.Second)))
		target.pause = time.Duration(rng.Int64N(int64(20 * time.Second)))
	case 3: // both at once
		client.size, target.size = size(), size()
	case 4: // the client leaves in the middle
		client.size, client.resets, target.size = size(), true, size()
	case 5: // the target does
		target.size, target.resets, client.size = size(), true, size()
	case 6: // one end reads slowly
		client.size, target.size = size(), size()
		x.ends[rng.IntN(2)].slow = time.Duration(rng.Int64N(int64(200 * time.Millisecond)))
	case 7: // the connection is idle for minutes
		client.size, target.size = 100, 100
		client.pauses, client.pause = 2, time.Duration(rng.Int64N(int64(4*time.Minute)))
	}
	return x
}

// runExchange makes an exchange through a door and checks what both of its ends have seen.
func (w *simWorld) runExchange(x *simExchange, open func() (net.Conn, error)) {
	w.exchanges.Store(x.id, x)
	conn, err := open()
	var greeting [1]byte
	if err == nil {
		conn.SetDeadline(x.began.Add(simExchangeTime))
		_, err = conn.Write(binary.BigEndian.AppendUint64(nil, x.id))
		if err == nil {
			_, err = io.ReadFull(conn, greeting[:])
		}
	}
	if err != nil {
		if conn != nil {
			abort(conn)
		}
		if !x.state.CompareAndSwap(simOpening, simGivenUp) {
			<-x.ends[1].done
		}
		if !w.mayFailToOpen(x.began) {
			w.errorf("exchange %d at %s was not opened: %v", x.id, x.door, err)
		}
		return
	}
	x.run(0, conn)
	<-x.ends[1].done
	w.stats.exchanges.Add(1)
	w.stats.bytes.Add(int64(x.ends[0].got + x.ends[1].got))
	w.check(x)
}

// check compares what the ends of an exchange have seen.
func (w *simWorld) check(x *simExchange) {
	cutShort := w.mayBeCutShort(x.began)
	for end := range x.ends {
		me, peer := &x.ends[end], &x.ends[1-end]
		problem := ""
		switch {
		case me.wrong:
			problem = "got other content than was sent"
		case me.got > peer.sent && peer.sendErr == nil:
			problem = "got more than was sent"
		case errors.Is(me.readErr, os.ErrDeadlineExceeded):
			problem = "stalled"
		case me.readErr == io.EOF && (me.got != peer.size || peer.resets):
			problem = "saw a clean end of what was cut short"
		case cutShort || me.resets:
		case me.readErr != io.EOF && !peer.resets:
			problem = "was cut short"
		case peer.resets && peer.sendErr == nil && me.got != peer.sent && me.sendErr == nil:
			problem = "lost data that came before a reset"
		}
		if problem != "" {
			w.errorf("exchange %d at %s, since %v: end %d %s: %+v", x.id, x.door,
				x.began.Sub(w.began), end, problem, x.ends)
		}
	}
}

// use keeps one user of a door busy until the simulation stops.
func (w *simWorld) use(actor uint64, door string, open func() (net.Conn, error)) {
	rng := w.rand(actor)
	for w.pause(time.Duration(rng.Int64N(int64(40 * time.Second)))) {
		w.runExchange(w.newExchange(rng, door), open)
	}
}

// refusals opens streams to targets that refuse or are denied, and checks that the reason is told.
func (w *simWorld) refusals(actor uint64) {
	rng := w.rand(actor)
	for w.pause(time.Duration(rng.Int64N(int64(60 * time.Second)))) {
		target, want := simDeadAddress, mux.CodeRefused
		if rng.IntN(2) > 0 {
			target, want = simDeniedAddress, mux.CodeNotAllowed
		}
		w.mu.Lock()
		local := w.local
		w.mu.Unlock()
		began := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
		conn, err := local.DialContext(ctx, "tcp", target)
		cancel()
		switch {
		case err == nil:
			conn.Close()
			w.errorf("reached %s", target)
		case openCode(err) != want && !w.mayFailToOpen(began):
			w.errorf("%s was refused with %v", target, err)
		case openCode(err) == want:
			w.stats.refusals.Add(1)
		}
	}
}

// pause waits, and reports whether the simulation goes on.
func (w *simWorld) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-w.stopping:
		return false
	}
}

// viaForward connects through the forward of the local.
func (w *simWorld) viaForward() (net.Conn, error) {
	w.mu.Lock()
	ln := w.local.forward
	w.mu.Unlock()
	return ln.dial(context.Background(), "127.0.0.1:9")
}

// viaDial opens a stream as the listeners of package socks do, and relays to a client.
func (w *simWorld) viaDial() (net.Conn, error) {
	w.mu.Lock()
	local := w.local
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	stream, err := local.DialContext(ctx, "tcp", simTargetAddress)
	if err != nil {
		return nil, err
	}
	client, ours := w.clients.connect("127.0.0.1:9", "127.0.0.1:1081")
	w.users.Go(func() { local.Relay(local.relaying, ours, stream) })
	return client, nil
}

// simPackets is the socket of a UDP forward at the local, and its clients.
type simPackets struct {
	in     chan simPacket
	closed chan struct{}
	close  func()

	mu      sync.Mutex
	answers map[netip.AddrPort]func([]byte)
}

type simPacket struct {
	p    []byte
	from netip.AddrPort
}

func newSimPackets() *simPackets {
	s := &simPackets{
		in: make(chan simPacket, 64), closed: make(chan struct{}),
		answers: make(map[netip.AddrPort]func([]byte)),
	}
	s.close = sync.OnceFunc(func() { close(s.closed) })
	return s
}

func (s *simPackets) ReadFromUDPAddrPort(p []byte) (int, netip.AddrPort, error) {
	select {
	case packet := <-s.in:
		return copy(p, packet.p), packet.from, nil
	case <-s.closed:
		return 0, netip.AddrPort{}, simError("read", net.ErrClosed)
	}
}

func (s *simPackets) WriteToUDPAddrPort(p []byte, to netip.AddrPort) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if answer := s.answers[to]; answer != nil {
		answer(p)
	}
	return len(p), nil
}

func (s *simPackets) Close() error {
	s.close()
	return nil
}

// simDatagrams is the socket of a UDP target, which sends back what it gets.
type simDatagrams struct {
	net.Conn // nil: the rest is not used
	queue    chan []byte
	closed   chan struct{}
	close    func()
}

func newSimDatagrams() *simDatagrams {
	d := &simDatagrams{queue: make(chan []byte, 64), closed: make(chan struct{})}
	d.close = sync.OnceFunc(func() { close(d.closed) })
	return d
}

func (d *simDatagrams) Write(p []byte) (int, error) {
	select {
	case d.queue <- append([]byte(nil), p...):
	default:
	}
	return len(p), nil
}

func (d *simDatagrams) Read(p []byte) (int, error) {
	select {
	case packet := <-d.queue:
		return copy(p, packet), nil
	case <-d.closed:
		return 0, simError("read", net.ErrClosed)
	}
}

func (d *simDatagrams) Close() error {
	d.close()
	return nil
}

// datagrams sends datagrams from one client and checks what is answered: each comes back once at
// most, in order and undamaged.
func (w *simWorld) sendDatagrams(actor uint64) {
	rng := w.rand(actor)
	from := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(actor))
	var mu sync.Mutex
	sent, last := uint64(0), uint64(0)
	packet := func(n uint64) []byte {
		p := binary.BigEndian.AppendUint64(nil, n)
		return append(p, simPattern[n%60000:n%60000+n*37%1100]...)
	}
	answered := func(p []byte) {
		mu.Lock()
		defer mu.Unlock()
		n := uint64(0)
		if len(p) >= 8 {
			n = binary.BigEndian.Uint64(p)
		}
		switch {
		case n == 0 || n > sent || string(p) != string(packet(n)):
			w.errorf("a datagram came back damaged")
		case n <= last:
			w.errorf("datagram %d came after %d", n, last)
		}
		last = n
		w.stats.answers.Add(1)
	}
	for w.pause(time.Duration(rng.Int64N(int64(30 * time.Second)))) {
		w.mu.Lock()
		socket := w.local.packets
		w.mu.Unlock()
		socket.mu.Lock()
		socket.answers[from] = answered
		socket.mu.Unlock()
		for range 1 + rng.IntN(5) {
			mu.Lock()
			sent++
			p := packet(sent)
			mu.Unlock()
			select {
			case socket.in <- simPacket{p, from}:
				w.stats.datagrams.Add(1)
			default:
			}
		}
	}
}
