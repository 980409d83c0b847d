package pace

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// What a session's Config and its peer's acknowledgements are like.
const (
	maxFrame     = 32 << 10
	firstRecord  = 8 << 10
	maxBurst     = 4 * maxFrame
	ackThreshold = 4 << 10
	ackInterval  = 2 * time.Millisecond

	initialInflight = 128 << 10
)

var testConfig = Config{
	MaxFrame:        maxFrame,
	FirstRecord:     firstRecord,
	MaxBurst:        maxBurst,
	AckThreshold:    ackThreshold,
	InitialInflight: initialInflight,
}

// simPath simulates a path, and a session that sends on it as its controller allows: a bottleneck
// with a rate and an endless queue, then a delay until the peer's acknowledgement is back. It
// proceeds in small steps.
type simPath struct {
	c         *Controller
	now       time.Time
	rate      float64       // of the bottleneck, bytes a second
	roundTrip time.Duration // without queue
	demand    float64       // what there is to send, bytes a second; 0 for endless
	window    float64       // TCP's window in bytes; 0 for no limit
	slowStart bool          // the window grows by what is acknowledged, to twice the BDP
	socket    bool          // what the window doesn't let leave waits in a socket
	lossEvery time.Duration // between TCP's losses, 0 for none; data behind them is late
	competing time.Duration // what a competing flow adds to the queue

	offered float64 // bytes that there were to send
	sent    float64 // bytes
	left    float64 // bytes of these that have left the socket
	served  float64 // bytes that are through the bottleneck
	acked   uint64
	held    uint64 // served before the present loss
	lostAt  time.Time
	timed   uint64 // the position whose round trip is being measured
	timedAt time.Time
	ackedAt time.Time // when the peer last acknowledged
	heardAt time.Time // when an acknowledgement last came
	behind  uint64    // bytes behind the present gap that TCP has acknowledged selectively
	acks    []simAck  // under way
}

type simAck struct {
	due      time.Time
	position uint64
	served   float64 // which TCP acknowledges selectively
}

// simStep is a step of the simulation.
const simStep = 100 * time.Microsecond

func newSimPath(rate float64, roundTrip time.Duration) *simPath {
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return &simPath{
		c: New(testConfig, Start{Now: began}), now: began, lostAt: began,
		rate: rate, roundTrip: roundTrip,
	}
}

// elapsed returns how long the simulation has run.
func (p *simPath) elapsed() time.Duration {
	return p.now.Sub(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
}

// run simulates a time, and calls each, unless it is nil, after every step.
func (p *simPath) run(d time.Duration, each func()) {
	for end := p.now.Add(d); p.now.Before(end); {
		p.now = p.now.Add(simStep)
		p.takeAcks()
		p.send()
		p.leave()
		p.served = min(p.left, p.served+p.rate*simStep.Seconds())
		p.acknowledge()
		if each != nil {
			each()
		}
	}
}

// leave lets what TCP's window has room for leave the socket.
func (p *simPath) leave() {
	if !p.socket {
		p.left = p.sent
		return
	}
	p.left = max(p.left, min(p.sent, float64(p.acked+p.behind)+p.window))
}

// windowFull reports whether TCP has as much on its way as its window allows: all but what has
// arrived, even behind a gap. Then a socket takes as much as the controller lets it hold.
func (p *simPath) windowFull() bool {
	if p.socket {
		return p.sent-p.left >= float64(p.c.UnsentLimit())
	}
	return p.window != 0 && p.sent-float64(p.acked+p.behind) >= p.window
}

// send sends what there is, as much as the controller allows.
func (p *simPath) send() {
	p.offered += p.demand * simStep.Seconds()
	if p.c.WatchesGaps() && !p.c.CanSend(uint64(p.sent)-p.acked) &&
		p.now.Sub(p.heardAt) >= GapInterval {
		p.c.OnStalled()
	}
	for p.c.CanSend(uint64(p.sent)-p.acked) && !p.windowFull() {
		if p.demand > 0 && p.sent >= p.offered {
			p.c.OnAppLimited()
			return
		}
		p.sent += float64(p.c.FrameSize())
		if p.timedAt.IsZero() {
			p.timed, p.timedAt = uint64(p.sent), p.now
		}
	}
}

// acknowledge is the peer: every ackInterval it acknowledges what has reached it.
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
		case since < p.roundTrip+p.roundTrip/4: // until a second lost packet is there
			arrived = min(arrived, p.held+uint64(p.rate*p.roundTrip.Seconds()/2))
		}
	}
	if p.now.Sub(p.ackedAt) < ackInterval {
		return
	}
	p.ackedAt = p.now
	p.acks = append(p.acks, simAck{p.now.Add(p.roundTrip + p.competing), arrived, p.served})
}

