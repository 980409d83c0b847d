package mux

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// simPath is a path in plain arithmetic, with a session's sender before it that keeps to its flight: a bottleneck of a rate
// with a queue without end, then a delay, until the peer's acknowledgement is back. It goes on in small steps.
type simPath struct {
	f         flight
	now       time.Time
	rate      float64       // of the bottleneck, bytes a second
	roundTrip time.Duration // without queue
	demand    float64       // what there is to send, bytes a second; 0 for without end
	window    float64       // bytes that TCP has on its way at most; 0 for no limit
	lossEvery time.Duration // TCP loses something so often, 0 for never, and what came behind it is late
	rival     time.Duration // what somebody else's data adds to the queue

	offered float64 // bytes that there were to send
	sent    float64 // bytes
	served  float64 // bytes that are through the bottleneck
	acked   uint64
	held    uint64 // served before the present loss
	lostAt  time.Time
	timed   uint64
	timedAt time.Time
	ackedAt time.Time // when the peer last acknowledged
	acks    []simAck  // on their way
}

type simAck struct {
	due      time.Time
	position uint64
}

// simStep is a step of the simulation.
const simStep = 100 * time.Microsecond

func newSimPath(rate float64, roundTrip time.Duration) *simPath {
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	p := &simPath{now: began, lostAt: began, rate: rate, roundTrip: roundTrip}
	p.f.reset(p.now, 0)
	return p
}

// run goes on for a time and calls each, unless it is nil, after every step.
func (p *simPath) run(d time.Duration, each func()) {
	for end := p.now.Add(d); p.now.Before(end); {
		p.now = p.now.Add(simStep)
		p.takeAcks()
		p.send()
		p.served = min(p.sent, p.served+p.rate*simStep.Seconds())
		p.acknowledge()
		if each != nil {
			each()
		}
	}
}

// send sends what there is, as much as the flight allows.
func (p *simPath) send() {
	p.offered += p.demand * simStep.Seconds()
	for !p.f.exceeded(uint64(p.sent)-p.acked) && (p.window == 0 || p.sent-float64(p.acked) < p.window) {
		if p.demand > 0 && p.sent >= p.offered {
			p.f.starved()
			return
		}
		p.sent += float64(p.f.frame)
		if p.timedAt.IsZero() {
			p.timed, p.timedAt = uint64(p.sent), p.now
		}
	}
}

// acknowledge has the peer acknowledge what has reached it, each ackInterval.
func (p *simPath) acknowledge() {
	arrived := uint64(p.served)
	if p.lossEvery > 0 {
		if p.now.Sub(p.lostAt) >= p.lossEvery {
			p.lostAt, p.held = p.now, arrived
		}
		switch since := p.now.Sub(p.lostAt); {
		case p.held == 0:
		case since < p.roundTrip:
			arrived = p.held
		case since < p.roundTrip+p.roundTrip/4: // until a second packet, lost with the first, is there
			arrived = min(arrived, p.held+uint64(p.rate*p.roundTrip.Seconds()/2))
		}
	}
	if p.now.Sub(p.ackedAt) < ackInterval {
		return
	}
	p.ackedAt = p.now
	p.acks = append(p.acks, simAck{p.now.Add(p.roundTrip + p.rival), arrived})
}

// takeAcks is what a session does with an acknowledgement.
func (p *simPath) takeAcks() {
	for len(p.acks) > 0 && !p.acks[0].due.After(p.now) {
		position := p.acks[0].position
		p.acks = p.acks[1:]
		if position <= p.acked {
			continue
		}
		p.acked = position
		p.f.acknowledged(p.now, position)
		if !p.timedAt.IsZero() && position >= p.timed {
			p.f.trip(p.now, p.now.Sub(p.timedAt))
			p.timedAt = time.Time{}
		}
	}
}

// observe runs for a time and returns what was delivered in bytes a second, and the mean and the longest queue in time.
func (p *simPath) observe(d time.Duration) (delivered float64, mean, longest time.Duration) {
	before, steps, sum := p.served, 0, 0.0
	p.run(d, func() {
		queue := (p.sent - p.served) / p.rate
		sum += queue
		steps++
		longest = max(longest, time.Duration(queue*float64(time.Second)))
	})
	return (p.served - before) / d.Seconds(), time.Duration(sum / float64(steps) * float64(time.Second)), longest
}

// near fails the test unless got is within a part of want.
func near(t *testing.T, what string, got, want, part float64) {
	t.Helper()
	if math.Abs(got-want) > part*want {
		t.Errorf("%s: %.0f, want %.0f within %.0f %%", what, got, want, 100*part)
	}
}

