package tunnel

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"culvert/internal/bounds"
	"culvert/internal/testnet"
	"culvert/tunnel/policy"
)

// unansweredNames are rules that allow everything. The DNS never answers for a name.
type unansweredNames struct {
	*policy.Rules
	lookups atomic.Int64
}

func (u *unansweredNames) Resolve(
	ctx context.Context, network, host string, port uint16,
) ([]netip.AddrPort, error) {
	if _, err := netip.ParseAddr(host); err == nil {
		return u.Rules.Resolve(ctx, network, host, port)
	}
	u.lookups.Add(1)
	<-ctx.Done()
	return nil, ctx.Err()
}

// freeLookups are policy.Lookups without a bound.
type freeLookups struct{}

func (freeLookups) Take(context.Context) (leave func(), err error) { return func() {}, nil }

// freely is a reserveFunc without a bound.
func freely(int) func() { return func() {} }

// TestWaitingIsReserved: datagrams that wait count in the memory budget, and are dropped when that
// has no more.
func TestWaitingIsReserved(t *testing.T) {
	held := 0
	counts := new(bounds.Counts)
	load := newExitLoad(counts, freeLookups{}, func(size int) func() {
		if held+size > 3*waitingChunk {
			return nil
		}
		held += size
		return func() { held -= size }
	})
	const size = waitingChunk / 4
	n := 0
	for load.takeWaiting(size) {
		n++
	}
	if n != 12 || held != 3*waitingChunk || counts.Of(bounds.Memory) != 1 {
		t.Errorf("%d wait, %d bytes are held, %d refused", n, held, counts.Of(bounds.Memory))
	}
	for range n {
		load.leaveWaiting(size)
	}
	if held != 0 {
		t.Errorf("%d bytes are held in the end", held)
	}
}

// An association that sends to very many targets, names and addresses, is bounded in what it
// remembers, looks up at a time and keeps during lookups.
func TestExitTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, _ := muxPair(t)
		stream, err := near.OpenFlowAtOnce("")
		if err != nil {
			t.Fatal(err)
		}
		rules := new(unansweredNames)
		conn, err := net.ListenUDP(
			"udp",
			net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")),
		)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		load := newExitLoad(nil, freeLookups{}, freely)
		e := newRemoteExit(newFlow(stream), conn, func() remoteRules { return rules }, load)
		defer stream.Close()
		for i := range 3 * maxTargets {
			name := endpoint{name: fmt.Sprint("host", i, ".test"), port: 9}
			for range 2 * maxWaitingDatagrams {
				e.write(e.route(t.Context(), name, nil), nil)
			}
			address := endpoint{
				addr: netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}),
				port: 9,
			}
			e.write(e.route(t.Context(), address, nil), nil)
		}
		synctest.Wait()
		waiting := 0
		lookups := rules.lookups.Load()
		e.mu.Lock()
		for _, known := range e.targets {
			waiting += len(known.waiting)
		}
		if len(e.targets) > maxTargets || e.pending != maxLookups || lookups != maxLookups ||
			waiting != maxLookups*maxWaitingDatagrams {
			t.Errorf(
				"%d targets, %d pending, %d lookups, %d datagrams",
				len(e.targets),
				e.pending,
				lookups,
				waiting,
			)
		}
		if len(e.contacts) > maxContacts || len(e.contacts) == 0 {
			t.Errorf("%d contacts", len(e.contacts))
		}
		e.mu.Unlock()
		e.lookups.Wait() // for their timeouts
		e.route(t.Context(), endpoint{name: "another.test", port: 9}, nil)
		e.lookups.Wait()
		if lookups := rules.lookups.Load(); lookups != maxLookups+1 {
			t.Errorf("%d lookups once there is room", lookups)
		}
	})
}

