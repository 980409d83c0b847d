package tunnel

import (
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"culvert/certs"
	"culvert/internal/bounds"
	"culvert/internal/testnet"
)

// TestHandshakeRateReturning: while new clients take all that they get, clients with a session get
// in at up to the full rate.
func TestHandshakeRateReturning(t *testing.T) {
	const most = 100
	h := newHandshakeRate(most)
	now := time.Now()
	var fresh, returned, refused int
	for range 10 * 1000 { // milliseconds
		now = now.Add(time.Millisecond)
		for range 3 {
			if _, _, ok := h.take(now, source{}, false); ok {
				fresh++
			}
		}
		if now.UnixMilli()%20 == 0 {
			if _, _, ok := h.take(now, source{}, true); ok {
				returned++
			} else {
				refused++
			}
		}
	}
	if refused > 0 {
		t.Errorf("%d of %d returning clients were refused", refused, returned+refused)
	}
	if total := fresh + returned; total > 10*most || total < 7*most {
		t.Errorf("%d handshakes in 10 s, at most %d a second", total, most)
	}
}

// TestHandshakeRateOfSource: one address can't take all handshakes of a second, whether it has a
// session or not, and others are not told to stay away for long because of it.
func TestHandshakeRateOfSource(t *testing.T) {
	const most = 100
	for _, returning := range []bool{false, true} {
		h := newHandshakeRate(most)
		greedy := netip.MustParsePrefix("192.0.2.1/32")
		other := netip.MustParsePrefix("192.0.2.2/32")
		now := time.Now()
		var taken, itsOwn, refused int
		var longest time.Duration
		for range 10 * 1000 { // milliseconds
			now = now.Add(time.Millisecond)
			if _, bound, ok := h.take(now, greedy, returning); ok {
				taken++
			} else if bound == bounds.SourceHandshakeRate {
				itsOwn++
			}
			if now.UnixMilli()%50 == 0 {
				if after, bound, ok := h.take(now, other, returning); !ok {
					if bound != bounds.HandshakeRate {
						t.Errorf("another address is refused by the bound %v", bound)
					}
					refused++
					longest = max(longest, after)
				}
			}
		}
		if taken > 11*most/handshakeSourcePart || itsOwn == 0 || refused > 30 ||
			longest > 3*time.Second {
			t.Errorf("returning %v: it took %d of %d, was refused %d times because of that, and "+
				"another address %d of 200 times, for %v at most",
				returning, taken, 10*most, itsOwn, refused, longest)
		}
	}
}

// TestHandshakeLater: no client is told to come later than handshakeTurnMost, however many there
// are, and each to come a second later at least.
func TestHandshakeLater(t *testing.T) {
	h := newHandshakeRate(1)
	now := time.Now()
	h.take(now, source{}, true)
	told := map[time.Duration]int{}
	for range 1000 {
		after, _, ok := h.take(now, source{}, false)
		if ok || after < time.Second || after > handshakeTurnMost+time.Second {
			t.Fatalf("%v, %v", after, ok)
		}
		told[after]++
	}
	if len(told) < 30 {
		t.Errorf("they all come at %d seconds: %v", len(told), told)
	}
}

// TestMaxHandshakeRate: clients beyond the rate get 503 and are told when to come. They do, until
// all are there.
func TestMaxHandshakeRate(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	counts := new(bounds.Counts)
	r := serveRemote(t, trustKeys(t, key), false, func(cfg *RemoteConfig) {
		cfg.MaxHandshakeRate = 10
		cfg.Bounds = counts
	})
	refused := r.refuses(t, key)
	if refused.Code != http.StatusServiceUnavailable || refused.RetryAfter != time.Second {
		t.Errorf("a client too many: %v, to come after %v", refused, refused.RetryAfter)
	}
	if counts.Of(bounds.HandshakeRate) == 0 {
		t.Error("it was not counted")
	}
	address, err := ParseAddress("ws://" + r.address + "/")
	if err != nil {
		t.Fatal(err)
	}
	var locals []*Local
	for range 5 {
		local, _ := startLocal(t, LocalConfig{
			Address: address, Key: key, VerifyRemote: (&testRemote{key: r.key}).pin,
			Wait: patience,
		})
		locals = append(locals, local)
	}
	for _, local := range locals {
		if _, err := local.WaitSession(testnet.Within(t, patience)); err != nil {
			t.Error(err)
		}
	}
}

// refuses lets a client connect until it is refused, and returns how.
func (r servedRemote) refuses(t *testing.T, key *certs.KeyPair) (refused *StatusError) {
	t.Helper()
	for tries := 0; refused == nil; tries++ {
		if tries == 1000 {
			t.Fatal("no client is refused")
		}
		if err := r.connect(t, key); err != nil && !errors.As(err, &refused) {
			t.Fatal(err)
		}
	}
	return refused
}

