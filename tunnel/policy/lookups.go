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

// LookupPool has places for the lookups of all clients. A place that becomes free goes to the
// client with the fewest lookups under way, so that no client's slow name servers hold up another's
// for long. All methods may be called concurrently.
type LookupPool struct {
	mu      sync.Mutex // guards all below, and what is in the members
	free    int
	waiting map[*poolMember]struct{} // those with lookups that wait
}

// NewLookupPool returns a pool with as many places.
func NewLookupPool(most int) *LookupPool {
	return &LookupPool{free: most, waiting: make(map[*poolMember]struct{})}
}

// Join returns places for a client, of which it may have most at once. Whoever finds none waits.
func (p *LookupPool) Join(most int) Lookups { return &poolMember{pool: p, most: most} }

// poolMember is what a client has of a pool.
type poolMember struct {
	pool  *LookupPool
	most  int
	taken int
	queue list.List // of chan struct{}, each closed when it has got a place and left the queue
}

// Take implements Lookups.
func (m *poolMember) Take(ctx context.Context) (leave func(), err error) {
	p := m.pool
	p.mu.Lock()
	mine := make(chan struct{})
	waiting := m.queue.PushBack(mine)
	p.waiting[m] = struct{}{}
	p.share()
	p.mu.Unlock()
	select {
	case <-mine:
		return m.leave, nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-mine: // it has got one meanwhile
		m.leaveLocked()
	default:
		m.remove(waiting)
	}
	return nil, fmt.Errorf("other names are being looked up: %w", context.Cause(ctx))
}

// leave gives a place back.
func (m *poolMember) leave() {
	m.pool.mu.Lock()
	defer m.pool.mu.Unlock()
	m.leaveLocked()
}

// leaveLocked is leave with the mutex held.
func (m *poolMember) leaveLocked() {
	m.taken--
	m.pool.free++
	m.pool.share()
}

// remove takes a lookup out of the queue. Called with the mutex held.
func (m *poolMember) remove(waiting *list.Element) {
	m.queue.Remove(waiting)
	if m.queue.Len() == 0 {
		delete(m.pool.waiting, m)
	}
}

// share hands out the free places. Called with the mutex held.
func (p *LookupPool) share() {
	for p.free > 0 {
		var next *poolMember
		for m := range p.waiting {
			if m.taken < m.most && (next == nil || m.taken < next.taken) {
				next = m
			}
		}
		if next == nil {
			return
		}
		p.free--
		next.taken++
		first := next.queue.Front()
		next.remove(first)
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