// takeAcks is what a session does with an acknowledgement.
func (p *simPath) takeAcks() {
	for len(p.acks) > 0 && !p.acks[0].due.After(p.now) {
		position := p.acks[0].position
		p.behind = uint64(p.acks[0].served) - position
		p.acks = p.acks[1:]
		if position <= p.acked {
			continue
		}
		if p.slowStart {
			p.window = min(p.window+float64(position-p.acked), 2*p.rate*p.roundTrip.Seconds())
		}
		p.acked, p.heardAt = position, p.now
		p.c.OnAck(p.now, position)
		if !p.timedAt.IsZero() && position >= p.timed {
			p.c.OnRTTSample(p.now, p.now.Sub(p.timedAt))
			p.timedAt = time.Time{}
		}
	}
}

// observe simulates a time, and returns what was delivered in bytes a second, and the mean and the
// longest queue as the time that it takes to drain.
func (p *simPath) observe(d time.Duration) (delivered float64, mean, longest time.Duration) {
	return p.observeEach(d, func() {})
}

// observeEach observes as well, and calls each after every step.
func (p *simPath) observeEach(d time.Duration, each func()) (
	delivered float64, mean, longest time.Duration,
) {
	before, steps, sum := p.served, 0, 0.0
	p.run(d, func() {
		each()
		queue := (p.sent - p.served) / p.rate
		sum += queue
		steps++
		longest = max(longest, time.Duration(queue*float64(time.Second)))
	})
	mean = time.Duration(sum / float64(steps) * float64(time.Second))
	return (p.served - before) / d.Seconds(), mean, longest
}

// near fails the test unless got is within a part of want.
func near(t *testing.T, what string, got, want, part float64) {
	t.Helper()
	if math.Abs(got-want) > part*want {
		t.Errorf("%s: %.0f, want %.0f within %.0f %%", what, got, want, 100*part)
	}
}

// checkSteady checks that the path is full and its queue short for some seconds: the bandwidth is
// known, all of it but a few per cent is used, and the queue is no longer than the slack, the
// quantization budget, and what the cycle's probe adds for a round trip.
func checkSteady(t *testing.T, p *simPath) {
	t.Helper()
	delivered, mean, longest := p.observe(10 * time.Second)
	near(t, "bandwidth", p.c.bandwidth.max, p.rate, 0.02)
	near(t, "delivered", delivered, p.rate, 0.04)
	own := rttSlack + time.Duration(p.c.quantizationBudget()/p.rate*float64(time.Second))
	if mean > 2*own+p.roundTrip/10 {
		t.Errorf("the queue takes %v to drain, its own part %v", mean, own)
	}
	if probe := p.roundTrip / 2; longest > 3*own+probe {
		t.Errorf("the longest queue takes %v to drain, its own part %v", longest, own)
	}
	if p.c.competition.active {
		t.Error("its own queue is taken for a competing flow's")
	}
	bound := p.rate*(p.c.rtt.min().Seconds()+rttSlack.Seconds()) + p.c.quantizationBudget()
	if got := float64(p.c.bounds.inflight); got < 0.75*bound || got > 1.3*bound {
		t.Errorf("the bound is %.0f, want about %.0f", got, bound)
	}
}

// simPaths are paths for which the bound is right within seconds. On slower ones, whole frames take
// longer than the round trip: see TestSlowPath.
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
		t.Run(fmt.Sprintf("%.2fMB,%v", c.rate/1e6, c.roundTrip), func(t *testing.T) {
			test(t, newSimPath(c.rate, c.roundTrip))
		})
	}
}