// The associations of one client share bounds, which it can't raise by having many, and give back
// what they took.
func TestExitsShareTheirBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, _ := muxPair(t)
		rules, load := new(unansweredNames), newExitLoad(nil, freeLookups{}, freely)
		payload := make([]byte, 60_000)
		var exits []*remoteExit
		for range 2 * maxClientLookups / maxLookups {
			stream, err := near.OpenFlowAtOnce("")
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Close()
			conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			exits = append(exits,
				newRemoteExit(newFlow(stream), conn, func() remoteRules { return rules }, load))
		}
		for _, e := range exits {
			for i := range 2 * maxTargets {
				target := endpoint{name: fmt.Sprint("host", i, ".test"), port: 9}
				for range maxWaitingDatagrams {
					e.route(t.Context(), target, payload)
				}
				address := netip.AddrFrom4([4]byte{127, 2, byte(i >> 8), byte(i)})
				e.route(t.Context(), endpoint{addr: address, port: 9}, nil)
			}
			for i := range 2 * maxContacts {
				e.remember(netip.AddrFrom4([4]byte{127, 3, byte(i >> 8), byte(i)}))
			}
		}
		synctest.Wait()
		if n := rules.lookups.Load(); n != maxClientLookups {
			t.Errorf("%d lookups", n)
		}
		waiting, targets, contacts := 0, 0, 0
		for _, e := range exits {
			e.mu.Lock()
			for _, known := range e.targets {
				for _, p := range known.waiting {
					waiting += len(p)
				}
			}
			targets += len(e.targets)
			contacts += len(e.contacts)
			e.mu.Unlock()
		}
		if waiting > maxClientWaiting || waiting < maxClientWaiting-len(payload) ||
			targets != maxClientTargets || contacts != maxClientContacts {
			t.Errorf("%d bytes wait; %d targets, %d contacts", waiting, targets, contacts)
		}
		for _, e := range exits {
			e.lookups.Wait() // for their timeouts
			e.leave()
		}
		for _, left := range []*quantity{&load.lookups, &load.waiting, &load.targets, &load.contacts} {
			if n := left.taken.Load(); n != 0 {
				t.Errorf("%d not given back", n)
			}
		}
	})
}

// testedNames are rules whose lookups a test answers. They allow everything.
type testedNames struct {
	*policy.Rules
	answers chan nameAnswer
}

type nameAnswer struct {
	addrs []netip.AddrPort
	err   error
}

func (n *testedNames) Resolve(
	ctx context.Context, _, _ string, _ uint16,
) ([]netip.AddrPort, error) {
	select {
	case answer := <-n.answers:
		return slices.Clone(answer.addrs), answer.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func newTestedNames() *testedNames { return &testedNames{answers: make(chan nameAnswer)} }

// startExit returns an exit for synctest bubbles that follows the rules which a function returns.
func startExit(t *testing.T, rules func() remoteRules) *remoteExit {
	t.Helper()
	near, _ := muxPair(t)
	stream, err := near.OpenFlowAtOnce("")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	e := newRemoteExit(newFlow(stream), conn, rules,
		newExitLoad(nil, freeLookups{}, freely))
	t.Cleanup(func() {
		e.lookups.Wait()
		conn.Close()
		stream.Close()
	})
	return e
}

// loopbackAddrs are addresses of a target, one for each letter.
func loopbackAddrs(letters string) (addrs []netip.AddrPort) {
	for _, letter := range []byte(letters) {
		addrs = append(addrs, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 4, 0, letter}), 9))
	}
	return addrs
}

// A flow to a name goes on while the name is looked up again, and afterwards stays at its server if
// that is still there. It ends when the name is gone or forbidden, and not when the resolver fails.
func TestExitKeepsItsServer(t *testing.T) {
	servfail := &net.DNSError{Err: "server misbehaving", IsTemporary: true}
	missing := &net.DNSError{Err: "no such host", IsNotFound: true}
	for name, test := range map[string]struct {
		answer nameAnswer
		want   string // where datagrams go, the first one first, after AB
		life   time.Duration
	}{
		"the same":      {nameAnswer{addrs: loopbackAddrs("AB")}, "AB", targetLife},
		"rotated":       {nameAnswer{addrs: loopbackAddrs("BA")}, "AB", targetLife},
		"new ones":      {nameAnswer{addrs: loopbackAddrs("CDBA")}, "ABCD", targetLife},
		"first gone":    {nameAnswer{addrs: loopbackAddrs("CB")}, "BC", targetLife},
		"all gone":      {nameAnswer{addrs: loopbackAddrs("DC")}, "DC", targetLife},
		"resolver ill":  {nameAnswer{err: servfail}, "AB", noTargetLife},
		"timeout":       {nameAnswer{err: context.DeadlineExceeded}, "AB", noTargetLife},
		"not found":     {nameAnswer{err: missing}, "", noTargetLife},
		"now forbidden": {nameAnswer{err: policy.ErrNotAllowed}, "", noTargetLife},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rules, target := newTestedNames(), endpoint{name: "server.test", port: 9}
				e := startExit(t, func() remoteRules { return rules })
				routes := func(when, want string) {
					t.Helper()
					got := e.route(t.Context(), target, []byte("datagram"))
					if !slices.Equal(got, loopbackAddrs(want)) {
						t.Errorf("%s: %v, want %s", when, got, want)
					}
					synctest.Wait()
				}
				routes("at first", "")
				rules.answers <- nameAnswer{addrs: loopbackAddrs("AB")}
				synctest.Wait()
				time.Sleep(targetLife)
				routes("during the lookup", "AB")
				if e.load.waiting.taken.Load() != 0 {
					t.Error("a datagram waits")
				}
				rules.answers <- test.answer
				synctest.Wait()
				routes("after the lookup", test.want)
				time.Sleep(test.life - 1)
				routes("until the next", test.want)
				if e.pending != 0 {
					t.Error("it is looked up again too soon")
				}
				time.Sleep(time.Nanosecond)
				routes("during the next", test.want)
				if e.pending != 1 {
					t.Error("it is not looked up again")
				}
			})
		})
	}
}