// TestMaxHandshakeRateBehindFallback: with a site to hide behind, nobody is told of the rate.
func TestMaxHandshakeRateBehindFallback(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	site := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(site.Close)
	r := serveRemote(t, trustKeys(t, key), false, func(cfg *RemoteConfig) {
		cfg.MaxHandshakeRate = 1
		cfg.Fallback, _ = url.Parse(site.URL)
	})
	refused := r.refuses(t, key)
	if refused.Code != http.StatusNotFound || refused.RetryAfter != 0 {
		t.Errorf("%v, to come after %v", refused, refused.RetryAfter)
	}
}

// herd is what a simulation of the clients of a lost node has shown.
type herd struct {
	back         time.Duration // until all had a session again
	mostAdmitted int           // in any second
	requests     int           // that it took
}

// herdClient is a local without a session.
type herdClient struct {
	due   time.Time // of its next attempt
	pause backoff
}

// herdQueue has the clients in the order of their next attempts.
type herdQueue []*herdClient

func (q herdQueue) Len() int           { return len(q) }
func (q herdQueue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q herdQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *herdQueue) Push(c any)        { *q = append(*q, c.(*herdClient)) }
func (q *herdQueue) Pop() any {
	old := *q
	c := old[len(old)-1]
	*q = old[:len(old)-1]
	return c
}

// simulateHerd lets clients lose their node at the same time and come to another one, with the
// pauses that locals make, and the rate of handshakes that remotes have. The news reaches them
// within a tenth of a second. Without jitter, pauses are not random; without told, the node doesn't
// say when to come.
func simulateHerd(clients, most int, jitter, told bool) herd {
	random := rand.New(rand.NewPCG(1, 2))
	node := newHandshakeRate(most)
	node.random = random.Float64
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var queue herdQueue
	for range clients {
		c := &herdClient{due: began.Add(time.Duration(random.Int64N(int64(time.Second / 10))))}
		c.pause.jitter = func(most time.Duration) time.Duration {
			if !jitter {
				return most - 1
			}
			return time.Duration(random.Int64N(int64(most)))
		}
		c.pause.next() // the first attempt is due at once
		queue = append(queue, c)
	}
	heap.Init(&queue)
	requests := 0
	var admitted []time.Time
	for len(queue) > 0 {
		c := queue[0]
		requests++
		after, _, ok := node.take(c.due, source{}, false)
		if ok {
			admitted = append(admitted, c.due)
			heap.Pop(&queue)
			continue
		}
		if told {
			c.pause.asked = min(after, maxRetryAfter)
		}
		c.due = c.due.Add(c.pause.next())
		heap.Fix(&queue, 0)
	}
	return herd{
		back:         admitted[len(admitted)-1].Sub(began),
		mostAdmitted: mostInASecond(admitted),
		requests:     requests,
	}
}

// mostInASecond returns how many of the times, which are sorted, are in any second at most.
func mostInASecond(times []time.Time) (most int) {
	first := 0
	for i, at := range times {
		for at.Sub(times[first]) >= time.Second {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// TestHerd: 10,000 clients that lose their node at once are all back on another one, which begins
// no more handshakes than it should, in about the time that this takes at least. docs/scale.md has
// the figures.
func TestHerd(t *testing.T) {
	doc, err := os.ReadFile("../docs/scale.md")
	if err != nil {
		t.Fatal(err)
	}
	const clients = 10_000
	for _, v := range []struct {
		most         int
		jitter, told bool
	}{
		{DefaultMaxHandshakeRate, true, true},
		{DefaultMaxHandshakeRate, false, true},
		{DefaultMaxHandshakeRate, true, false},
		{4000, true, true},
	} {
		h := simulateHerd(clients, v.most, v.jitter, v.told)
		word := map[bool]string{true: "yes", false: "no"}
		row := fmt.Sprintf("| %d | %s | %s | %.0f | %d | %.1f |", v.most, word[v.jitter],
			word[v.told], h.back.Seconds(), h.mostAdmitted, float64(h.requests)/clients)
		if !strings.Contains(string(doc), row) {
			t.Errorf("docs/scale.md lacks the row %s", row)
		}
		if h.mostAdmitted > v.most {
			t.Errorf("%d handshakes in a second, at most %d", h.mostAdmitted, v.most)
		}
		least := time.Duration(clients/v.most) * time.Second
		if v.jitter && v.told && h.back > 2*least+2*askedJitter {
			t.Errorf("all are back after %v, at the full rate after %v", h.back, least)
		}
	}
}