// TestStartup: with nothing known, the bound grows to the path's BDP, and min RTT is found.
func TestStartup(t *testing.T) {
	eachSimPath(t, func(t *testing.T, p *simPath) {
		p.run(20*p.roundTrip+time.Second, nil)
		checkSteady(t, p)
		if rtt := p.c.rtt.min(); rtt < p.roundTrip || rtt > p.roundTrip+2*rttSlack {
			t.Errorf("min RTT %v, want %v", rtt, p.roundTrip)
		}
	})
}

// TestPathStaysFull: the round that drains the queue of a probe takes no more than that.
func TestPathStaysFull(t *testing.T) {
	eachSimPath(t, func(t *testing.T, p *simPath) {
		p.run(20*p.roundTrip+time.Second, nil)
		delivered, _, _ := p.observe(30 * time.Second)
		near(t, "delivered", delivered, p.rate, 0.01)
	})
}

// TestFastStartup: where the transport knows that there is no queue, inflight data doubles each
// round trip, and no longer queue is left than without one to ask.
func TestFastStartup(t *testing.T) {
	for _, c := range simPaths {
		if c.roundTrip < 40*time.Millisecond {
			continue // where the acknowledgements' delay counts as much
		}
		run := func(transport bool) (full time.Duration, longest time.Duration) {
			p := newSimPath(c.rate, c.roundTrip)
			p.window, p.slowStart = initialInflight, true
			if transport {
				p.c.observer.transport = &simTransport{rtt: c.roundTrip, minRTT: c.roundTrip, path: p}
			}
			p.run(20*p.roundTrip+time.Second, func() {
				if full == 0 && p.c.bandwidth.max > 0.9*p.rate {
					full = p.elapsed()
				}
				queue := (p.sent - p.served) / p.rate
				longest = max(longest, time.Duration(queue*float64(time.Second)))
			})
			checkSteady(t, p)
			return full, longest
		}
		slow, slowQueue := run(false)
		fast, fastQueue := run(true)
		t.Logf("%.2f MB/s, %v: full after %v, queue of %v; without a transport %v, %v",
			c.rate/1e6, c.roundTrip, fast, fastQueue, slow, slowQueue)
		bdp := c.rate * c.roundTrip.Seconds()
		doublings := math.Log2(max(1, bdp/initialInflight))
		if most := c.roundTrip * time.Duration(4+doublings); fast > most || fast > slow {
			t.Errorf("full after %v, want %v at most; without a transport %v", fast, most, slow)
		}
		if fastQueue > slowQueue+c.roundTrip {
			t.Errorf("queue of %v, without a transport %v", fastQueue, slowQueue)
		}
	}
}

// TestStartupFollowsTransport: a startup takes as long as TCP's own slow start, and TCP always has
// something to send, though the peer's window holds it up at first: then round trips are long and
// rates flat without a queue, because data waits in the socket.
func TestStartupFollowsTransport(t *testing.T) {
	const held = 6 // round trips
	for _, c := range simPaths {
		if c.roundTrip < 40*time.Millisecond {
			continue
		}
		const first = 40 << 10
		bdp := c.rate * c.roundTrip.Seconds()
		if bdp < 4*first {
			continue
		}
		p := newSimPath(c.rate, c.roundTrip)
		p.window, p.socket = first, true
		p.c.observer.transport = &simTransport{rtt: c.roundTrip, minRTT: c.roundTrip, path: p}
		long, dry, longest := false, time.Duration(0), time.Duration(0)
		each := func() {
			long = long || p.c.rtt.queued()
			dry += simStep
			inflight := p.left - float64(p.acked)
			if p.acked == 0 || p.left < p.sent || inflight >= 0.75*min(p.window, bdp) {
				dry = 0
			}
			longest = max(longest, dry)
		}
		p.run(held*c.roundTrip, each)
		if !long || p.c.startup.filledPipe {
			t.Errorf("%.1f MB/s: while the window is small, long round trips %v, filled pipe %v",
				c.rate/1e6, long, p.c.startup.filledPipe)
		}
		p.slowStart = true
		doublings := time.Duration(math.Ceil(math.Log2(bdp / first)))
		p.run((doublings+2)*(c.roundTrip+ackInterval), each)
		if p.c.bandwidth.max < 0.8*p.rate {
			t.Errorf("%.1f MB/s: found only %.1f MB/s", c.rate/1e6, p.c.bandwidth.max/1e6)
		}
		if longest > ackInterval {
			t.Errorf("%.1f MB/s, %v: TCP had nothing to send for %v", c.rate/1e6, c.roundTrip,
				longest)
		}
		p.run(20*c.roundTrip+time.Second, nil)
		checkSteady(t, p)
	}
}

