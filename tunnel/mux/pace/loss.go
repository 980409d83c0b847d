package pace

import (
	"math"
	"time"
)

// Transport is what a carrier can tell about the transport below it, TCP for one.
type Transport interface {
	// TransportPath returns the transport's smoothed round trip, its least one, how many segments
	// it has retransmitted so far, and how many bytes it may have in flight: what its congestion
	// control allows, and its peer; 0 when that is not known. It returns false when nothing is
	// known. It must not block: it is called with the session's mutex held.
	TransportPath() (smoothedRTT, minRTT time.Duration, retransmitted, window uint64, ok bool)

	// TransportGap returns how many bytes have arrived that the peer's transport holds back, because
	// something before them was lost; 0 when that is not known. It must not block either.
	TransportGap() (behind uint64)
}

// transportObserver asks the transport whether losses come with a queue or without one. The
// transport's own acknowledgements pass the gaps that hold up the session's.
type transportObserver struct {
	transport     Transport // nil where there is none
	endToEnd      bool      // the transport's path is the session's
	direct        bool      // it was once, as far as the session's round trips showed it
	short         bool      // there is hardly a queue on the path
	noQueue       bool      // there is none
	window        uint64    // in a startup without a queue: what the transport may have in flight
	smooth        bool      // in such a startup: nothing was lost
	behindGap     uint64    // bytes that the peer holds back behind a gap, and has not acknowledged
	reportsGaps   bool      // the transport has reported one
	watchGaps     int       // for how many more rounds gaps are likely
	gaps          int       // for how many more rounds the path counts as having gaps
	retransmitted uint64    // the transport's count at the last round
	lossy         int       // for how many more rounds the path counts as losing without a queue
}

// newTransportObserver returns an observer that ignores what was retransmitted before.
func newTransportObserver(transport Transport) transportObserver {
	o := transportObserver{transport: transport}
	if transport != nil {
		_, _, o.retransmitted, _, _ = transport.TransportPath()
	}
	return o
}

// poll asks the transport at the end of a round. A transport that ends at a proxy knows nothing of
// the path behind it: its least round trip is then much shorter than the session's. starting
// reports whether the session is in its startup.
func (o *transportObserver) poll(session *rttFilter, starting bool) {
	o.lossy = max(o.lossy-1, 0)
	o.watchGaps = max(o.watchGaps-1, 0)
	o.gaps = max(o.gaps-1, 0)
	o.short, o.noQueue, o.window, o.smooth = false, false, 0, false
	if o.transport == nil {
		return
	}
	rtt, minRTT, retransmitted, window, ok := o.transport.TransportPath()
	o.endToEnd = ok && (o.direct || !session.endsBeyond(rtt, minRTT))
	if !o.endToEnd {
		o.lossy, o.watchGaps = 0, 0
		return
	}
	o.direct = session.min() > 0
	o.short = isShort(rtt, minRTT)
	o.noQueue = rtt <= scaled(minRTT, noQueueFactor, noQueueSlack)
	o.onLosses(retransmitted > o.retransmitted, rtt, minRTT)
	o.retransmitted = retransmitted
	if starting && o.short {
		o.onWindow(window, retransmitted)
	}
}

// onLosses notes whether the transport has lost anything since the last round, and its smoothed and
// least round trip. Losses that come with a queue are due to one that overflows. While the
// transport is left to itself, it may have one of its own.
func (o *transportObserver) onLosses(lost bool, rtt, minRTT time.Duration) {
	if lost {
		o.watchGaps = gapWatchRounds
	}
	queue := !o.short
	if o.lossy > 0 {
		queue = rtt > scaled(minRTT, lossyQueueFactor, rttSlack)
	}
	switch {
	case queue:
		o.lossy = 0
	case lost && o.direct:
		o.lossy = lossyRounds
	}
}

// isShort reports whether a transport with such a smoothed and least round trip has hardly a queue.
func isShort(rtt, minRTT time.Duration) bool {
	return rtt <= scaled(minRTT, queueFactor, rttSlack)
}

// pollWindow asks the transport, in the startup, how much it may have in flight.
func (o *transportObserver) pollWindow() {
	if !o.endToEnd {
		return
	}
	rtt, minRTT, retransmitted, window, ok := o.transport.TransportPath()
	o.window, o.smooth = 0, false
	if ok && isShort(rtt, minRTT) {
		o.onWindow(window, retransmitted)
	}
}

// measuresRTT reports whether the transport has all but stopped, to see how long the path is
// without a queue.
func (o *transportObserver) measuresRTT() bool {
	_, _, _, window, ok := o.transport.TransportPath()
	return ok && window > 0 && window <= probeWindow
}

// capacity returns how many bytes the transport may have in flight; what exceeds that waits in its
// socket. It is without limit where that is not known.
func (o *transportObserver) capacity() uint64 {
	if _, _, _, window, ok := o.transport.TransportPath(); ok && window > 0 {
		return window
	}
	return math.MaxUint64
}

// onWindow takes the transport's window. Where there is a queue it must not be called: the window
// would only make that longer.
func (o *transportObserver) onWindow(window, retransmitted uint64) {
	o.window = window
	o.smooth = window > 0 && retransmitted == o.retransmitted && o.watchGaps == 0
}

// pollGap asks the transport what the peer holds back behind a gap.
func (o *transportObserver) pollGap() {
	if !o.endToEnd {
		return
	}
	if behind := o.transport.TransportGap(); behind > 0 {
		o.behindGap = max(o.behindGap, behind)
		o.gaps, o.reportsGaps = cycleRounds, true
	}
}

// onDelivered takes how much the peer has acknowledged: a gap that was filled has let it through.
func (o *transportObserver) onDelivered(bytes uint64) {
	o.behindGap -= min(o.behindGap, bytes)
}

// lossTrial finds out whether more inflight data raises the bandwidth: it does where packets are
// lost without a queue, and does not where the long round trips come from a queue.
type lossTrial struct {
	active     bool    // trialGain applies
	successful bool    // it has raised the bandwidth
	left       int     // rounds until it is judged or ends; while not active, until it may begin
	before     float64 // bandwidth when it began, bytes a second
	pause      int     // rounds of the last pause
}

// underway reports whether a trial is active or was until recently, so that its data still arrives.
func (t *lossTrial) underway() bool { return t.active || t.left > 0 }

// onRound notes whether a round shows a gap, the cycle's bandwidth, and the recent delivery rate.
func (t *lossTrial) onRound(gap bool, bandwidth, recent float64) {
	if t.left > 0 {
		t.left--
		return
	}
	switch {
	case !t.active && gap:
		*t = lossTrial{active: true, left: trialRounds, before: bandwidth, pause: t.pause}
	case t.active && t.successful:
		*t = lossTrial{left: recheckRounds}
	case t.active && recent >= trialGrowth*t.before:
		*t = lossTrial{active: true, successful: true, left: holdRounds}
	case t.active:
		pause := min(max(2*t.pause, pauseRounds), maxPauseRounds)
		*t = lossTrial{left: pause, pause: pause}
	}
}
