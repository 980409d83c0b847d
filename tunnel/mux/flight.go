package mux

import "time"

// The bound on what is in flight. Whatever this side sends faster than the path takes stands in a queue somewhere: in this
// kernel, in a proxy, in a router. Nothing can overtake what stands there, so the scheduler's order is lost on it. The
// peer's acknowledgements tell how fast the path delivers and how long it takes when its queues are empty; what is sent and
// not acknowledged is held near the product of the two, which is what the path itself holds. That is the idea of BBR (Cardwell
// et al., "BBR: Congestion-Based Congestion Control", ACM Queue 14.5, 2016), one level up: TCP below still decides how fast to
// send, and loss is its affair.
const (
	// initialFlight is the bound in bytes before anything is measured: more than TCP sends in its first round trip.
	// startupFlight is the least in the startup: enough that TCP's own start is not held back.
	initialFlight = 128 << 10
	startupFlight = 128 << 10

	// flightSlack is added to the path's round trip: acknowledgements come every ackInterval, and either end may be a
	// while about something else. It is maxSlack bytes at most: that keeps both ends of a very fast path at work, as
	// acknowledgements come every ackMuch bytes there, and more would only stand in queues and push each other out of the
	// processors' caches. flightFrames frames and ackSome bytes are added to it, since the path takes and the peer
	// acknowledges them whole. That is the queue that remains.
	flightSlack  = 5 * time.Millisecond
	maxSlack     = 1 << 20
	flightFrames = 2

	// rateWindows is for how many windows a delivery rate counts; a window lasts for a round trip, and minRateWindow at
	// least.
	rateWindows   = 8
	minRateWindow = 5 * time.Millisecond

	// unevenWindows is how many windows are taken together where delivery is uneven.
	// lossWindows is the same in a trial of lossGain and after it, and where losses are known: what piles up behind a gap is large then.
	unevenWindows = 4
	lossWindows   = 3 * unevenWindows

	// tripAge is for how long, once or twice, a least round trip counts. Paths change.
	tripAge = 10 * time.Second

	// startupGain is by how much the bound passes the measured product until that grows no more: it doubles each round
	// trip, as TCP's slow start does. startupGrowth is the least growth of a window, and startupFlat the number of windows
	// with less after which the startup is over.
	// Two such windows are enough when the round trip has grown to queueTrip times the path's and the slack more: a queue
	// builds up, and TCP would only lose packets. Later on, a probe that brings restartGrowth begins it again.
	startupGain   = 2
	startupGrowth = 1.25
	startupFlat   = 3
	queueTrip     = 1.25
	restartGrowth = 1.08

	// rivalGain is the gain where somebody else keeps the path's queues filled: near the product, this session would
	// yield to them until nothing is left. The queue is not its own when the least round trip of a cycle, in which the session
	// has drained its own queue once, is rivalTrip times the path's and twice the slack more.
	rivalGain = 2
	rivalTrip = 1.5
)

// cycleGains are the gains of the windows of a cycle once the startup is over: one probes for more, two drain what the
// others have piled up, so that the path's round trip shows.
var cycleGains = [rateWindows]float64{1.25, 0.8, 0.95, 1, 1, 1, 1, 1}

// What a rate means for the sizes of what is sent, in time.
const (
	// frameTime is how long one frame may keep the path busy, between minFrame and maxData.
	frameTime = 2 * time.Millisecond
	minFrame  = 8 << 10

	// burstTime is how much is handed to the carrier at once, at most maxBlocks records.
	burstTime = time.Millisecond

	// unsentTime is how much the carrier's socket may hold that TCP has not sent yet, between minUnsent and maxUnsent
	// bytes: enough that it doesn't run dry until the writer is woken.
	unsentTime = 4 * time.Millisecond
	minUnsent  = 16 << 10
	maxUnsent  = 4 << 20
)

