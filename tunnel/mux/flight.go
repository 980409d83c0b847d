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
	initialFlight = 256 << 10

	// minFlight is the least bound in bytes.
	minFlight = 32 << 10

	// flightSlack is added to the path's round trip: acknowledgements come every ackInterval, and either end may be a
	// while about something else. It is the queue that remains.
	flightSlack = 5 * time.Millisecond

	// rateWindows is for how many windows a delivery rate counts; a window lasts for a round trip, and minRateWindow at
	// least.
	rateWindows   = 8
	minRateWindow = 5 * time.Millisecond

	// tripAge is for how long, once or twice, a least round trip counts. Paths change.
	tripAge = 10 * time.Second

	// startupGain is by how much the bound passes the measured product until that grows no more: it doubles each round
	// trip, as TCP's slow start does. startupGrowth is the least growth of a window, and startupFlat the number of windows
	// with less after which the startup is over.
	startupGain   = 2
	startupGrowth = 1.25
	startupFlat   = 3

	// rivalGain is the gain where somebody else keeps the path's queues filled: near the product, this session would
	// yield to them until nothing is left. The queue is not its own when the least round trip of a cycle, in which the session
	// has drained its own queue once, is rivalTrip times the path's and twice the slack more.
	rivalGain = 2
	rivalTrip = 1.5
)

// cycleGains are the gains of the windows of a cycle once the startup is over: one probes for more, one drains what the
// probe has piled up, so that the path's round trip shows.
var cycleGains = [rateWindows]float64{1.25, 0.8, 1, 1, 1, 1, 1, 1}

// What a rate means for the sizes of what is sent, in time.
const (
	// frameTime is how long one frame may keep the path busy, between minFrame and maxData.
	frameTime = 3 * time.Millisecond
	minFrame  = 4 << 10

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

	began    time.Time // the present window
	from     uint64    // position acknowledged when it began
	idle     bool      // there was nothing to send in it, or the peer gave no credit: its rate tells nothing of the path
	windows  int       // of the cycle so far
	rates    [rateWindows]float64
	next     int     // place in rates
	rate     float64 // the largest of rates, in bytes a second
	started  bool    // the startup is over
	full     float64 // the rate that startup has reached
	flat     int     // windows without growth since
	rivals   bool
	least    [2]time.Duration // round trip in this tripAge and in the one before, 0 for none
	leastAge time.Time        // when this one began
	cycle    time.Duration    // least round trip of the cycle, 0 for none
}

// reset forgets all that was measured: another carrier may take another path.
func (f *flight) reset(now time.Time, position uint64) {
	*f = flight{began: now, from: position, leastAge: now}
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
	}
	f.least[0] = lesser(f.least[0], trip)
	f.cycle = lesser(f.cycle, trip)
}

// lesser is the smaller of two durations of which 0 is none.
func lesser(a, b time.Duration) time.Duration {
	if a == 0 || (b != 0 && b < a) {
		return b
	}
	return a
}

// path is the round trip of the path when its queues are empty, 0 when it is not known.
func (f *flight) path() time.Duration { return lesser(f.least[0], f.least[1]) }

// acknowledged takes the peer's acknowledgement of all before position. When a window is over, the bound follows what it
// has shown.
func (f *flight) acknowledged(now time.Time, position uint64) {
	took := now.Sub(f.began)
	if took < max(f.path(), minRateWindow) {
		return
	}
	rate := float64(position-f.from) / took.Seconds()
	idle := f.idle
	f.began, f.from, f.idle = now, position, false
	if idle && rate <= f.rate {
		return
	}
	f.rates[f.next] = rate
	f.next = (f.next + 1) % rateWindows
	f.rate = 0
	for _, r := range f.rates {
		f.rate = max(f.rate, r)
	}
	if !f.started && !idle {
		f.grow(rate)
	}
	if f.windows++; f.windows%rateWindows == 0 {
		f.rivals = f.path() > 0 && f.cycle > time.Duration(rivalTrip*float64(f.path()))+2*flightSlack
		f.cycle = 0
	}
	f.decide()
}

// grow ends the startup once the rate grows no more.
func (f *flight) grow(rate float64) {
	if rate >= startupGrowth*f.full {
		f.full, f.flat = rate, 0
		return
	}
	if f.flat++; f.flat >= startupFlat {
		f.started, f.windows = true, 0
	}
}

func (f *flight) gain() float64 {
	switch {
	case !f.started:
		return startupGain
	case f.rivals:
		return rivalGain
	}
	return cycleGains[f.windows%rateWindows]
}

// decide sets the sizes from what is measured.
func (f *flight) decide() {
	if f.rate == 0 {
		f.limit, f.frame, f.burst, f.unsent = initialFlight, maxData, maxData, 2*maxData
		return
	}
	rate := f.rate
	f.limit = uint64(max(minFlight, rate*(f.gain()*f.path().Seconds()+flightSlack.Seconds())))
	if !f.started {
		f.limit = max(f.limit, initialFlight)
		rate *= startupGain
	}
	f.frame = int(min(max(rate*frameTime.Seconds(), minFrame), maxData))
	f.burst = int(min(max(rate*burstTime.Seconds(), float64(f.frame)), maxBlocks*maxData))
	f.unsent = int(min(max(rate*unsentTime.Seconds(), minUnsent), maxUnsent))
}
