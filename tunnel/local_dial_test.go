package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// fakeHost is a host in virtual time: its lookups, and what its addresses do.
type fakeHost struct {
	names   map[string]fakeLookup // by "ip4" and "ip6"
	answers map[string]fakeAnswer // by address; another is silent
	mu      sync.Mutex
	tried   []string // "ADDRESS after TIME"
	began   time.Time
}

type fakeLookup struct {
	after     time.Duration
	addresses string // separated by spaces
	err       error
}

type fakeAnswer struct {
	after time.Duration
	err   error
}

func pass(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (h *fakeHost) lookup(ctx context.Context, network, host string) ([]netip.Addr, error) {
	l := h.names[network]
	if err := pass(ctx, l.after); err != nil {
		return nil, err
	}
	var list []netip.Addr
	for _, text := range strings.Fields(l.addresses) {
		list = append(list, netip.MustParseAddr(text))
	}
	if l.err == nil && list == nil {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return list, l.err
}

func (h *fakeHost) dial(ctx context.Context, _, address string) (net.Conn, error) {
	host, _, _ := net.SplitHostPort(address)
	h.mu.Lock()
	h.tried = append(h.tried, fmt.Sprint(host, " after ", time.Since(h.began)))
	h.mu.Unlock()
	a, ok := h.answers[host]
	if !ok {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if err := pass(ctx, a.after); err != nil {
		return nil, err
	}
	if a.err != nil {
		return nil, a.err
	}
	near, far := net.Pipe()
	far.Close()
	return near, nil
}

// TestAddressRace connects to hosts of many kinds, within the 30 s of an attempt.
func TestAddressRace(t *testing.T) {
	const ms = time.Millisecond
	lost := &net.DNSError{Err: "server misbehaving", IsTemporary: true}
	refused := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	noRoute := &net.OpError{Op: "dial", Err: syscall.ENETUNREACH}
	for name, test := range map[string]struct {
		ip6, ip4 fakeLookup
		answers  map[string]fakeAnswer
		tried    string
		took     time.Duration
		err      error
	}{
		"one": {
			ip4:     fakeLookup{10 * ms, "192.0.2.1", nil},
			answers: map[string]fakeAnswer{"192.0.2.1": {40 * ms, nil}},
			tried:   "192.0.2.1 after 10ms", took: 50 * ms,
		},
		"five dead": {
			ip4: fakeLookup{
				0, "192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.4 192.0.2.5 192.0.2.6", nil,
			},
			answers: map[string]fakeAnswer{"192.0.2.6": {40 * ms, nil}},
			tried: "192.0.2.1 after 0s, 192.0.2.2 after 250ms, 192.0.2.3 after 500ms, " +
				"192.0.2.4 after 750ms, 192.0.2.5 after 1s, 192.0.2.6 after 1.25s",
			took: 1290 * ms,
		},
		"a slow one is not given up": {
			ip4:     fakeLookup{0, "192.0.2.1 192.0.2.2", nil},
			answers: map[string]fakeAnswer{"192.0.2.1": {9000 * ms, nil}},
			tried:   "192.0.2.1 after 0s, 192.0.2.2 after 250ms", took: 9000 * ms,
		},
		"IPv6 dead": {
			ip6: fakeLookup{20 * ms, "2001:db8::1 2001:db8::2", nil}, ip4: fakeLookup{0, "192.0.2.1", nil},
			answers: map[string]fakeAnswer{"192.0.2.1": {40 * ms, nil}},
			tried:   "2001:db8::1 after 20ms, 192.0.2.1 after 270ms", took: 310 * ms,
		},
		"no IPv6 route": {
			ip6: fakeLookup{0, "2001:db8::1", nil}, ip4: fakeLookup{0, "192.0.2.1", nil},
			answers: map[string]fakeAnswer{"192.0.2.1": {40 * ms, nil}, "2001:db8::1": {0, noRoute}},
			tried:   "2001:db8::1 after 0s, 192.0.2.1 after 0s", took: 40 * ms,
		},
		"IPv6 lookup hangs": {
			ip6: fakeLookup{time.Hour, "", nil}, ip4: fakeLookup{10 * ms, "192.0.2.1", nil},
			answers: map[string]fakeAnswer{"192.0.2.1": {40 * ms, nil}},
			tried:   "192.0.2.1 after 60ms", took: 100 * ms,
		},
		"IPv6 comes late, to the rescue": {
			ip6: fakeLookup{5000 * ms, "2001:db8::1", nil}, ip4: fakeLookup{0, "192.0.2.1", nil},
			answers: map[string]fakeAnswer{"2001:db8::1": {40 * ms, nil}},
			tried:   "192.0.2.1 after 50ms, 2001:db8::1 after 5s", took: 5040 * ms,
		},
		"two dead name servers": {
			ip6: fakeLookup{10000 * ms, "", nil}, ip4: fakeLookup{10000 * ms, "192.0.2.1", nil},
			answers: map[string]fakeAnswer{"192.0.2.1": {40 * ms, nil}},
			tried:   "192.0.2.1 after 10s", took: 10040 * ms,
		},
		"refused by all": {
			ip6: fakeLookup{0, "2001:db8::1", nil}, ip4: fakeLookup{0, "192.0.2.1 192.0.2.2", nil},
			answers: map[string]fakeAnswer{
				"2001:db8::1": {0, noRoute},
				"192.0.2.1":   {10 * ms, refused}, "192.0.2.2": {10 * ms, refused},
			},
			tried: "2001:db8::1 after 0s, 192.0.2.1 after 0s, 192.0.2.2 after 10ms",
			took:  20 * ms, err: refused,
		},
		"all silent": {
			ip4:   fakeLookup{0, "192.0.2.1", nil},
			tried: "192.0.2.1 after 0s", took: 30 * time.Second, err: context.DeadlineExceeded,
		},
		"no such host": {ip6: fakeLookup{10 * ms, "", nil}, took: 10 * ms, err: &net.DNSError{}},
		"lookups fail": {
			ip6: fakeLookup{0, "", nil}, ip4: fakeLookup{10 * ms, "", lost}, took: 10 * ms, err: lost,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				names := map[string]fakeLookup{"ip6": test.ip6, "ip4": test.ip4}
				h := &fakeHost{names: names, answers: test.answers, began: time.Now()}
				found := 0
				d := &addressDialer{lookup: h.lookup, dial: h.dial, found: func(int) { found++ }}
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				conn, err := d.DialContext(ctx, "tcp", "remote.example:443")
				if took := time.Since(h.began); took != test.took || (err == nil) != (test.err == nil) {
					t.Errorf("after %v: %v", took, err)
				}
				if conn != nil {
					conn.Close()
				}
				if notFound := (*net.DNSError)(nil); errors.As(test.err, &notFound) {
					got, ok := errors.AsType[*net.DNSError](err)
					if !ok || got.Err != notFound.Err && notFound.Err != "" {
						t.Errorf("got %v, want %v", err, test.err)
					}
				} else if test.err != nil && !errors.Is(err, test.err) {
					t.Errorf("got %v, want %v", err, test.err)
				}
				if strings.Join(h.tried, ", ") != test.tried {
					t.Errorf("tried %s, want %s", strings.Join(h.tried, ", "), test.tried)
				}
				if want := min(1, len(h.tried)); found != want {
					t.Errorf("found was called %d times, want %d", found, want)
				}
			})
		})
	}
}

