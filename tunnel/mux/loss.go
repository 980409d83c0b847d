package mux

import "time"

// Packets that are lost for another reason than a full queue, as over radio. What arrives behind a gap is acknowledged only once
// the gap is filled, so that more than the path's product has to be on its way to keep the rate. Round trips tell of gaps,
// but are as long where the queue is full. The transport below knows which it is; where that can't be asked, trying tells.
const (
	// lossGain is the gain while that is tried, for lossTrial windows, after a trip that is gapTrip times the path's and the
	// slack. Where that brings lossGrowth it holds for lossHold windows, and is tried again after lossDip windows without it.
	// Else the next trial is lossPause windows away, and twice that after each that brings nothing, up to lossMaxPause.
	lossGain     = 3
	gapTrip      = 1.75
	lossGrowth   = 1.2
	lossTrial    = 8
	lossHold     = 128
	lossDip      = 2 * rateWindows
	lossPause    = 64
	lossMaxPause = 1024

	// lossyWindows is for how many windows lossyGain, and lossyFlight at least, holds without trials, where the carrier's
	// transport says that it has lost something, and its round trip, lossyTrip times the least one at most, that there is no
	// queue. It ends when there is one. How fast to send is all up to TCP meanwhile, and the bound is only for the case that the
	// path changes. lossyUnsent is how many times as much may stand unsent: TCP sends in bursts then.
	lossyWindows = 32
	lossyTrip    = 1.1
	lossyGain    = 6
	lossyFlight  = 1 << 20
	lossyUnsent  = 4

	// Round trips of the transport up to clearTrip times its least one, and clearSlack more, show no queue at all.
	clearTrip  = 1.02
	clearSlack = time.Millisecond
)

// TransportObserver is a carrier that can tell what its transport has seen of the path: the smoothed round trip, the least
// one, and how many segments were sent again so far. ok is false when there is nothing to tell. It does not wait, and is
// called with the session's lock held.
type TransportObserver interface {
	TransportPath() (roundTrip, least time.Duration, resent uint64, ok bool)
}

// ask has look ask the carrier, if it can tell. What its transport had to send again before counts for nothing.
func (f *flight) ask(carrier Carrier) {
	if f.below, _ = carrier.(TransportObserver); f.below != nil {
		_, _, f.resent, _ = f.below.TransportPath()
	}
}

// look asks the transport whether it has filled a queue or lost something without one. Its own acknowledgements pass the gaps
// that hold up the peer's. One that ends at a proxy knows nothing of the path behind that, which its least round trip tells.
func (f *flight) look() {
	f.lossy = max(f.lossy-1, 0)
	f.clear = false
	if f.below == nil {
		return
	}
	trip, least, resent, ok := f.below.TransportPath()
	if !ok || f.path() > stretched(least, queueTrip, flightSlack) {
		f.lossy = 0
		return
	}
	f.clear = trip <= stretched(least, clearTrip, clearSlack)
	if f.queued() {
		if f.resent < resent && trip <= stretched(least, lossyTrip, clearSlack) {
			f.lossy = lossyWindows
		}
		f.resent = resent
	}
	if trip > stretched(least, queueTrip, flightSlack) {
		f.lossy = 0
	}
}

// gapped says that the window's round trip shows that something was lost, while another of the cycle shows no queue.
func (f *flight) gapped() bool {
	return f.passes(f.newest, gapTrip) && f.cycle > 0 && !f.passes(f.cycle, queueTrip)
}

// lossTrials is what is known of losses that don't come from a full queue.
type lossTrials struct {
	on     bool    // the gain is lossGain
	proven bool    // it has brought something
	left   int     // windows until it is judged, or ends; when it is off, until the next trial
	before float64 // the rate when the trial began
	pause  int     // windows between the last two trials
}

// window is told whether a window shows a gap, the best rate of a cycle, and the rate of late.
func (l *lossTrials) window(gapped bool, best, rate float64) {
	if l.left > 0 {
		l.left--
		return
	}
	switch {
	case !l.on && gapped:
		*l = lossTrials{on: true, left: lossTrial, before: best, pause: l.pause}
	case l.on && l.proven:
		*l = lossTrials{left: lossDip}
	case l.on && rate >= lossGrowth*l.before:
		*l = lossTrials{on: true, proven: true, left: lossHold}
	case l.on:
		pause := min(max(2*l.pause, lossPause), lossMaxPause)
		*l = lossTrials{left: pause, pause: pause}
	}
}