// TestRestart: time without data is no part of a delivery rate.
func TestRestart(t *testing.T) {
	const rtt = 100 * time.Millisecond
	p := newSimPath(10e6, rtt)
	p.demand = 1
	p.run(time.Second, nil)
	p.demand = 0
	p.now = p.now.Add(time.Minute)
	p.c.OnRestart(p.now)
	before := p.acked
	for p.acked == before {
		p.run(simStep, nil)
	}
	if least := float64(p.acked-before) / (2 * rtt).Seconds(); p.c.bandwidth.max < least {
		t.Errorf("a rate of %.0f bytes a second, want %.0f", p.c.bandwidth.max, least)
	}
}

// TestFollowsSlowerPath: the path becomes four times as slow, so the bound has to fall.
func TestFollowsSlowerPath(t *testing.T) {
	eachSimPath(t, func(t *testing.T, p *simPath) {
		p.run(5*time.Second, nil)
		p.rate /= 4
		p.run(3*cycleRounds*p.c.rtt.min()+time.Second, nil)
		checkSteady(t, p)
	})
}

// TestFollowsFasterPath: the path becomes four times as fast. Each cycle's probe adds an eighth at
// least, since a round counts half; where that exceeds restartGrowth, a new startup is quicker.
func TestFollowsFasterPath(t *testing.T) {
	eachSimPath(t, func(t *testing.T, p *simPath) {
		p.run(5*time.Second, nil)
		p.rate *= 4
		p.run(13*cycleRounds*p.c.rtt.min()+time.Second, nil)
		near(t, "bandwidth", p.c.bandwidth.max, p.rate, 0.02)
	})
}

// TestFollowsLongerPath: another way to the peer takes longer. After two windows of minRTTWindow,
// the shorter round trip is forgotten.
func TestFollowsLongerPath(t *testing.T) {
	p := newSimPath(6.25e6, 20*time.Millisecond)
	p.run(5*time.Second, nil)
	p.roundTrip = 80 * time.Millisecond
	p.run(3*minRTTWindow, nil)
	if rtt := p.c.rtt.min(); rtt < p.roundTrip {
		t.Errorf("min RTT %v, want %v", rtt, p.roundTrip)
	}
	checkSteady(t, p)
}

// TestSlowPath: where two frames take longer than the round trip, the path still isn't left idle,
// and the session's own queue is not taken for a competing flow's, which would double it.
func TestSlowPath(t *testing.T) {
	for _, rate := range []float64{50e3, 250e3, 1.25e6} {
		p := newSimPath(rate, 10*time.Millisecond)
		p.run(10*time.Second, nil)
		delivered, mean, _ := p.observe(20 * time.Second)
		near(t, "bandwidth", p.c.bandwidth.max, rate, 0.02)
		near(t, "delivered", delivered, rate, 0.01)
		first := maxFrame / rate // seconds that the first frame takes: the least round trip of any
		most := 2*first + p.c.quantizationBudget()/rate + rttSlack.Seconds()
		if mean.Seconds() > most || p.c.competition.active {
			t.Errorf("%.0f bytes a second: queue of %v, at most %.3f s expected; competing: %v",
				rate, mean, most, p.c.competition.active)
		}
	}
}

