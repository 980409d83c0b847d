package pace

import "time"

// Config describes the session to its controller. All fields are bytes, and all are required.
type Config struct {
	// MaxFrame is the most data that the session puts into one frame.
	MaxFrame int

	// FirstRecord is the most data that the session should put into one record before anything is
	// measured. The path may be slow; see RecordSize.
	FirstRecord int

	// MaxBurst is the most that the session can hand to its carrier at once.
	MaxBurst int

	// AckThreshold is how much data may arrive before the peer hurries to acknowledge it.
	AckThreshold int

	// InitialInflight bounds inflight data before anything is measured, and is the least bound
	// during startup. It should exceed TCP's initial window, so that TCP's own slow start is not
	// held back.
	InitialInflight uint64
}

// Start is where a session is when a carrier begins to serve it.
type Start struct {
	Now time.Time

	// Position is what the peer has received so far, in bytes.
	Position uint64

	// Transport is nil when the carrier has none to ask.
	Transport Transport

	// LastInflight is the bound of the session's carrier before this one, 0 when there was none.
	// Most often the next one takes the same path, so its startup begins at half of the bound.
	LastInflight uint64
}

// Controller models the path of one carrier of a session and bounds what the session has inflight
// on it. Another carrier may take another path, so it gets a Controller of its own.
//
// A Controller is not safe for concurrent use; the session calls it with its mutex held. No method
// blocks. Time comes from the caller only, and must not go backwards.
type Controller struct {
	cfg    Config
	bounds bounds

	// The present round.
	roundStart     time.Time
	lastAcked      uint64 // position
	inflight       uint64 // when the session last asked whether it may send
	roundDelivered uint64 // at its start: acknowledged, or held back behind a gap
	roundLimited   bool   // the session was app-limited in it

	rtt       rttFilter
	bandwidth bandwidthFilter
	startup   startup
	rounds    int // since the startup ended; modulo cycleRounds, the place in the probe cycle
	trial     lossTrial
	observer  transportObserver
	drain     drain

	competition competition
	sharing     sharing
	interaction interaction
}

// bounds are what follows from the model, in bytes.
type bounds struct {
	inflight uint64
	frame    int
	record   int
	turn     int
	burst    int
	unsent   int
}

// New returns a controller for a new carrier.
func New(cfg Config, start Start) *Controller {
	c := &Controller{
		cfg:            cfg,
		roundStart:     start.Now,
		roundDelivered: start.Position,
		lastAcked:      start.Position,
		rtt:            rttFilter{windowStart: start.Now},
		startup:        startup{minInflight: max(cfg.InitialInflight, start.LastInflight/2)},
		observer:       newTransportObserver(start.Transport),
	}
	c.updateBounds()
	return c
}

// CanSend reports whether a session with so many bytes inflight may send more.
func (c *Controller) CanSend(inflight uint64) bool {
	c.inflight = inflight
	return inflight < c.bounds.inflight+c.observer.behindGap
}

// WatchesGaps reports whether the session should call OnStalled when it can't send and no
// acknowledgement comes.
func (c *Controller) WatchesGaps() bool { return c.observer.watchGaps > 0 }

// OnStalled notes that no acknowledgement has come for GapInterval. What the peer has received and
// can't deliver yet, because something before it was lost, is not on the path any more, so that
// CanSend may allow more.
func (c *Controller) OnStalled() { c.observer.pollGap() }

// Inflight returns the bound on inflight data, in bytes.
func (c *Controller) Inflight() uint64 { return c.bounds.inflight }

// FrameSize returns the most data that one frame should hold, in bytes.
func (c *Controller) FrameSize() int { return c.bounds.frame }

// RecordSize returns the most data that one record should hold, in bytes. A peer handles records
// whole, so that it is all or nothing that arrives and is acknowledged.
func (c *Controller) RecordSize() int { return c.bounds.record }

// TurnSize returns how many bytes one of several streams should send before it is the next one's
// turn.
func (c *Controller) TurnSize() int { return c.bounds.turn }

// BurstSize returns how many bytes should be handed to the carrier at once.
func (c *Controller) BurstSize() int { return c.bounds.burst }

// UnsentLimit returns how many bytes the carrier's socket should hold that TCP has not sent yet
// (TCP_NOTSENT_LOWAT).
func (c *Controller) UnsentLimit() int { return c.bounds.unsent }

// OnAppLimited notes that the session had less to send than CanSend allows, or no credit for it:
// the round's delivery rate is then no measure of the path.
func (c *Controller) OnAppLimited() { c.roundLimited = true }

