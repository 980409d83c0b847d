package mux

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// measure pings until both sessions know the round trip of their carrier.
func (r *rig) measure(oneWay time.Duration) (rtt time.Duration) {
	r.t.Helper()
	r.carrier.delay, r.far.delay = oneWay, oneWay
	for _, s := range []*Session{r.client, r.server} {
		var err error
		for range 64 { // the average forgets the shorter ones
			if rtt, err = s.Ping(context.Background()); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	return rtt
}

// lossAfter waits until a session has lost its carrier to silence.
func lossAfter(t *testing.T, s *Session) time.Duration {
	t.Helper()
	began := time.Now()
	if err := s.AwaitLoss(context.Background()); err != nil ||
		!errors.Is(s.LossCause(), ErrPeerSilent) {
		t.Fatalf("%v, carrier lost to: %v", err, s.LossCause())
	}
	return time.Since(began)
}

// TestProbe probes dead carriers of several round trips: they are ended after four of them, or half
// a second, and repeated probes do not delay that.
func TestProbe(t *testing.T) {
	for _, oneWay := range []time.Duration{time.Millisecond, 20 * time.Millisecond,
		750 * time.Millisecond} {
		for _, again := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, HostConfig{}, Config{})
				rtt := r.measure(oneWay)
				r.far.freeze()
				if again {
					every(t, 50*time.Millisecond, r.client.Probe)
				}
				r.client.Probe()
				want := max(probePatience, 4*rtt)
				if took := lossAfter(t, r.client); took < want-rtt || took > want+rtt/20 {
					t.Errorf("%v one way: after %v, want %v", oneWay, took, want)
				}
			})
		}
	}
}

// TestProbeIsAnswered probes carriers that work: they stay.
func TestProbeIsAnswered(t *testing.T) {
	for _, oneWay := range []time.Duration{time.Millisecond, 40 * time.Millisecond,
		750 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, HostConfig{}, Config{})
			r.measure(oneWay)
			for range 10 {
				r.client.Probe()
				r.server.Probe()
				time.Sleep(2 * time.Second)
			}
			if r.client.LossCause() != nil || r.server.LossCause() != nil {
				t.Errorf("%v one way: lost: %v, %v", oneWay, r.client.LossCause(), r.server.LossCause())
			}
		})
	}
}

// TestProbesAllTheTime probes a carrier that works more often than its round trip, as where the
// machine's routes change without end: it stays, and pings are answered. When it dies, that is
// noticed as soon as ever.
func TestProbesAllTheTime(t *testing.T) {
	for _, oneWay := range []time.Duration{40 * time.Millisecond, 150 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, HostConfig{}, Config{})
			rtt := r.measure(oneWay)
			every(t, 100*time.Millisecond, r.client.Probe)
			for range 20 {
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				took, err := r.client.Ping(ctx)
				cancel()
				if err != nil || took > 2*rtt {
					t.Fatalf("%v one way: a ping took %v: %v", oneWay, took, err)
				}
				time.Sleep(130 * time.Millisecond) // synctest
			}
			if err := r.client.LossCause(); err != nil {
				t.Fatalf("%v one way: lost: %v", oneWay, err)
			}
			r.far.freeze()
			want := max(probePatience, 4*rtt)
			// A pong may be on its way, and the next probe is not queued at once.
			if took := lossAfter(t, r.client); took > want+rtt+100*time.Millisecond {
				t.Errorf("%v one way: after %v, want %v", oneWay, took, want)
			}
		})
	}
}

// TestProbeAgain shows that a probe which comes while another one is under way is made behind that:
// the path may have changed since.
func TestProbeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, HostConfig{}, Config{})
		r.measure(150 * time.Millisecond)
		issued := func() uint64 {
			r.client.mu.Lock()
			defer r.client.mu.Unlock()
			return r.client.pings.issued
		}
		before := issued()
		r.client.Probe()
		time.Sleep(100 * time.Millisecond) // synctest
		r.client.Probe()
		r.client.Probe()
		time.Sleep(time.Second) // synctest
		if n := issued() - before; n != 2 {
			t.Errorf("%d pings, want 2", n)
		}
	})
}