// newBothFamilies returns a host that answers over both families. Its IPv4 address is known later.
func newBothFamilies() *fakeHost {
	return &fakeHost{
		names: map[string]fakeLookup{
			"ip6": {0, "2001:db8::1", nil}, "ip4": {10 * time.Millisecond, "192.0.2.1", nil},
		},
		answers: map[string]fakeAnswer{"2001:db8::1": {}, "192.0.2.1": {}},
		began:   time.Now(),
	}
}

// A family that connects, but where no session comes about, is not tried first by the next
// connection.
func TestFamiliesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newBothFamilies()
		c := new(LocalConfig).connector()
		c.lookup, c.dialAddress = h.lookup, h.dial
		for range 3 {
			conn, err := c.dialTCP(t.Context(), &stepClock{}, "tcp", "remote.example:443")
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
		}
		const want = "2001:db8::1 after 0s, 192.0.2.1 after 10ms, 2001:db8::1 after 10ms"
		if tried := strings.Join(h.tried, ", "); tried != want {
			t.Errorf("tried %s, want %s", tried, want)
		}
	})
}

// A question whether the server speaks TLS goes to the server that was asked before, and takes no
// turn. After a connection that has lasted, its family is first.
func TestTurnsOfFamilies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newBothFamilies()
		address, err := ParseAddress("ws://remote.example/")
		if err != nil {
			t.Fatal(err)
		}
		c := (&LocalConfig{Address: address}).connector()
		c.lookup, c.dialAddress = h.lookup, h.dial
		connect := func() {
			conn, err := c.dialTCP(t.Context(), &stepClock{}, "tcp", "remote.example:80")
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
		}
		for range 3 {
			connect()
			c.needsTLS(t.Context())
		}
		attempts := &localAttempts{to: c}
		for _, remote := range []string{"192.0.2.1", "2001:db8::1", "192.0.2.1"} {
			attempts.lost(netip.MustParseAddr(remote), steadyAfter, true, false)
			connect()
		}
		var tried []string
		for _, attempt := range h.tried {
			address, _, _ := strings.Cut(attempt, " ")
			tried = append(tried, address)
		}
		const v4, v6 = "192.0.2.1", "2001:db8::1"
		want := []string{v6, v6, v4, v4, v6, v6, v4, v6, v4}
		if !slices.Equal(tried, want) {
			t.Errorf("tried %v, want %v", tried, want)
		}
	})
}