// TestBurstyDelivery: what comes behind a loss arrives at once, after a while in which nothing did.
// That must not be taken for a higher rate, nor for a much lower one.
func TestBurstyDelivery(t *testing.T) {
	for _, every := range []time.Duration{300 * time.Millisecond, time.Second, 3 * time.Second} {
		p := newSimPath(6.25e6, 80*time.Millisecond)
		p.run(3*time.Second, nil)
		p.lossEvery = every
		least, most := p.c.bandwidth.max, p.c.bandwidth.max
		p.run(30*time.Second, func() {
			least, most = min(least, p.c.bandwidth.max), max(most, p.c.bandwidth.max)
		})
		t.Logf("a loss every %v: bandwidth between %.2f and %.2f of the path's",
			every, least/p.rate, most/p.rate)
		if most > 1.05*p.rate || least < 0.5*p.rate {
			t.Errorf("a loss every %v: bandwidth between %.0f and %.0f, the path's is %.0f",
				every, least, most, p.rate)
		}
	}
}

// simTransport is a transport below a simPath.
type simTransport struct {
	rtt, minRTT   time.Duration
	path          *simPath // whose queue is added to rtt, unless it is nil
	losing        bool     // it has lost something whenever it is asked
	retransmitted uint64
	unknown       bool     // it has nothing to tell
	reports       bool     // it reports gaps
	gaps          *simPath // whose gaps it reports, unless it is nil
}

func (t *simTransport) TransportPath() (
	rtt, minRTT time.Duration, retransmitted, window uint64, ok bool,
) {
	if t.losing {
		t.retransmitted++
	}
	rtt = t.rtt
	if p := t.path; p != nil {
		rtt += time.Duration((p.left - p.served) / p.rate * float64(time.Second))
		window = uint64(p.window)
	}
	return rtt, t.minRTT, t.retransmitted, window, !t.unknown
}

func (t *simTransport) TransportGap() uint64 {
	if t.gaps == nil {
		return 0
	}
	return t.gaps.behind
}

// TestGaps: what the transport reports as arrived behind a gap is not on the path, so that more may
// be sent. That keeps the path full while packets are lost, though the transport's own round trip
// leaves room for doubt whether there is a queue; and the path's queue stays short.
func TestGaps(t *testing.T) {
	const rtt = 80 * time.Millisecond
	for _, every := range []time.Duration{rtt + rtt/2, 3 * rtt, 10 * rtt} {
		run := func(gaps bool) (delivered float64, queue time.Duration) {
			p := newSimPath(6.25e6, rtt)
			transport := &simTransport{rtt: rtt + rtt/3, minRTT: rtt, losing: true}
			if gaps {
				transport.gaps = p
			}
			p.c.observer.transport = transport
			p.lossEvery = every
			p.run(5*time.Second, nil)
			delivered, queue, _ = p.observe(8 * time.Second)
			return delivered / p.rate, queue
		}
		without, _ := run(false)
		with, queue := run(true)
		t.Logf("a loss every %v: delivered %.3f of the path's rate without reports, %.3f with; queue %v",
			every, without, with, queue)
		if with < 0.97 || with < without {
			t.Errorf("a loss every %v: delivered %.3f of the path's rate, %.3f without reports of gaps",
				every, with, without)
		}
		if queue > 3*rtt/4 {
			t.Errorf("a loss every %v: the queue takes %v to drain", every, queue)
		}
	}
}