// Rate returns the delivery rate that the controller assumes, in bytes a second: the most that the
// path has recently delivered. It is 0 until it is measured.
func (c *Controller) Rate() float64 { return c.bandwidth.max }

// OnRTTSample takes a round trip: from when data was sent until its acknowledgement arrived.
func (c *Controller) OnRTTSample(now time.Time, rtt time.Duration) {
	c.rtt.add(now, rtt, c.roundLimited)
	if c.drain.underway {
		c.onDrainSample(now, rtt)
	}
}

// OnAck takes the peer's acknowledgement of all data before position. Where that ends a round, the
// model and the bounds follow.
func (c *Controller) OnAck(now time.Time, position uint64) {
	c.interaction.expire(now)
	acked := position - c.lastAcked
	c.lastAcked = position
	c.observer.onDelivered(acked)
	c.drain.onAck(now, position)
	if !c.startup.filledPipe {
		c.observer.pollWindow()
		c.bounds.inflight = max(c.bounds.inflight, c.transportBound())
	}
	elapsed := now.Sub(c.roundStart)
	if elapsed < c.roundLength() {
		return
	}
	if c.observer.watchGaps > 0 {
		c.observer.pollGap()
	}
	delivered := position + c.observer.behindGap
	sample := c.sampleRate(delivery{float64(delivered - c.roundDelivered), elapsed.Seconds()})
	appLimited := c.roundLimited || c.drain.underway
	c.roundStart, c.roundDelivered, c.roundLimited = now, delivered, false
	if appLimited {
		c.sharing.pause()
		if sample <= c.bandwidth.max {
			return
		}
	}
	c.endRound(now, sample, appLimited)
	c.updateBounds()
}

// OnRestart notes that the session sends while nothing is inflight. Where it was idle for longer
// than a round, a round begins: the time without data is no part of a delivery rate.
func (c *Controller) OnRestart(now time.Time) {
	if now.Sub(c.roundStart) < c.roundLength() {
		return
	}
	c.roundStart, c.roundLimited = now, false
	c.roundDelivered = c.lastAcked + c.observer.behindGap
	c.bandwidth.recent = [gapRounds]delivery{}
	c.sharing.pause()
	c.onIdle()
}

// roundLength returns how long a round takes at least.
func (c *Controller) roundLength() time.Duration { return max(c.rtt.min(), minRound) }

// transportBound returns the bound with which the transport, and not the session, limits what is
// inflight: what it may have in flight and hold unsent, and what is not acknowledged yet. It is 0
// unless the transport has told in this startup.
func (c *Controller) transportBound() uint64 {
	window := c.observer.window
	if window == 0 {
		return 0
	}
	return window + uint64(c.bounds.unsent) + uint64(c.slack()+c.quantizationBudget())
}

// sampleRate returns the delivery rate that a round shows. After a loss, what came behind it
// arrives all at once, after a while in which nothing did. A long round trip shows that; then the
// rounds before count too. The last one always does, except in the startup, which it would delay.
func (c *Controller) sampleRate(d delivery) float64 {
	b := &c.bandwidth
	b.record(d, c.delayed())
	filled := c.startup.filledPipe
	switch {
	case b.bursty > 0 && (c.trial.underway() || (c.observer.lossy > 0 && filled)):
		return b.recentRate(gapRounds)
	case b.bursty > 0:
		return b.recentRate(burstyRounds)
	case filled:
		return b.recentRate(2)
	}
	return b.recentRate(1)
}

// delayed reports whether the round's round trip shows a queue or a gap. In the startup, the
// transport may know that it is neither: the data has waited in the socket until the transport's
// window let it leave.
func (c *Controller) delayed() bool {
	return c.rtt.queued() && (c.startup.filledPipe || !c.observer.smooth)
}

// endRound moves the model on by a round with a valid rate sample.
func (c *Controller) endRound(now time.Time, sample float64, appLimited bool) {
	before := c.bandwidth.max
	c.bandwidth.add(sample)
	c.rounds++
	filled := c.startup.filledPipe
	switch {
	case !filled && !appLimited:
		c.checkFullPipe(sample)
		if c.startup.filledPipe && c.showsQueue(c.rtt.latest) {
			c.onStartupQueue()
		}
	case filled && c.bandwidth.bursty == 0 && sample >= restartGrowth*before && c.probeShows() &&
		!c.competes():
		c.startup.restart(sample)
	case filled:
		c.checkOthers(now, appLimited)
		c.checkMinRTT()
	}
	c.observer.poll(&c.rtt, !c.startup.filledPipe)
	if c.startup.filledPipe && c.observer.lossy == 0 && !c.observer.reportsGaps {
		gap := c.rtt.gap() && !c.competes()
		c.trial.onRound(gap, c.bandwidth.max, c.bandwidth.recentRate(burstyRounds))
	}
	c.rtt.round = 0
}