// flight measures a path and says how much may be on its way. It is guarded by the session's mutex, and begins anew with
// each carrier.
type flight struct {
	limit  uint64 // bytes that may be sent and not acknowledged
	frame  int    // most data in one frame, in bytes
	burst  int    // bytes that may be handed to the carrier at once
	unsent int    // bytes that the carrier's socket may hold unsent

	began    time.Time              // the present window
	from     uint64                 // position acknowledged when it began
	idle     bool                   // there was nothing to send in it, or the peer gave no credit: its rate tells nothing of the path
	windows  int                    // of the cycle so far
	recent   [lossWindows]delivered // the last windows, the newest first
	uneven   int                    // for how many windows more delivery is taken for uneven
	rates    [rateWindows]float64
	next     int     // place in rates
	rate     float64 // the largest of rates, in bytes a second
	floor    uint64  // least bound in the startup
	started  bool    // the startup is over
	full     float64 // the rate that startup has reached
	flat     int     // windows without growth since
	rivals   bool
	loss     lossTrials
	below    TransportObserver // of the carrier; nil where there is no telling
	resent   uint64            // as it was told last
	clear    bool              // there is no queue on the path
	lossy    int               // for how many windows more the path is known to lose packets without a queue
	least    [2]time.Duration  // round trip in this tripAge and in the one before, 0 for none
	loaded   [2]time.Duration  // the same of windows that were not idle
	leastAge time.Time         // when this one began
	cycle    time.Duration     // least round trip of the cycle, 0 for none
	newest   time.Duration     // round trip of the window, 0 for none
}

// reset forgets all that was measured: another carrier may take another path. Most often it takes the same, so the startup
// begins with half of the bound there was.
func (f *flight) reset(now time.Time, position uint64) {
	*f = flight{began: now, from: position, leastAge: now, floor: max(startupFlight, f.limit/2)}
	f.decide()
}

// exceeded says whether so many bytes in flight are enough.
func (f *flight) exceeded(inFlight uint64) bool { return inFlight >= f.limit }

// starved says that less was sent than the bound allows.
func (f *flight) starved() { f.idle = true }

// trip takes a sample of the round trip.
func (f *flight) trip(now time.Time, trip time.Duration) {
	if now.Sub(f.leastAge) >= tripAge {
		f.least[1], f.least[0], f.leastAge = f.least[0], 0, now
		f.loaded[1], f.loaded[0] = f.loaded[0], 0
	}
	f.least[0] = lesser(f.least[0], trip)
	if !f.idle {
		f.loaded[0] = lesser(f.loaded[0], trip)
	}
	f.cycle = lesser(f.cycle, trip)
	f.newest = trip
}

// lesser is the smaller of two durations of which 0 is none.
func lesser(a, b time.Duration) time.Duration {
	if a == 0 || (b != 0 && b < a) {
		return b
	}
	return a
}

// path is the round trip of the path when its queues are empty, 0 when it is not known. It is that of large records if
// there are any: they take longer than a ping, and are acknowledged later.
func (f *flight) path() time.Duration {
	if loaded := lesser(f.loaded[0], f.loaded[1]); loaded != 0 {
		return loaded
	}
	return lesser(f.least[0], f.least[1])
}

// acknowledged takes the peer's acknowledgement of all before position. When a window is over, the bound follows what it
// has shown.
func (f *flight) acknowledged(now time.Time, position uint64) {
	took := now.Sub(f.began)
	if took < max(f.path(), minRateWindow) {
		return
	}
	rate := f.measure(delivered{float64(position - f.from), took.Seconds()})
	idle := f.idle
	f.began, f.from, f.idle = now, position, false
	if idle && rate <= f.rate {
		return
	}
	before := f.rate
	f.rates[f.next] = rate
	f.next = (f.next + 1) % rateWindows
	f.rate = 0
	for _, r := range f.rates {
		f.rate = max(f.rate, r)
	}
	f.windows++
	switch {
	case !f.started && !idle:
		f.grow(rate)
	case f.started && f.uneven == 0 && rate >= restartGrowth*before && f.probed():
		f.started, f.full, f.flat = false, rate, 0
	case f.started && f.windows%rateWindows == 0:
		f.rivals = f.path() > 0 && f.cycle > stretched(f.path(), rivalTrip, f.ownQueue())
		f.cycle = 0
	}
	f.look()
	if f.started && f.lossy == 0 {
		f.loss.window(f.gapped() && !f.rivals, f.rate, sumOf(f.recent[:unevenWindows]).rate())
	}
	f.newest = 0
	f.decide()
}

// delivered is what was delivered in a window.
type delivered struct{ bytes, seconds float64 }