// TestLossyPath: where the transport reports losses without a queue, the bound is not in TCP's way.
// Where it reports a queue, ends at a proxy, or knows nothing, its losses change nothing.
func TestLossyPath(t *testing.T) {
	const rtt = 80 * time.Millisecond
	run := func(transport *simTransport) (delivered float64, lossy bool) {
		p := newSimPath(6.25e6, rtt)
		if transport != nil {
			p.c.observer.transport = transport
			if transport.reports {
				transport.gaps = p
			}
		}
		p.lossEvery = rtt + rtt/2
		p.window = 3 * p.rate * rtt.Seconds() // TCP's own, as in BBR's startup
		p.run(10*time.Second, nil)
		p.run(20*time.Second, func() { lossy = lossy || p.c.observer.lossy > 0 })
		delivered, _, _ = p.observe(20 * time.Second)
		return delivered / p.rate, lossy
	}
	before, _ := run(nil)
	known, lossy := run(&simTransport{rtt: rtt, minRTT: rtt, losing: true, reports: true})
	if !lossy || known < 0.97 || known < before {
		t.Errorf("delivered %.2f of the path's rate with known losses (%v), %.2f without",
			known, lossy, before)
	}
	for name, transport := range map[string]*simTransport{
		"queue":      {rtt: 2 * rtt, minRTT: rtt, losing: true},
		"near proxy": {rtt: time.Millisecond, minRTT: time.Millisecond, losing: true},
		"far proxy":  {rtt: 3 * rtt / 4, minRTT: 3 * rtt / 4, losing: true},
		"unknown":    {unknown: true, losing: true},
	} {
		lossless := *transport
		lossless.losing = false
		want, _ := run(&lossless)
		if name != "queue" && want != before {
			t.Errorf("%s: delivered %.3f of the path's rate, %.3f without", name, want, before)
		}
		if got, lossy := run(transport); lossy || got != want {
			t.Errorf("%s: delivered %.3f of the path's rate, %.3f without losses; lossy: %v",
				name, got, want, lossy)
		}
	}
	t.Logf("delivered %.2f of the path's rate without a transport to ask", before)
}

// TestNothingToDrain: while something else than the path is the limit, such as TCP's buffers, there
// is no queue. The bound then stays above what is sent; once the path is the limit again, it keeps
// the queue as short as ever.
func TestNothingToDrain(t *testing.T) {
	eachSimPath(t, func(t *testing.T, p *simPath) {
		p.c.observer.transport = &simTransport{rtt: p.roundTrip, minRTT: p.roundTrip, path: p}
		p.window = p.rate * p.roundTrip.Seconds() / 2
		p.run(5*time.Second, nil)
		p.run(5*time.Second, func() {
			if p.c.startup.filledPipe && float64(p.c.bounds.inflight) < p.window {
				t.Fatalf("bound %d, TCP would have %.0f inflight", p.c.bounds.inflight, p.window)
			}
		})
		p.window = 0
		p.run(5*time.Second, nil)
		checkSteady(t, p)
	})
}

// TestBurstAfterLoss: the rounds' deliveries vary, by little or, where the round trips show a loss,
// by much. What counts is their mean.
func TestBurstAfterLoss(t *testing.T) {
	for _, c := range []struct {
		parts []float64 // of what the path carries
		rtts  float64   // round trip of all but the last, in min RTTs
	}{{[]float64{0.5, 1.5}, 1}, {[]float64{0.2, 0.2, 0.2, 3.4}, 2}} {
		p := newSimPath(6.25e6, 80*time.Millisecond)
		p.run(3*time.Second, nil)
		round := p.c.rtt.min()
		for i := range 100 * len(c.parts) {
			rtt := round
			if part := i % len(c.parts); part < len(c.parts)-1 {
				rtt = time.Duration(c.rtts * float64(round))
			}
			p.now = p.now.Add(round)
			p.acked += uint64(c.parts[i%len(c.parts)] * p.rate * round.Seconds())
			p.c.OnRTTSample(p.now, rtt)
			p.c.OnAck(p.now, p.acked)
			if p.c.bandwidth.max > 1.02*p.rate || p.c.bandwidth.max < 0.95*p.rate {
				t.Fatalf("%v, round %d: bandwidth %.0f, the path's is %.0f",
					c.parts, i, p.c.bandwidth.max, p.rate)
			}
		}
	}
}

// TestAppLimited: rounds in which there was little to send are no measure of the path.
func TestAppLimited(t *testing.T) {
	eachSimPath(t, func(t *testing.T, p *simPath) {
		p.run(5*time.Second, nil)
		rate, limit := p.c.bandwidth.max, p.c.bounds.inflight
		p.demand, p.offered = p.rate/50, p.sent
		p.run(time.Minute, nil)
		if p.c.bandwidth.max < rate || float64(p.c.bounds.inflight) < 0.7*float64(limit) {
			t.Errorf("bandwidth %.0f before, %.0f after; bound %d before, %d after",
				rate, p.c.bandwidth.max, limit, p.c.bounds.inflight)
		}
		p.demand = 0
		p.run(20*p.roundTrip+time.Second, nil)
		checkSteady(t, p)
	})
}

