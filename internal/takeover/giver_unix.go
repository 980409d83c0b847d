//go:build unix

package takeover

import (
	"context"
	"net"
	"sync"
	"time"
)

// Giver is the old process, once it has handed over.
type Giver struct {
	channel
	old    Old
	stated chan struct{} // closed once the new process has been sent the state

	mu     sync.Mutex // guards all below
	queue  []Route    // to send
	queued chan struct{}
	claims map[uint64]chan bool
	last   uint64 // of the claims
	ended  bool
}

// Give hands over to the process at the other end of a connection, which it closes. It returns nil
// once that process has ended or ctx is done, or an error if nothing was handed over.
func Give(ctx context.Context, conn *net.UnixConn, old Old) error {
	g := &Giver{
		channel: channel{conn: conn}, old: old, stated: make(chan struct{}),
		queued: make(chan struct{}, 1), claims: make(map[uint64]chan bool),
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	err := g.send(sockets, old.Offer, old.Files...)
	for _, file := range old.Files {
		file.Close()
	}
	if err != nil {
		return err
	}
	if _, err := g.expect(begin); err != nil {
		return err
	}
	state := old.HandOver(g)
	if err := g.send(stateOf, state); err != nil {
		g.end()
		old.TakeBack()
		return err
	}
	close(g.stated)
	served, err := g.follow(ctx)
	g.end()
	if !served {
		old.TakeBack()
		return err
	}
	return nil
}

// follow serves the new process until it ends, and reports whether it has served.
func (g *Giver) follow(ctx context.Context) (served bool, err error) {
	ctx, stop := context.WithCancel(ctx)
	var sending sync.WaitGroup
	sending.Go(func() { g.sendRoutes(ctx) })
	defer sending.Wait()
	defer stop()
	g.conn.SetReadDeadline(time.Now().Add(stepTimeout))
	for {
		m, err := g.receive()
		if err != nil {
			return served, err
		}
		if err := g.handle(m, &served); err != nil {
			return served, err
		}
	}
}

func (g *Giver) handle(m received, served *bool) error {
	defer m.close()
	switch m.kind {
	case serving:
		*served = true
		g.conn.SetReadDeadline(time.Time{})
		g.old.Release()
		err := g.send(released, nil)
		g.old.Drain() // also if the new process is gone: it has accepted
		return err
	case answer:
		var a Answer
		if err := m.decode(&a); err != nil {
			return err
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		if waiting := g.claims[a.ID]; waiting != nil {
			waiting <- a.New // has room
			delete(g.claims, a.ID)
		}
		return nil
	case passed:
		return g.takeConn(m)
	}
	return errProtocol
}

func (g *Giver) takeConn(m received) error {
	var c Conn
	if err := m.decode(&c); err != nil {
		return err
	}
	if len(m.files) != 1 {
		return errProtocol
	}
	conn, err := net.FileConn(m.files[0])
	if err != nil {
		return nil // it has been closed by its client
	}
	g.old.Serve(conn, c)
	return nil
}

// Claim asks the new process whether a pair is new to the replay cache. That process expects the
// state before.
func (g *Giver) Claim(pair uint64) bool {
	waiting := make(chan bool, 1)
	g.mu.Lock()
	g.last++
	id, ended := g.last, g.ended
	if !ended {
		g.claims[id] = waiting
	}
	g.mu.Unlock()
	if ended {
		return false
	}
	defer g.forget(id)
	timeout := time.NewTimer(claimTimeout)
	defer timeout.Stop()
	select {
	case <-g.stated:
	case fresh := <-waiting: // nothing was handed over
		return fresh
	case <-timeout.C:
		return false
	}
	if g.send(claim, Claim{id, pair}) != nil {
		return false
	}
	select {
	case fresh := <-waiting:
		return fresh
	case <-timeout.C:
		return false
	}
}

// forget drops a claim for which nobody waits any more.
func (g *Giver) forget(id uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.claims, id)
}

// end makes claims fail from now on.
func (g *Giver) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended = true
	for id, waiting := range g.claims {
		waiting <- false // has room
		delete(g.claims, id)
	}
}

// Route reports that a session has come or has gone. It doesn't wait.
func (g *Giver) Route(name string, here bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return
	}
	g.queue = append(g.queue, Route{name, here})
	select {
	case g.queued <- struct{}{}:
	default:
	}
}

// sendRoutes sends what is queued until ctx is done.
func (g *Giver) sendRoutes(ctx context.Context) {
	for {
		select {
		case <-g.queued:
		case <-ctx.Done():
			return
		}
		g.mu.Lock()
		queue := g.queue
		g.queue = nil
		g.mu.Unlock()
		for _, r := range queue {
			if g.send(route, r) != nil {
				return // the reader notices
			}
		}
	}
}