// measure returns the rate that a window shows. When TCP has lost something, what came behind it arrives all at once, after
// a while in which nothing did. Then, which a long round trip tells, the windows before count too; and the last one does
// always but in the startup, which it would hold back.
func (f *flight) measure(window delivered) float64 {
	copy(f.recent[1:], f.recent[:])
	f.recent[0] = window
	f.uneven = max(f.uneven-1, 0)
	if f.queued() {
		f.uneven = unevenWindows
	}
	n := 1
	switch {
	case f.uneven > 0 && (f.loss.on || f.loss.left > 0 || (f.lossy > 0 && f.started)):
		n = lossWindows
	case f.uneven > 0:
		n = unevenWindows
	case f.started:
		n = 2
	}
	return sumOf(f.recent[:n]).rate()
}

func sumOf(windows []delivered) (sum delivered) {
	for _, d := range windows {
		sum.bytes += d.bytes
		sum.seconds += d.seconds
	}
	return sum
}

// rate is in bytes a second.
func (d delivered) rate() float64 { return d.bytes / d.seconds }

// queued says that the window's round trip shows a queue.
func (f *flight) queued() bool { return f.passes(f.newest, queueTrip) }

// passes says that a round trip passes so many times the path's, and the slack.
func (f *flight) passes(trip time.Duration, times float64) bool {
	return f.path() > 0 && trip > stretched(f.path(), times, flightSlack)
}

// stretched is so many times a round trip, and a slack more.
func stretched(trip time.Duration, times float64, slack time.Duration) time.Duration {
	return time.Duration(times*float64(trip)) + slack
}

// grow ends the startup once the rate grows no more, or a queue does. Windows with losses that no queue is to blame for don't
// tell: TCP is still trying.
func (f *flight) grow(rate float64) {
	if f.lossy > 0 {
		f.full = max(f.full, rate)
		return
	}
	if rate >= startupGrowth*f.full {
		f.full, f.flat = rate, 0
		return
	}
	f.flat++
	if f.flat >= startupFlat || (f.flat == startupFlat-1 && f.queued()) {
		f.started, f.windows, f.cycle = true, 0, 0
	}
}

// probed says that the window was one that shows what a probe has brought.
func (f *flight) probed() bool {
	phase := f.windows % rateWindows
	return phase == 1 || phase == 2
}

// ownQueue is how long the queue may last that the session leaves even when it drains. On a slow path, whole frames take longer
// than the slack.
func (f *flight) ownQueue() time.Duration {
	frames := time.Duration(f.grain() / f.rate * float64(time.Second))
	return max(2*flightSlack, flightSlack+frames)
}

// grain is the bytes by which the bound passes the product, since frames are sent and acknowledged whole.
func (f *flight) grain() float64 { return float64(flightFrames*f.frame + ackSome) }

func (f *flight) gain() float64 {
	switch {
	case f.lossy > 0:
		return lossyGain
	case !f.started:
		return startupGain
	case f.rivals && cycleGains[f.windows%rateWindows] >= 1:
		return rivalGain
	case f.loss.on && !f.rivals:
		return lossGain
	}
	gain := cycleGains[f.windows%rateWindows]
	if f.clear { // something else than the path is the limit, and there is nothing to drain
		return max(gain, 1)
	}
	return gain
}

// decide sets the sizes from what is measured.
func (f *flight) decide() {
	if f.rate == 0 {
		f.limit, f.frame, f.burst, f.unsent = max(initialFlight, f.floor), maxData, maxData, 2*maxData
		return
	}
	rate := f.rate
	if !f.started {
		rate *= startupGain
	}
	f.frame = int(min(max(rate*frameTime.Seconds(), minFrame), maxData))
	slack := min(f.rate*flightSlack.Seconds(), maxSlack)
	f.limit = uint64(f.rate*f.gain()*f.path().Seconds() + slack + f.grain())
	if !f.started {
		f.limit = max(f.limit, f.floor)
	}
	f.burst = int(min(max(rate*burstTime.Seconds(), float64(f.frame)), maxBlocks*maxData))
	f.unsent = int(min(max(rate*unsentTime.Seconds(), minUnsent), maxUnsent))
	if f.lossy > 0 {
		f.limit = max(f.limit, lossyFlight)
		f.unsent = min(lossyUnsent*f.unsent, maxUnsent)
	}
}
