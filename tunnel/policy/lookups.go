package policy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
)

// Lookups are places for lookups that are under way.
type Lookups interface {
	// Take waits for a place, until ctx is done at the latest. leave gives it back; it may be called
	// by another goroutine, and after the call that the lookup is for.
	Take(ctx context.Context) (leave func(), err error)
}

// lookupPlaces are Lookups of which whoever finds none waits for one.
type lookupPlaces chan struct{}

// NewLookups returns as many places.
func NewLookups(most int) Lookups { return make(lookupPlaces, most) }

// Take implements Lookups.
func (p lookupPlaces) Take(ctx context.Context) (leave func(), err error) {
	select {
	case p <- struct{}{}:
		return func() { <-p }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("other names are being looked up: %w", context.Cause(ctx))
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