// checkSteady checks that the path is full and its queue short for some seconds: the rate is known, all of it but a few
// per cent is used, and no more stands in the queue than the slack, the frames that are sent whole, and what the cycle's
// probe adds for a round trip.
func checkSteady(t *testing.T, p *simPath) {
	t.Helper()
	delivered, mean, longest := p.observe(10 * time.Second)
	near(t, "rate", p.f.rate, p.rate, 0.02)
	near(t, "delivered", delivered, p.rate, 0.04)
	own := flightSlack + time.Duration(p.f.grain()/p.rate*float64(time.Second))
	if mean > 2*own+p.roundTrip/10 {
		t.Errorf("the queue lasts for %v, of its own are %v", mean, own)
	}
	if probe := p.roundTrip / 2; longest > 3*own+probe {
		t.Errorf("the longest queue lasts for %v, of its own are %v", longest, own)
	}
	if p.f.rivals {
		t.Error("its own queue is taken for somebody else's")
	}
	bound := p.rate*(p.f.path().Seconds()+flightSlack.Seconds()) + p.f.grain()
	if got := float64(p.f.limit); got < 0.75*bound || got > 1.3*bound {
		t.Errorf("the bound is %.0f, want about %.0f", got, bound)
	}
}

// simPaths are those that the bound is right for from the first seconds on. On slower ones, whole frames take longer
// than the round trip: see TestFlightSlowPath.
var simPaths = []struct {
	rate      float64
	roundTrip time.Duration
}{
	{1.25e6, 40 * time.Millisecond},
	{1.25e6, 100 * time.Millisecond},
	{6.25e6, 10 * time.Millisecond},
	{6.25e6, 40 * time.Millisecond},
	{6.25e6, 200 * time.Millisecond},
	{125e6, time.Millisecond},
	{125e6, 20 * time.Millisecond},
	{125e6, 100 * time.Millisecond},
}

func eachSimPath(t *testing.T, test func(t *testing.T, p *simPath)) {
	for _, c := range simPaths {
		t.Run(fmt.Sprintf("%.2fMB,%v", c.rate/1e6, c.roundTrip), func(t *testing.T) { test(t, newSimPath(c.rate, c.roundTrip)) })
	}
}

// TestFlightGrows: from nothing known, the bound comes to the path's product, and the path's round trip is found.
func TestFlightGrows(t *testing.T) {
	eachSimPath(t, func(t *testing.T, p *simPath) {
		p.run(20*p.roundTrip+time.Second, nil)
		checkSteady(t, p)
		if path := p.f.path(); path < p.roundTrip || path > p.roundTrip+2*flightSlack {
			t.Errorf("round trip %v, want %v", path, p.roundTrip)
		}
	})
}

// TestFlightFollowsSlowerPath: the path loses three quarters of its rate, so the bound comes from above.
func TestFlightFollowsSlowerPath(t *testing.T) {
	eachSimPath(t, func(t *testing.T, p *simPath) {
		p.run(5*time.Second, nil)
		p.rate /= 4
		p.run(3*rateWindows*p.f.path()+time.Second, nil)
		checkSteady(t, p)
	})
}

// TestFlightFollowsFasterPath: the path becomes four times as fast. Each cycle's probe adds an eighth at least, as a window
// counts half; where that is more than restartGrowth, the startup goes on and is done with it sooner.
func TestFlightFollowsFasterPath(t *testing.T) {
	eachSimPath(t, func(t *testing.T, p *simPath) {
		p.run(5*time.Second, nil)
		p.rate *= 4
		p.run(13*rateWindows*p.f.path()+time.Second, nil)
		near(t, "rate", p.f.rate, p.rate, 0.02)
	})
}

// TestFlightFollowsLongerPath: another way to the peer takes longer. After tripAge twice, the shorter round trip is forgotten.
func TestFlightFollowsLongerPath(t *testing.T) {
	p := newSimPath(6.25e6, 20*time.Millisecond)
	p.run(5*time.Second, nil)
	p.roundTrip = 80 * time.Millisecond
	p.run(3*tripAge, nil)
	if path := p.f.path(); path < p.roundTrip {
		t.Errorf("round trip %v, want %v", path, p.roundTrip)
	}
	checkSteady(t, p)
}

// TestFlightSlowPath: where two frames last longer than the round trip, the path still isn't left idle, and its own queue is
// not taken for somebody else's, which would double it.
func TestFlightSlowPath(t *testing.T) {
	for _, rate := range []float64{50e3, 250e3, 1.25e6} {
		p := newSimPath(rate, 10*time.Millisecond)
		p.run(10*time.Second, nil)
		delivered, mean, _ := p.observe(20 * time.Second)
		near(t, "rate", p.f.rate, rate, 0.02)
		near(t, "delivered", delivered, rate, 0.01)
		first := maxData / rate // seconds that the first frame takes: the least round trip of any
		if most := 2*first + p.f.grain()/rate + flightSlack.Seconds(); mean.Seconds() > most || p.f.rivals {
			t.Errorf("%.0f bytes a second: queue of %v, at most %.3f s expected; rivals: %v", rate, mean, most, p.f.rivals)
		}
	}
}