// onStartupQueue notes that the startup has ended with a queue: whose it is is looked at.
func (c *Controller) onStartupQueue() {
	switch {
	case !c.observer.endToEnd:
		c.startDrain(c.rtt.least)
	case c.boundCosts():
		c.look()
	}
}

// checkFullPipe ends the startup when the pipe is filled. Rounds with losses that no queue explains
// prove nothing: TCP is still growing. Neither do those in which the transport's window, or its
// peer's, has no room for more than was delivered.
func (c *Controller) checkFullPipe(sample float64) {
	full := c.startup.fullBandwidth
	if c.observer.lossy > 0 {
		c.startup.fullBandwidth = max(full, sample)
		return
	}
	more := fullGrowth * full
	window := float64(c.observer.window)
	if sample < more && window > 0 && window < more*c.rtt.min().Seconds() {
		return
	}
	if c.startup.onRound(sample, c.delayed()) {
		c.rounds, c.rtt.cycle = 0, 0
		c.sharing.begin(c.bandwidth.recentRate(fullRounds))
	}
}

// probeShows reports whether the round that just ended is one in which the effect of the cycle's
// probe arrives.
func (c *Controller) probeShows() bool {
	place := c.rounds % cycleRounds
	return place == 1 || place == 2
}

// quantizationBudget returns the bytes by which the bound exceeds the model's, because frames are
// sent whole and acknowledged together.
func (c *Controller) quantizationBudget() float64 {
	return float64(budgetFrames*c.bounds.frame + c.cfg.AckThreshold)
}

// gain returns the factor between the BDP and what may be inflight.
func (c *Controller) gain() float64 {
	probe := probeGains[c.rounds%cycleRounds]
	switch {
	case c.leftToTCP():
		return freeGain
	case !c.startup.filledPipe:
		return startupGain
	case c.competition.active:
		return competingGain
	case c.trial.active:
		return trialGain
	case c.observer.gaps > 0 && probe >= 1:
		return gapGain
	case c.observer.noQueue: // nothing to drain: the path is not what limits the rate
		return max(probe, 1)
	}
	return probe
}

// leftToTCP reports whether TCP decides how much is inflight: there are losses without a queue, or
// a competing flow. In the startup a queue may be that of a competing flow, next to which TCP gets
// its share in its own startup, or late.
func (c *Controller) leftToTCP() bool {
	o := &c.observer
	startup := !c.startup.filledPipe && !o.short
	return o.lossy > 0 || (o.endToEnd && (c.sharing.free || startup))
}

// updateBounds sets the bounds from the model.
func (c *Controller) updateBounds() {
	bandwidth := c.bandwidth.max
	b := &c.bounds
	if bandwidth == 0 {
		frame := c.cfg.MaxFrame
		*b = bounds{c.startup.minInflight, frame, c.cfg.FirstRecord, frame, frame, 2 * frame}
		return
	}
	expected := bandwidth // until the next round ends
	if !c.startup.filledPipe {
		expected *= startupGain
	}
	b.frame = clamp(expected*frameTime.Seconds(), minFrame, c.cfg.MaxFrame)
	b.record = clamp(expected*recordTime.Seconds(), minRecord, c.cfg.MaxFrame)
	b.turn = b.frame
	if !c.interaction.active {
		b.turn = clamp(bandwidth*turnTime.Seconds(), b.frame, turnFrames*b.frame)
	}
	b.burst = clamp(expected*burstTime.Seconds(), b.frame, c.cfg.MaxBurst)
	b.unsent = clamp(expected*unsentTime.Seconds(), minUnsent, maxUnsent)
	bdp := bandwidth * c.rtt.min().Seconds()
	b.inflight = uint64(c.gain()*bdp + c.slack() + c.quantizationBudget())
	if !c.startup.filledPipe {
		b.inflight = max(b.inflight, c.startup.minInflight, c.transportBound())
	}
	if c.leftToTCP() {
		b.inflight = max(b.inflight, freeInflight)
	}
	if c.sharing.look.underway {
		b.inflight = c.sharing.look.bound
	}
	if c.observer.lossy > 0 {
		b.unsent = min(lossyUnsentFactor*b.unsent, maxUnsent)
	}
	if c.drain.underway {
		b.inflight = c.drain.inflight
	}
}

// clamp returns bytes between least and most.
func clamp(bytes float64, least, most int) int {
	return int(min(max(bytes, float64(least)), float64(most)))
}