// TestAddressRaceOfOneAddress needs no lookup.
func TestAddressRaceOfOneAddress(t *testing.T) {
	for _, address := range []string{"192.0.2.1", "2001:db8::1"} {
		h := &fakeHost{answers: map[string]fakeAnswer{address: {}}, began: time.Now()}
		d := &addressDialer{dial: h.dial}
		conn, err := d.DialContext(t.Context(), "tcp", net.JoinHostPort(address, "1"))
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
}

// TestAddressRaceOfOneFamily: with -4 no IPv6 address is looked up or tried, and the reverse.
func TestAddressRaceOfOneFamily(t *testing.T) {
	for _, test := range []struct {
		family      Family
		host, tried string
		err         error
	}{
		{IPv4, "example.org", "[192.0.2.1 after 0s]", nil},
		{IPv6, "example.org", "[2001:db8::1 after 0s]", nil},
		{IPv4, "192.0.2.1", "[192.0.2.1 after 0s]", nil},
		{IPv6, "2001:db8::1", "[2001:db8::1 after 0s]", nil},
		{IPv6, "192.0.2.1", "[]", ErrFamily},
		{IPv4, "2001:db8::1", "[]", ErrFamily},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := &fakeHost{
				names: map[string]fakeLookup{
					"ip4": {addresses: "192.0.2.1"}, "ip6": {addresses: "2001:db8::1"},
				},
				answers: map[string]fakeAnswer{"192.0.2.1": {}, "2001:db8::1": {}},
				began:   time.Now(),
			}
			d := &addressDialer{lookup: h.lookup, dial: h.dial, family: test.family}
			conn, err := d.DialContext(t.Context(), "tcp", net.JoinHostPort(test.host, "443"))
			if conn != nil {
				conn.Close()
			}
			if !errors.Is(err, test.err) || fmt.Sprint(h.tried) != test.tried {
				t.Errorf("%+v: tried %v, %v", test, h.tried, err)
			}
		})
	}
}
