package tunnel

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"culvert/protocol"
)

// A penalty adds up, slows first and then refuses until it is over, and has a limit.
func TestPenalties(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPenalties()
		a, b := sourceOf(netip.MustParseAddr("192.0.2.1")), sourceOf(netip.MustParseAddr("2001:db8::1"))
		expect := func(what string, from source, want time.Duration, refuse bool) {
			t.Helper()
			if left, got := p.of(from); left != want || got != refuse {
				t.Errorf("%s: %v, refused %v, want %v, %v", what, left, got, want, refuse)
			}
		}
		expect("nothing yet", a, 0, false)
		p.add(a, penaltyFailed)
		p.add(a, penaltyFailed)
		expect("two failures", a, 2*penaltyFailed, false)
		time.Sleep(2 * penaltyFailed)
		expect("forgotten", a, 0, false)
		for i := range 3 {
			if refused := p.add(a, penaltyFailed); refused != (i == 2) {
				t.Errorf("failure %d: refused %v", i, refused)
			}
		}
		expect("three failures", a, 3*penaltyFailed, true)
		time.Sleep(penaltyFailed)
		expect("a while later", a, 2*penaltyFailed, true)
		expect("another address", b, 0, false)
		for range 1000 {
			p.add(a, penaltyTimeout)
		}
		expect("many failures", a, maxPenalty, true)
		time.Sleep(maxPenalty)
		expect("over", a, 0, false)
		if len(p.sources) != 0 {
			t.Errorf("%d sources are remembered", len(p.sources))
		}
		for range 10 {
			p.add(source{}, penaltyTimeout)
		}
		expect("an unknown source", source{}, 0, false)
	})
}

// However many sources fail, their number is bounded, and those with long penalties stay.
func TestPenaltiesBound(t *testing.T) {
	p := newPenalties()
	long := sourceOf(netip.MustParseAddr("192.0.2.1"))
	p.add(long, maxPenalty)
	for i := range 2 * maxPenalized {
		p.add(sourceOf(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})), penaltyLeft)
	}
	if n := len(p.sources); n > maxPenalized {
		t.Errorf("%d sources", n)
	}
	if _, refuse := p.of(long); !refuse {
		t.Error("the longest penalty was forgotten")
	}
}

func TestPenaltyFor(t *testing.T) {
	for _, test := range []struct {
		err  error
		want time.Duration
	}{
		{&protocol.HandshakeError{Code: protocol.CloseNotAdmitted, Err: protocol.ErrNotAdmitted},
			penaltyFailed},
		{&protocol.HandshakeError{Code: protocol.CloseBadMessage, Err: protocol.ErrBadMessage},
			penaltyFailed},
		{&protocol.HandshakeError{Code: protocol.CloseTimeout, Err: protocol.ErrTimeout},
			penaltyTimeout},
		{&protocol.HandshakeError{Err: errDisplaced}, penaltyLeft},
		{&protocol.HandshakeError{Err: &protocol.RefusedError{Code: protocol.CloseIdentity}},
			penaltyLeft},
		{&protocol.HandshakeError{Code: protocol.CloseInternal, Err: errDisplaced}, 0},
	} {
		if got := penaltyFor(fmt.Errorf("wrapped: %w", test.err)); got != test.want {
			t.Errorf("%v: %v, want %v", test.err, got, test.want)
		}
	}
}
