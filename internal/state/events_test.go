package state

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestEventsKept checks that the last events are kept, numbered and in order.
func TestEventsKept(t *testing.T) {
	t.Parallel()
	e := NewEvents()
	if got := e.Recent(); got == nil || len(got) != 0 {
		t.Errorf("at first: %v, want an empty list, which is [] in JSON", got)
	}
	for range maxEvents + 3 {
		e.Add(Event{Kind: EventResumed, Reason: strings.Repeat("x", 2*maxReason)})
	}
	got := e.Recent()
	if len(got) != maxEvents || got[0].Seq != 4 || got[maxEvents-1].Seq != maxEvents+3 {
		t.Fatalf("%d events, from %d to %d", len(got), got[0].Seq, got[len(got)-1].Seq)
	}
	if got[0].Time.IsZero() || len(got[0].Reason) != maxReason {
		t.Errorf("an event at %v with a reason of %d bytes", got[0].Time, len(got[0].Reason))
	}
	var none *Events
	none.Add(Event{})
	if got := none.Recent(); got == nil || len(got) != 0 {
		t.Errorf("a nil Events has %v", got)
	}
}

// TestEventsSlowObserver checks that nothing waits for an observer that doesn't receive, and that
// the observer can tell what it has missed.
func TestEventsSlowObserver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		e := NewEvents()
		slow, quick := e.Subscribe(ctx), e.Subscribe(ctx)
		for n := range maxPending + 5 {
			e.Add(Event{Kind: EventCarrierLost})
			if got := <-quick; got.Seq != uint64(n+1) {
				t.Errorf("event %d, want %d", got.Seq, n+1)
			}
		}
		for range maxPending {
			<-slow
		}
		e.Add(Event{Kind: EventResumed})
		if got := <-slow; got.Seq != maxPending+6 {
			t.Errorf("after a gap: event %d, want %d", got.Seq, maxPending+6)
		}
		cancel()
		synctest.Wait()
		if _, open := <-slow; open {
			t.Error("the channel is open after ctx is done")
		}
		e.Add(Event{}) // must not be sent on the closed channel
	})
}

// TestSourceRates checks that rates are measured over a time that is neither too short nor long
// past, and that many observers make no more snapshots than one.
func TestSourceRates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began, taken := time.Now(), 0
		source := NewSource(func() State {
			taken++
			sent := uint64(1000 * time.Since(began).Seconds())
			traffic := Traffic{SentBytes: sent, ReceivedBytes: 2 * sent}
			return State{
				Sessions: []Session{{ID: "a", Traffic: traffic}},
				Streams: []Stream{
					{ID: 1, Session: "a", Traffic: traffic},
					{ID: uint32(10 + taken), Session: "a", Since: began, Traffic: traffic},
				},
				Totals: Totals{Traffic: traffic},
			}
		})
		check := func(when string) {
			t.Helper()
			got := source.State(t.Context())
			rates := []Traffic{got.Totals.Traffic, got.Sessions[0].Traffic, got.Streams[0].Traffic}
			for _, r := range rates {
				if r.SentRate < 990 || r.SentRate > 1010 || r.ReceivedRate < 1990 || r.ReceivedRate > 2010 {
					t.Errorf("%s: rates %.0f and %.0f", when, r.SentRate, r.ReceivedRate)
				}
			}
			if r := got.Streams[1]; r.SentRate != 0 || r.ReceivedRate != 0 {
				t.Errorf("%s: a stream that was not in the snapshot before has rates %+v", when, r)
			}
			if got.Version != Version || !got.Time.Equal(time.Now()) {
				t.Errorf("%s: version %d, time %v", when, got.Version, got.Time)
			}
		}
		time.Sleep(time.Minute)
		check("at first")
		time.Sleep(time.Second)
		check("a second later")
		time.Sleep(time.Minute)
		check("a minute later")
		before := taken
		for range 100 {
			source.State(t.Context())
		}
		if taken != before {
			t.Errorf("%d snapshots for observers at the same time", taken-before)
		}
		time.Sleep(time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if got := source.State(ctx); got.Totals.SentRate != 0 {
			t.Errorf("without waiting: rate %.0f", got.Totals.SentRate)
		}
	})
}
