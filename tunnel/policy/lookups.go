package policy

import (
	"container/list"
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
)

// Lookups are places for lookups that are under way.
type Lookups interface {
	// Take waits for a place, until ctx is done at the latest. leave gives it back; it may be called
	// by another goroutine, and after the call that the lookup is for.
	Take(ctx context.Context) (leave func(), err error)
}

// LookupPool has places for the lookups of all clients. A client gets another only while as many as
// it has are left for others, and one that becomes free goes to the client with the fewest lookups:
// no client's slow name servers hold up another's lookups. All methods may be called concurrently.
type LookupPool struct {
	mu      sync.Mutex // guards all below, and what is in the members
	free    int
	members map[string]*poolMember // clients that have lookups, or wait for one
	waiting map[*poolMember]struct{}
}

// poolMember is what a client has of a pool.
type poolMember struct {
	taken int
	queue list.List // of chan struct{}, each closed when it has got a place and left the queue
}

// NewLookupPool returns a pool with as many places.
func NewLookupPool(most int) *LookupPool {
	return &LookupPool{
		free:    most,
		members: make(map[string]*poolMember),
		waiting: make(map[*poolMember]struct{}),
	}
}

// For returns a client's places. A client that leaves and comes back still has the lookups that go
// on from before.
func (p *LookupPool) For(client string) Lookups { return clientLookups{p, client} }

// clientLookups are Lookups of which whoever finds none waits for one.
type clientLookups struct {
	pool   *LookupPool
	client string
}

// Take implements Lookups.
func (l clientLookups) Take(ctx context.Context) (leave func(), err error) {
	p := l.pool
	mine := make(chan struct{})
	p.mu.Lock()
	m := p.members[l.client]
	if m == nil {
		m = new(poolMember)
		p.members[l.client] = m
	}
	waiting := m.queue.PushBack(mine)
	p.waiting[m] = struct{}{}
	p.share()
	p.mu.Unlock()
	leave = func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.leave(l.client, m)
	}
	select {
	case <-mine:
		return leave, nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-mine: // it has got one meanwhile
		p.leave(l.client, m)
	default:
		p.unqueue(m, waiting)
		p.forget(l.client, m)
	}
	return nil, fmt.Errorf("other names are being looked up: %w", context.Cause(ctx))
}

// leave gives a place back. Called with the mutex held.
func (p *LookupPool) leave(client string, m *poolMember) {
	m.taken--
	p.free++
	p.forget(client, m)
	p.share()
}

// forget forgets a client without lookups. Called with the mutex held.
func (p *LookupPool) forget(client string, m *poolMember) {
	if m.taken == 0 && m.queue.Len() == 0 {
		delete(p.members, client)
	}
}

// unqueue takes a lookup out of a client's queue. Called with the mutex held.
func (p *LookupPool) unqueue(m *poolMember, waiting *list.Element) {
	m.queue.Remove(waiting)
	if m.queue.Len() == 0 {
		delete(p.waiting, m)
	}
}

// share hands out places. Called with the mutex held.
func (p *LookupPool) share() {
	for p.free > 0 {
		var next *poolMember
		for m := range p.waiting {
			if next == nil || m.taken < next.taken {
				next = m
			}
		}
		if next == nil || next.taken >= p.free {
			return
		}
		p.free--
		next.taken++
		first := next.queue.Front()
		p.unqueue(next, first)
		close(first.Value.(chan struct{}))
	}
}

// lookups is the key of a context's value.
type lookups struct{}

// WithLookups returns a context in which the names of targets are looked up in the places.
func WithLookups(ctx context.Context, places Lookups) context.Context {
	return context.WithValue(ctx, lookups{}, places)
}

// lookUp returns the addresses of a name. A place for that is given back once the lookup has really
// ended: a resolver of the system goes on in its thread when ctx is done.
func (r *Rules) lookUp(ctx context.Context, family, host string) ([]netip.Addr, error) {
	ask := net.DefaultResolver.LookupNetIP
	if r != nil && r.lookup != nil {
		ask = r.lookup
	}
	places, ok := ctx.Value(lookups{}).(Lookups)
	if !ok {
		return ask(ctx, family, host)
	}
	leave, err := places.Take(ctx)
	if err != nil {
		return nil, err
	}
	if !outlivesContext {
		defer leave()
		return ask(ctx, family, host)
	}
	var addrs []netip.Addr
	var failed error
	answered := make(chan struct{})
	go func() { // until the system's own timeouts
		defer leave()
		defer close(answered)
		addrs, failed = ask(context.WithoutCancel(ctx), family, host)
	}()
	select {
	case <-answered:
		return addrs, failed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
