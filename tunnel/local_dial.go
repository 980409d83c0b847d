package tunnel

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"culvert/internal/netfault"
)

// lookupFunc resolves a name to addresses of "ip4" or "ip6".
type lookupFunc func(ctx context.Context, network, host string) ([]netip.Addr, error)

// addressDialer connects to a host by the first of its addresses that answers, as RFC 8305 (happy
// eyeballs) has it. net.Dialer gives each address a share of the time, one after the other, and
// waits for all of the lookups; a name with several dead addresses takes it all the time there is.
type addressDialer struct {
	lookup lookupFunc
	dial   func(ctx context.Context, network, address string) (net.Conn, error)

	family     Family
	preferIPv4 bool // rather than IPv6

	// found, if not nil, is called before the first attempt to connect, with the number of
	// addresses that are known by then. It is not called for a host that is an address.
	found func(addresses int)
}

// Family is the version of IP with which a local connects. The zero value is both.
type Family int

// The families.
const (
	AnyFamily Family = iota
	IPv4
	IPv6
)

// ErrFamily is the error for an IP address of the other family than Address.Over selects.
var ErrFamily = errors.New("an address of the other version of IP")

// has reports whether addr is of the family.
func (f Family) has(addr netip.Addr) bool {
	return f == AnyFamily || (f == IPv4) == addr.Unmap().Is4()
}

// networks returns the networks to resolve names for.
func (f Family) networks() []string {
	switch f {
	case IPv4:
		return []string{"ip4"}
	case IPv6:
		return []string{"ip6"}
	}
	return []string{"ip6", "ip4"}
}

// resolved is the outcome of a lookup.
type resolved struct {
	network   string
	addresses []netip.Addr
	err       error
}

// attempted is the outcome of an attempt to connect.
type attempted struct {
	conn net.Conn
	err  error
}

// DialContext connects to address, which is host:port. All goroutines have ended when it returns.
func (d *addressDialer) DialContext(
	ctx context.Context, network, address string,
) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		if !d.family.has(addr) {
			return nil, ErrFamily
		}
		return d.dial(ctx, network, address)
	}
	r := &addressRace{
		dialer: d, network: network, port: port,
		lookups: make(chan resolved), dials: make(chan attempted),
	}
	racing, cancel := context.WithCancel(ctx)
	defer r.running.Wait()
	defer cancel()
	for _, family := range d.family.networks() {
		r.looking++
		r.running.Go(func() {
			addresses, err := d.lookup(racing, family, host)
			select {
			case r.lookups <- resolved{family, addresses, err}:
			case <-racing.Done():
			}
		})
	}
	return r.run(racing)
}

// addressRace is one call of DialContext.
type addressRace struct {
	dialer        *addressDialer
	network, port string
	running       sync.WaitGroup
	lookups       chan resolved
	dials         chan attempted

	looking, dialing int        // lookups and attempts under way
	waiting          []resolved // addresses that were not tried yet, one entry a family
	begun            bool       // there was an attempt
	idle             bool       // an attempt was due, and there was no address
	lookupErr        error      // what to return if there are no addresses
	dialErr          error      // what to return if none answers
}

// run takes the steps of the race until an attempt succeeds or nothing is left to try.
func (r *addressRace) run(ctx context.Context) (net.Conn, error) {
	next := time.NewTimer(0) // when the next attempt may start
	next.Stop()
	for {
		select {
		case found := <-r.lookups:
			r.looking--
			r.add(found, next)
		case outcome := <-r.dials:
			r.dialing--
			if outcome.err == nil {
				return outcome.conn, nil
			}
			r.dialErr = tellingError(r.dialErr, outcome.err)
			next.Reset(0)
		case <-next.C:
			r.start(ctx, next)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if r.looking == 0 && r.dialing == 0 && len(r.waiting) == 0 {
			if r.begun {
				return nil, r.dialErr
			}
			return nil, r.lookupErr
		}
	}
}

// add takes the outcome of a lookup.
func (r *addressRace) add(found resolved, next *time.Timer) {
	if len(found.addresses) == 0 {
		if notFound, ok := errors.AsType[*net.DNSError](r.lookupErr); r.lookupErr == nil ||
			ok && notFound.IsNotFound { // other errors tell more
			r.lookupErr = found.err
		}
	} else {
		r.waiting = append(r.waiting, found)
		if found.network == r.preferred() {
			slices.Reverse(r.waiting)
		}
	}
	switch {
	case r.begun:
		if r.dialing == 0 || r.idle {
			next.Reset(0)
		}
	case found.network != r.preferred() && r.looking > 0:
		next.Reset(resolutionDelay)
	case len(r.waiting) > 0:
		next.Reset(0)
	}
}

// preferred returns the family that is tried first: IPv6 (RFC 8305, section 3), unless the caller
// has found that wanting.
func (r *addressRace) preferred() string {
	if r.dialer.preferIPv4 {
		return "ip4"
	}
	return "ip6"
}

// start starts an attempt with the next address. The families take turns.
func (r *addressRace) start(ctx context.Context, next *time.Timer) {
	if r.idle = len(r.waiting) == 0; r.idle {
		return
	}
	if !r.begun && r.dialer.found != nil {
		n := 0
		for _, family := range r.waiting {
			n += len(family.addresses)
		}
		r.dialer.found(n)
	}
	r.begun = true
	family := r.waiting[0]
	r.waiting = r.waiting[1:]
	target := net.JoinHostPort(family.addresses[0].Unmap().String(), r.port)
	if family.addresses = family.addresses[1:]; len(family.addresses) > 0 {
		r.waiting = append(r.waiting, family)
	}
	r.dialing++
	r.running.Go(func() {
		conn, err := r.dialer.dial(ctx, r.network, target)
		select {
		case r.dials <- attempted{conn, err}:
		case <-ctx.Done():
			if err == nil {
				conn.Close() // another was first
			}
		}
	})
	next.Reset(attemptDelay)
}

// tellingError returns the error that tells more of why a host can't be reached. That this machine
// has no route for one family of addresses tells nothing if there is another error.
func tellingError(first, second error) error {
	if first == nil || netfault.Is(first, syscall.ENETUNREACH) ||
		netfault.Is(first, syscall.EADDRNOTAVAIL) {
		return second
	}
	return first
}
