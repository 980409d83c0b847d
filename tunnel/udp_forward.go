package tunnel

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"culvert/internal/bounds"
	"culvert/internal/netfault"
	"culvert/tunnel/mux"

	"github.com/rs/zerolog"
)

// udpForward is a socket each of whose clients has its own stream: that of a UDP port forward at
// the local, or of a reverse one at the remote.
type udpForward struct {
	conn      *udpSocket
	open      openClient
	log       *limitedLog
	refusal   zerolog.Level // of the log entry when the peer refuses
	bounds    *bounds.Counts
	receivers sync.WaitGroup

	mu      sync.Mutex // guards both
	clients map[udpPath]*udpClient
	leaving *udpClient // makes way for one that found no room; nil for none
}

// openClient opens the flow of a client of a UDP forward, and returns what to call once it has
// ended. It never waits.
type openClient func(client netip.AddrPort) (opened *flow, ended func(), err error)

func newUDPForward(conn packetConn, log zerolog.Logger, open openClient) *udpForward {
	return &udpForward{
		conn:    newUDPSocket(conn),
		open:    open,
		log:     limitLog(log, 1, streamWarningsPeriod, nil),
		refusal: zerolog.WarnLevel,
		clients: make(map[udpPath]*udpClient),
	}
}

// serve returns when ctx is done, after it has closed the socket and ended the streams, or with an
// error when the socket fails.
func (f *udpForward) serve(ctx context.Context) error {
	defer f.log.close()
	stop := context.AfterFunc(ctx, func() { f.conn.Close() })
	defer stop()
	receiving, cancel := context.WithCancel(ctx)
	defer f.receivers.Wait()
	defer f.closeAll()
	defer cancel()
	defer f.conn.Close()
	p := make([]byte, mux.MaxDatagram)
	for {
		n, path, err := f.conn.read(p)
		switch {
		case err == nil:
			if c := f.client(receiving, path); c != nil {
				c.send(p[:n])
			}
		case ctx.Err() != nil:
			return nil
		case !netfault.Temporary(err):
			return err
		}
	}
}

// udpClient is a source address, the address that it sends to, and their stream.
type udpClient struct {
	*flow
	path    udpPath
	control []byte // for answers
	ended   func() // to be called once the flow has ended

	answered atomic.Bool // something was sent to the client
	proven   atomic.Bool // after that, it has sent again: its address isn't forged
}

// send sends a datagram of the client, or drops it.
func (c *udpClient) send(p []byte) {
	if c.answered.Load() {
		c.proven.Store(true)
	}
	c.flow.send(p)
}

// goesBefore reports whether a client makes way rather than another: one that isn't proven, as in
// Linux's connection tracking, or else the one that is idle for longer.
func (c *udpClient) goesBefore(other *udpClient) bool {
	if proven := c.proven.Load(); proven != other.proven.Load() {
		return !proven
	}
	return c.expires().Before(other.expires())
}

// client returns the client of a path, a new one if necessary, or nil when there can be none now.
func (f *udpForward) client(ctx context.Context, path udpPath) *udpClient {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.clients[path]; c != nil {
		return c
	}
	opened, ended, err := f.open(path.client)
	if err != nil {
		f.makeWay(sourceOf(path.client.Addr()), err)
		f.log.at(zerolog.DebugLevel).Err(err).Msg("datagram dropped")
		return nil
	}
	if len(f.clients) >= maxUDPClients {
		f.evict(sourceOf(path.client.Addr()))
	}
	c := &udpClient{flow: opened, path: path, control: path.local.control(), ended: ended}
	f.clients[path] = c
	f.receivers.Go(func() { f.receive(ctx, c) })
	return c
}

// evict makes room for another client.
func (f *udpForward) evict(other source) {
	oldest, _ := f.replaceable(other)
	f.bounds.Refused(bounds.UDPClients)
	delete(f.clients, oldest.path)
	oldest.datagrams.Close()
}

// makeWay ends a client's stream if another one found no room because of err, for its next
// datagram: if a source has more streams than the other one would have, or the same one has all.
func (f *udpForward) makeWay(other source, err error) {
	refused, ok := errors.AsType[*mux.OpenError](err)
	if !ok || f.leaving != nil || refused.Code != mux.CodeTooManyStreams &&
		refused.Code != mux.CodeOverload {
		return
	}
	oldest, held := f.replaceable(other)
	if oldest == nil {
		return
	}
	from := sourceOf(oldest.path.client.Addr())
	if from != other && held[from] <= held[other] {
		return
	}
	f.bounds.Refused(bounds.UDPClients)
	delete(f.clients, oldest.path)
	f.leaving = oldest
	oldest.datagrams.Close()
}

// replaceable returns the client that makes way first, of those at the source that has most with
// another one: so nobody loses a stream to a host that sends from many ports, nor one that has been
// answered to a host that forges many addresses. It is nil if there is none. held are the clients
// of each source, with the other one.
func (f *udpForward) replaceable(other source) (first *udpClient, held map[source]int) {
	held = map[source]int{other: 1}
	for _, c := range f.clients {
		held[sourceOf(c.path.client.Addr())]++
	}
	most := 0
	for from, n := range held {
		if n > most && (from != other || n > 1) {
			most = n
		}
	}
	for _, c := range f.clients {
		if held[sourceOf(c.path.client.Addr())] < most {
			continue
		}
		if first == nil || c.goesBefore(first) {
			first = c
		}
	}
	return first, held
}

// receive passes answers on to a client until its stream ends.
func (f *udpForward) receive(ctx context.Context, c *udpClient) {
	defer f.left(c)
	defer c.ended()
	defer f.remove(c)
	err := c.flow.receive(func(p []byte) {
		c.answered.Store(true)
		f.conn.answer(p, c.path.client, c.control) // an error is about this client alone
	})
	var refused *mux.OpenError
	if !errors.As(err, &refused) {
		f.log.at(zerolog.DebugLevel).Err(err).Stringer("client", c.path.client).Msg("forward ended")
		return
	}
	f.log.at(f.refusal).Err(err).Msg("forward refused")
	select { // otherwise each datagram would ask again
	case <-time.After(udpRefusalPause):
	case <-ctx.Done():
	}
}

func (f *udpForward) remove(c *udpClient) {
	c.datagrams.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.clients[c.path] == c {
		delete(f.clients, c.path)
	}
}

// left notes that a client's stream is given back.
func (f *udpForward) left(c *udpClient) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.leaving == c {
		f.leaving = nil
	}
}

func (f *udpForward) closeAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.clients {
		c.datagrams.Close()
	}
}

// openFlow opens a flow in a session, unless that has lost its connection. It never waits.
func openFlow(session *mux.Session, target string) (*mux.Flow, error) {
	if session.Stats().Away {
		return nil, ErrNoSession
	}
	return session.OpenFlowAtOnce(target)
}