// TestProbeIgnoresWhatWasOnItsWay ends a carrier while data is on its way: what still arrives does
// not answer the probe, and the time runs from its end.
func TestProbeIgnoresWhatWasOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, HostConfig{}, Config{})
		r.measure(20 * time.Millisecond)
		near, far := openPair(t, r.client, r.server)
		go near.Read(make([]byte, 1000))
		r.carrier.freeze() // the probe is never sent
		r.client.Probe()
		began := time.Now()
		for range 3 {
			time.Sleep(300 * time.Millisecond)
			if _, err := far.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		lossAfter(t, r.client)
		want := 900*time.Millisecond + 20*time.Millisecond + probePatience
		if took := time.Since(began); took < want || took > want+50*time.Millisecond {
			t.Errorf("after %v, want %v", took, want)
		}
	})
}

// TestProbeWithoutResumption probes a session that ends with its carrier: it gets the usual
// patience.
func TestProbeWithoutResumption(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := newRawClient(t, Config{}, rawHello)
		s.Probe()
		p.until(kindPing)
		began := time.Now()
		if err := s.Wait(); !errors.Is(err, ErrPeerSilent) || time.Since(began) != DefaultPatience {
			t.Errorf("after %v the session ended with %v", time.Since(began), err)
		}
		s.Probe() // of no carrier
	})
}

// TestQuiet ends a carrier while only one side is receiving: that side notices, whichever it is.
func TestQuiet(t *testing.T) {
	for _, receiver := range []string{"client", "server"} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, HostConfig{}, Config{})
			r.measure(20 * time.Millisecond)
			to, from := openPair(t, r.client, r.server)
			reading, sending := r.client, r.far
			if receiver == "server" {
				to, from = from, to
				reading, sending = r.server, r.carrier
			}
			go func() {
				for buf := make([]byte, 1000); ; {
					if _, err := to.Read(buf); err != nil {
						return
					}
				}
			}()
			for range 20 {
				from.Write(make([]byte, 500))
				time.Sleep(100 * time.Millisecond)
			}
			r.carrier.freeze()
			sending.freeze()
			r.far.freeze()
			want := quietTime + DefaultPatience
			if took := lossAfter(t, reading); took > want || took < want-200*time.Millisecond {
				t.Errorf("%s: after %v, want %v", receiver, took, want)
			}
			to.Close()
		})
	}
}

// TestQuietPingsOnce stops sending on a stream that stays open: one ping shows that the carrier
// works, and none follows until the keepalive. Without a stream there is no ping.
func TestQuietPingsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := newRawClient(t, Config{}, rawHello)
		st := p.accept(s, 1)
		p.send(wire(kindAck, 0, u64(headerSize)))
		for range 3 {
			p.send(wire(kindData, 1, make([]byte, 100)))
			p.quiet()
			time.Sleep(quietTime - 1)
			if pings := ofKind(p.quiet(), kindPing); len(pings) != 0 {
				t.Fatalf("%d pings early", len(pings))
			}
			time.Sleep(time.Nanosecond)
			pings := ofKind(p.quiet(), kindPing)
			if len(pings) != 1 {
				t.Fatalf("%d pings, want 1", len(pings))
			}
			p.send(wire(kindPong, 0, pings[0].payload))
			time.Sleep(DefaultKeepalive / 2)
			if pings := ofKind(p.quiet(), kindPing); len(pings) != 0 {
				t.Fatalf("%d pings of an idle carrier", len(pings))
			}
		}
		p.send(wire(kindData, 1, make([]byte, 100)))
		st.Close()
		p.send(wire(kindReset, 1, u16(CodeClosed)))
		p.quiet()
		time.Sleep(quietTime)
		if pings := ofKind(p.quiet(), kindPing); len(pings) != 0 {
			t.Errorf("%d pings without a stream", len(pings))
		}
	})
}

// TestDropCarrier: the session continues on the next carrier.
func TestDropCarrier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, HostConfig{}, Config{})
		gone := errors.New("the address is gone")
		old := r.carrier
		r.client.DropCarrier(r.far, errors.New("another carrier"))
		r.client.DropCarrier(old, gone)
		if err := r.client.AwaitLoss(context.Background()); err != nil || r.client.LossCause() != gone {
			t.Fatalf("%v, lost to %v", err, r.client.LossCause())
		}
		r.client.DropCarrier(old, errors.New("no carrier to drop"))
		r.resume()
		r.client.DropCarrier(old, errors.New("a carrier of before"))
		if _, err := r.client.Ping(context.Background()); err != nil || r.client.LossCause() != gone {
			t.Errorf("%v, lost to %v", err, r.client.LossCause())
		}
	})
}