// TestFlightUnevenDelivery: what comes behind a loss arrives at once, after a while in which nothing did. That must not pass
// for a higher rate, nor for a much lower one.
func TestFlightUnevenDelivery(t *testing.T) {
	for _, every := range []time.Duration{300 * time.Millisecond, time.Second, 3 * time.Second} {
		p := newSimPath(6.25e6, 80*time.Millisecond)
		p.run(3*time.Second, nil)
		p.lossEvery = every
		least, most := p.f.rate, p.f.rate
		p.run(30*time.Second, func() {
			least, most = min(least, p.f.rate), max(most, p.f.rate)
		})
		t.Logf("a loss every %v: rate between %.2f and %.2f of the path's", every, least/p.rate, most/p.rate)
		if most > 1.05*p.rate || least < 0.5*p.rate {
			t.Errorf("a loss every %v: rate between %.0f and %.0f, the path's is %.0f", every, least, most, p.rate)
		}
	}
}

// simTransport is a transport below a simPath.
type simTransport struct {
	roundTrip, least time.Duration
	path             *simPath // whose queue comes on top of roundTrip, unless it is nil
	losing           bool     // something was lost since it was last asked
	resent           uint64
	silent           bool // tells nothing
}

func (t *simTransport) TransportPath() (roundTrip, least time.Duration, resent uint64, ok bool) {
	if t.losing {
		t.resent++
	}
	roundTrip = t.roundTrip
	if p := t.path; p != nil {
		roundTrip += time.Duration((p.sent - p.served) / p.rate * float64(time.Second))
	}
	return roundTrip, t.least, t.resent, !t.silent
}

// TestFlightLossyPath: where the transport says that it loses something and that there is no queue, the bound is not in TCP's
// way. Where it says that there is one, or ends at a proxy, or tells nothing, what it says of losses changes nothing.
func TestFlightLossyPath(t *testing.T) {
	const trip = 80 * time.Millisecond
	run := func(below TransportObserver) (delivered float64, lossy bool) {
		p := newSimPath(6.25e6, trip)
		p.f.below = below
		p.lossEvery = trip + trip/2
		p.run(10*time.Second, nil)
		p.run(20*time.Second, func() { lossy = lossy || p.f.lossy > 0 })
		delivered, _, _ = p.observe(20 * time.Second)
		return delivered / p.rate, lossy
	}
	before, _ := run(nil)
	if known, lossy := run(&simTransport{roundTrip: trip, least: trip, losing: true}); !lossy || known < 0.97 || known < before {
		t.Errorf("delivered %.2f of the path's rate where the losses are known (%v), %.2f elsewhere", known, lossy, before)
	}
	for name, below := range map[string]*simTransport{
		"queue":  {roundTrip: 2 * trip, least: trip, losing: true},
		"near":   {roundTrip: time.Millisecond, least: time.Millisecond, losing: true}, // the proxy that it ends at
		"far":    {roundTrip: 3 * trip / 4, least: 3 * trip / 4, losing: true},
		"silent": {silent: true, losing: true},
	} {
		if got, lossy := run(below); lossy || got != before {
			t.Errorf("%s: delivered %.3f of the path's rate, %.3f without; lossy: %v", name, got, before, lossy)
		}
	}
	t.Logf("delivered %.2f of the path's rate without a transport to ask", before)
}

// TestFlightNothingToDrain: while something else than the path is the limit, such as TCP's buffers, no queue stands in it. The
// bound stays above what is sent then; when the path is the limit it keeps the queue short as ever.
func TestFlightNothingToDrain(t *testing.T) {
	eachSimPath(t, func(t *testing.T, p *simPath) {
		p.f.below = &simTransport{roundTrip: p.roundTrip, least: p.roundTrip, path: p}
		p.window = p.rate * p.roundTrip.Seconds() / 2
		p.run(5*time.Second, nil)
		p.run(5*time.Second, func() {
			if p.f.started && float64(p.f.limit) < p.window {
				t.Fatalf("bound %d, TCP would have %.0f on its way", p.f.limit, p.window)
			}
		})
		p.window = 0
		p.run(5*time.Second, nil)
		checkSteady(t, p)
	})
}