// TestAppLimitedFromTheStart: a session that never had much to send knows a low rate, which must
// not bound what comes.
func TestAppLimitedFromTheStart(t *testing.T) {
	p := newSimPath(6.25e6, 40*time.Millisecond)
	p.demand = 10e3
	p.run(time.Minute, nil)
	p.demand = 0
	p.run(20*p.roundTrip, nil)
	near(t, "bandwidth after some round trips", p.c.bandwidth.max, p.rate, 0.02)
}

// TestCompetingFlow: where a competing flow fills the queue, the gain rises, and falls again when
// the flow has ended.
func TestCompetingFlow(t *testing.T) {
	eachSimPath(t, func(t *testing.T, p *simPath) {
		p.run(2*time.Second, nil)
		p.competing = p.roundTrip + 2*rttSlack
		p.run(6*time.Second+20*p.roundTrip, nil)
		if !p.c.competition.active || p.c.gain() > competingGain {
			t.Fatalf("competing: %v, gain %v", p.c.competition.active, p.c.gain())
		}
		steps, raised := 0, 0
		p.run(2*cycleRounds*(p.roundTrip+p.competing), func() {
			steps++
			if p.c.gain() == competingGain {
				raised++
			}
		})
		if raised < steps/2 {
			t.Errorf("the gain was raised for %d steps of %d", raised, steps)
		}
		p.competing = 0
		p.run(maxLook+4*cycleRounds*p.roundTrip, nil)
		checkSteady(t, p)
	})
}

// TestBounds: whatever is measured, the sizes stay within their limits.
func TestBounds(t *testing.T) {
	c := New(testConfig, Start{Now: time.Now()})
	b := &c.bounds
	if b.inflight != initialInflight || b.frame != maxFrame || b.record != firstRecord ||
		b.burst < b.frame {
		t.Errorf("before anything is measured: %+v", *b)
	}
	for _, filled := range []bool{false, true} {
		for rate := 1.0; rate < 1e13; rate *= 1.7 {
			for _, rtt := range []time.Duration{0, 1, time.Millisecond, time.Second, time.Hour} {
				c.bandwidth.max, c.startup.filledPipe, c.rtt.windows[0] = rate, filled, rtt
				c.updateBounds()
				switch {
				case b.frame < minFrame || b.frame > maxFrame,
					b.record < minRecord || b.record > maxFrame,
					rate > 66e3 && b.record < maxFrame,
					b.burst < b.frame || b.burst > maxBurst,
					b.unsent < minUnsent || b.unsent > maxUnsent,
					b.inflight < uint64(budgetFrames*b.frame),
					!filled && b.inflight < initialInflight:
					t.Errorf("bandwidth %g, min RTT %v, filled pipe %v: %+v", rate, rtt, filled, *b)
				}
			}
		}
	}
}

// TestNextCarrier: another carrier may take another path, so nothing that was measured counts; only
// the startup begins at half of the old bound.
func TestNextCarrier(t *testing.T) {
	p := newSimPath(125e6, 20*time.Millisecond)
	p.run(2*time.Second, nil)
	bound := p.c.Inflight()
	if bound <= 2*initialInflight {
		t.Fatalf("a bound of %d bytes, too little to tell", bound)
	}
	next := New(testConfig, Start{Now: p.now, Position: p.acked, LastInflight: bound})
	first := New(testConfig, Start{Now: p.now, Position: p.acked})
	if next.Inflight() != bound/2 || next.rtt.min() != 0 || next.bandwidth.max != 0 {
		t.Errorf("%+v", *next)
	}
	next.startup, next.bounds = first.startup, first.bounds
	if *next != *first {
		t.Errorf("%+v, want %+v", *next, *first)
	}
}