// A flow to a name goes on when there are too many lookups to look it up again.
func TestExitWithoutALookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rules, target := newTestedNames(), endpoint{name: "server.test", port: 9}
		e := startExit(t, func() remoteRules { return rules })
		e.route(t.Context(), target, nil)
		rules.answers <- nameAnswer{addrs: loopbackAddrs("A")}
		time.Sleep(targetLife)
		for i := range maxLookups {
			e.route(t.Context(), endpoint{name: fmt.Sprint("slow", i, ".test"), port: 9}, nil)
		}
		for range 2 {
			if got := e.route(t.Context(), target, nil); !slices.Equal(got, loopbackAddrs("A")) {
				t.Errorf("sends to %v", got)
			}
		}
		e.lookups.Wait() // for their timeouts
		if got := e.route(t.Context(), target, nil); len(got) != 1 || e.pending != 1 {
			t.Errorf("sends to %v, with %d lookups, once there is room", got, e.pending)
		}
	})
}

// What rules have allowed is not used once others hold: neither while they look the name up, nor
// for what has waited for a lookup under the earlier ones.
func TestExitReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before, after := newTestedNames(), newTestedNames()
		rules := before
		e := startExit(t, func() remoteRules { return rules })
		known, waits := endpoint{name: "a.test", port: 9}, endpoint{name: "b.test", port: 9}
		e.route(t.Context(), known, nil)
		before.answers <- nameAnswer{addrs: loopbackAddrs("A")}
		time.Sleep(targetLife)
		if got := e.route(t.Context(), known, nil); len(got) != 1 {
			t.Fatalf("sends to %v before", got)
		}
		clear(e.contacts)
		e.route(t.Context(), waits, nil)
		rules = after
		synctest.Wait()
		for range 2 { // lookups under the earlier rules end meanwhile
			if got := e.route(t.Context(), known, nil); got != nil {
				t.Errorf("sends to %v", got)
			}
			before.answers <- nameAnswer{addrs: loopbackAddrs("A")}
			synctest.Wait()
		}
		if len(e.contacts) != 0 {
			t.Errorf("has sent to %v", e.contacts)
		}
		after.answers <- nameAnswer{addrs: loopbackAddrs("B")}
		synctest.Wait()
		if got := e.route(t.Context(), known, nil); !slices.Equal(got, loopbackAddrs("B")) {
			t.Errorf("sends to %v in the end", got)
		}
	})
}

// Datagrams to targets that the rules forbid, by address or by name, do not arrive and don't
// disturb others. After a reload the new rules hold.
func TestAssociationRules(t *testing.T) {
	local, remote := startUDPTunnel(t)
	var got atomic.Int64
	echo := testnet.ServeUDP(
		t,
		"127.0.0.1:0",
		func(conn *net.UDPConn, p []byte, from netip.AddrPort) { conn.WriteToUDPAddrPort(p, from) },
	)
	forbidden := testnet.ServeUDP(
		t,
		"127.0.0.66:"+strconv.Itoa(int(echo.Port())),
		func(*net.UDPConn, []byte, netip.AddrPort) { got.Add(1) },
	)
	a := associate(t, local)
	for _, host := range []string{
		"127.0.0.66", "::ffff:127.0.0.66", "rebound.test", "denied.test", "slow.test",
	} {
		if err := a.Send(host, forbidden.Port(), []byte("forbidden")); err != nil {
			t.Fatal(err)
		}
	}
	// When the answer arrives, the datagrams before it would have been sent.
	for range 3 {
		if got := askAssociation(
			t, a, "known.test", echo.Port(), []byte("allowed"), echo,
		); string(got) != "allowed" {
			t.Errorf("received %q", got)
		}
	}
	if n := got.Load(); n != 0 {
		t.Errorf("%d forbidden datagrams have arrived", n)
	}
	if err := remote.Reload(remote.cfg.Identity, remote.cfg.Trust, policy.Rights{}); err != nil {
		t.Fatal(err)
	}
	until(t, "a datagram arrives that is allowed now", func() bool {
		if err := a.Send("127.0.0.66", forbidden.Port(), []byte("allowed now")); err != nil {
			t.Fatal(err)
		}
		askAssociation(t, a, "127.0.0.1", echo.Port(), nil, echo)
		return got.Load() > 0
	})
}