// TestFlightBurstAfterLoss: the windows' deliveries go up and down, by little or, where the round trips show a loss, by much.
// What counts is their mean.
func TestFlightBurstAfterLoss(t *testing.T) {
	for _, c := range []struct {
		parts []float64 // of what the path carries
		trip  float64   // in round trips, of all but the last
	}{{[]float64{0.5, 1.5}, 1}, {[]float64{0.2, 0.2, 0.2, 3.4}, 2}} {
		p := newSimPath(6.25e6, 80*time.Millisecond)
		p.run(3*time.Second, nil)
		window := p.f.path()
		for i := range 100 * len(c.parts) {
			trip := window
			if part := i % len(c.parts); part < len(c.parts)-1 {
				trip = time.Duration(c.trip * float64(window))
			}
			p.now = p.now.Add(window)
			p.acked += uint64(c.parts[i%len(c.parts)] * p.rate * window.Seconds())
			p.f.trip(p.now, trip)
			p.f.acknowledged(p.now, p.acked)
			if p.f.rate > 1.02*p.rate || p.f.rate < 0.95*p.rate {
				t.Fatalf("%v, window %d: rate %.0f, the path's is %.0f", c.parts, i, p.f.rate, p.rate)
			}
		}
	}
}

// TestFlightIdle: windows in which there was little to send tell nothing of the path.
func TestFlightIdle(t *testing.T) {
	eachSimPath(t, func(t *testing.T, p *simPath) {
		p.run(5*time.Second, nil)
		rate, limit := p.f.rate, p.f.limit
		p.demand, p.offered = p.rate/50, p.sent
		p.run(time.Minute, nil)
		if p.f.rate < rate || float64(p.f.limit) < 0.7*float64(limit) {
			t.Errorf("rate %.0f before, %.0f after; bound %d before, %d after", rate, p.f.rate, limit, p.f.limit)
		}
		p.demand = 0
		p.run(20*p.roundTrip+time.Second, nil)
		checkSteady(t, p)
	})
}

// TestFlightIdleFromTheStart: a session that never had much to send knows a low rate, which is no bound for what comes.
func TestFlightIdleFromTheStart(t *testing.T) {
	p := newSimPath(6.25e6, 40*time.Millisecond)
	p.demand = 10e3
	p.run(time.Minute, nil)
	p.demand = 0
	p.run(20*p.roundTrip, nil)
	near(t, "rate after some round trips", p.f.rate, p.rate, 0.02)
}

// TestFlightRivals: where somebody else's data stands in the queue, the gain goes up, and down again when that has gone.
func TestFlightRivals(t *testing.T) {
	eachSimPath(t, func(t *testing.T, p *simPath) {
		p.run(2*time.Second, nil)
		p.rival = p.roundTrip + 2*p.f.ownQueue()
		p.run(3*time.Second, nil)
		if !p.f.rivals || p.f.gain() > rivalGain {
			t.Fatalf("rivals: %v, gain %v", p.f.rivals, p.f.gain())
		}
		steps, raised := 0, 0
		p.run(2*rateWindows*(p.roundTrip+p.rival), func() {
			steps++
			if p.f.gain() == rivalGain {
				raised++
			}
		})
		if raised < steps/2 {
			t.Errorf("the gain was raised for %d steps of %d", raised, steps)
		}
		p.rival = 0
		p.run(3*time.Second+4*rateWindows*p.roundTrip, nil)
		checkSteady(t, p)
	})
}

// TestFlightBounds: whatever is measured, the sizes stay between their bounds.
func TestFlightBounds(t *testing.T) {
	var f flight
	f.reset(time.Now(), 0)
	if f.limit != initialFlight || f.frame != maxData || f.burst < f.frame {
		t.Errorf("before anything is measured: %+v", f)
	}
	for _, started := range []bool{false, true} {
		for rate := 1.0; rate < 1e13; rate *= 1.7 {
			for _, trip := range []time.Duration{0, 1, time.Millisecond, time.Second, time.Hour} {
				f.rate, f.started, f.least[0] = rate, started, trip
				f.decide()
				switch {
				case f.frame < minFrame || f.frame > maxData,
					f.burst < f.frame || f.burst > maxBlocks*maxData,
					f.unsent < minUnsent || f.unsent > maxUnsent,
					f.limit < uint64(flightFrames*f.frame),
					!started && f.limit < startupFlight:
					t.Errorf("rate %g, round trip %v, started %v: bound %d, frame %d, burst %d, unsent %d", rate, trip, started, f.limit, f.frame, f.burst, f.unsent)
				}
			}
		}
	}
}

// TestFlightReset: another carrier may take another path, so nothing that was measured counts; only the startup begins with
// half of the old bound.
func TestFlightReset(t *testing.T) {
	p := newSimPath(125e6, 20*time.Millisecond)
	p.run(2*time.Second, nil)
	bound := p.f.limit
	p.f.reset(p.now, p.acked)
	fresh := flight{limit: bound}
	fresh.reset(p.now, p.acked)
	if p.f != fresh || p.f.limit != bound/2 || p.f.path() != 0 || p.f.rate != 0 {
		t.Errorf("%+v", p.f)
	}
}
