package pace

import "time"

// simBottleneck is a queue, first in, first out, in which a session and a rival wait for the same
// link.
type simBottleneck struct {
	rate      float64       // bytes a second
	roundTrip time.Duration // without queue
	buffer    float64       // bytes; what comes while it is full tells the flow of a loss
	queue     []simParcel
	queued    float64 // bytes
}

type simParcel struct {
	flow  *simTCP
	bytes float64
}

// send puts bytes of a flow into the queue.
func (b *simBottleneck) send(now time.Time, f *simTCP, bytes float64) {
	f.sent += bytes
	b.queued += bytes
	if n := len(b.queue); n > 0 && b.queue[n-1].flow == f {
		b.queue[n-1].bytes += bytes
	} else {
		b.queue = append(b.queue, simParcel{f, bytes})
	}
	if b.queued > b.buffer {
		f.onLoss(now)
	}
}

// step takes what the link carries in a step out of the queue, and returns it to the flows as
// acknowledged, a round trip later.
func (b *simBottleneck) step(now time.Time) {
	left := b.rate * simStep.Seconds()
	for len(b.queue) > 0 && left > 0 {
		p := &b.queue[0]
		n := min(left, p.bytes)
		p.bytes -= n
		left -= n
		b.queued -= n
		p.flow.served += n
		p.flow.acks = append(p.flow.acks, simTCPAck{now.Add(b.roundTrip), p.flow.served})
		if p.bytes > 0 {
			return
		}
		b.queue = b.queue[1:]
	}
}

// simTCP is a flow under a congestion control that is much like BBR (version 1) or CUBIC.
type simTCP struct {
	bbr    bool
	minRTT time.Duration

	sent, served, acked float64 // bytes
	acks                []simTCPAck
	window              float64 // bytes

	// BBR.
	began     time.Time // the present round
	delivered float64   // at its beginning
	limited   bool      // it had less to send in the round
	rates     [10]float64
	rounds    int
	full      float64   // the rate that the startup has reached
	flat      int       // rounds without growth, until the startup is over
	budget    float64   // bytes that may leave now
	probed    time.Time // when it began to measure its round trip

	// CUBIC.
	slowStart bool
	most      float64   // window before the last loss
	lostAt    time.Time // when that was
	fullAt    time.Time // when the window was last full; it grows only then
}

type simTCPAck struct {
	due    time.Time
	served float64
}

func newSimTCP(bbr bool, now time.Time, minRTT time.Duration) *simTCP {
	return &simTCP{
		bbr: bbr, minRTT: minRTT, began: now, lostAt: now, probed: now, window: 10 * 1448,
		slowStart: true,
	}
}

// bandwidth returns BBR's estimate.
func (f *simTCP) bandwidth() (most float64) {
	for _, r := range f.rates {
		most = max(most, r)
	}
	return most
}

// gain returns BBR's pacing gain.
func (f *simTCP) gain() float64 {
	switch place := f.rounds % 8; {
	case f.flat < 3:
		return 2.89
	case place == 0:
		return 1.25
	case place == 1:
		return 0.75
	}
	return 1
}

// step takes the acknowledgements that have come.
func (f *simTCP) step(now time.Time) {
	for len(f.acks) > 0 && !f.acks[0].due.After(now) {
		if f.slowStart && !f.bbr {
			f.window += f.acks[0].served - f.acked
		}
		f.acked = f.acks[0].served
		f.acks = f.acks[1:]
	}
	if !f.bbr {
		f.growCubic(now)
		return
	}
	rate := f.bandwidth()
	f.budget = min(f.budget+f.gain()*rate*simStep.Seconds(), 4*1448)
	if rate == 0 {
		f.budget = f.window
	}
	if now.Sub(f.began) < f.minRTT {
		return
	}
	sample := (f.acked - f.delivered) / now.Sub(f.began).Seconds()
	if !f.limited || sample > rate {
		f.rates[f.rounds%len(f.rates)] = sample
		f.rounds++
	}
	f.began, f.delivered, f.limited = now, f.acked, false
	if sample > 1.25*f.full {
		f.full, f.flat = sample, 0
	} else if f.full > 0 {
		f.flat++
	}
	gain := 2.0
	if f.flat < 3 {
		gain = 2.89
	}
	f.window = max(f.window, 10*1448)
	if bandwidth := f.bandwidth(); bandwidth > 0 {
		f.window = gain*bandwidth*f.minRTT.Seconds() + 6*1448
	}
	if now.Sub(f.probed) >= 10*time.Second {
		f.probed = now
	}
	if f.flat >= 3 && now.Sub(f.probed) < 200*time.Millisecond {
		f.window = 4 * 1448
	}
}

// growCubic sets CUBIC's window (RFC 9438, section 4.2).
func (f *simTCP) growCubic(now time.Time) {
	if f.slowStart {
		return
	}
	const c, segment = 0.4, 1448
	most := f.most / segment
	since := now.Sub(f.lostAt).Seconds() - cubeRoot(most*0.3/c)
	window := segment * (c*since*since*since + most)
	if window < f.window || now.Sub(f.fullAt) < f.minRTT {
		f.window = window
	}
}

func cubeRoot(x float64) float64 {
	r := max(x, 1)
	for range 60 {
		r -= (r*r*r - x) / (3 * r * r)
	}
	return r
}

// onLoss notes that something was lost. BBR ignores it.
func (f *simTCP) onLoss(now time.Time) {
	if f.bbr || (!f.slowStart && now.Sub(f.lostAt) < 3*f.minRTT) {
		return
	}
	f.slowStart, f.most, f.lostAt = false, f.window, now
}

// maySend returns how many bytes may leave now.
func (f *simTCP) maySend() float64 {
	most := f.window - (f.sent - f.acked)
	if f.bbr {
		most = min(most, f.budget)
	}
	return most
}

// share is a session, or a flow without one, next to a rival.
type share struct {
	path  *simPath
	link  *simBottleneck
	below *simTCP // of the session
	rival *simTCP
	alone bool // the session has no controller: TCP alone decides
}

func newShare(link simBottleneck, bbr, rivalBBR bool) *share {
	p := newSimPath(link.rate, link.roundTrip)
	s := &share{path: p, link: &link}
	s.below = newSimTCP(bbr, p.now, link.roundTrip)
	s.rival = newSimTCP(rivalBBR, p.now, link.roundTrip)
	p.c.observer.transport = s
	return s
}

// run simulates a time in which the session, the rival or both have much to send.
func (s *share) run(d time.Duration, session, rival bool) {
	p := s.path
	for end := p.now.Add(d); p.now.Before(end); {
		p.now = p.now.Add(simStep)
		s.below.step(p.now)
		s.rival.step(p.now)
		p.takeAcks()
		if session {
			s.sendSession()
		}
		for rival && s.rival.maySend() >= 1448 {
			s.rival.budget -= 1448
			s.link.send(p.now, s.rival, 1448)
		}
		s.rival.fullAt = p.now
		s.link.step(p.now)
		p.served = s.below.served
		p.acknowledge()
	}
}

// sendSession hands TCP what the controller allows, as far as the socket takes it, and lets TCP
// send what it may.
func (s *share) sendSession() {
	p := s.path
	for !s.alone && p.c.CanSend(uint64(p.sent)-p.acked) &&
		p.sent-s.below.sent < float64(p.c.UnsentLimit()) {
		p.sent += float64(p.c.FrameSize())
		if p.timedAt.IsZero() {
			p.timed, p.timedAt = uint64(p.sent), p.now
		}
	}
	for s.below.maySend() >= 1448 {
		if !s.alone && p.sent-s.below.sent < 1448 {
			s.below.limited = true
			return
		}
		s.below.budget -= 1448
		s.link.send(p.now, s.below, 1448)
	}
	s.below.fullAt = p.now
}

// measure returns the session's share of what both move in a time.
func (s *share) measure(d time.Duration) float64 {
	ours, theirs := s.below.served, s.rival.served
	s.run(d, true, true)
	ours, theirs = s.below.served-ours, s.rival.served-theirs
	return ours / (ours + theirs)
}

// queue returns the mean of the queue in a time, as the time that it takes to drain.
func (s *share) queue(d time.Duration, rival bool) time.Duration {
	sum, steps := 0.0, 0
	for end := s.path.now.Add(d); s.path.now.Before(end); steps++ {
		s.run(time.Millisecond, true, rival)
		sum += s.link.queued
	}
	return time.Duration(sum / float64(steps) / s.link.rate * float64(time.Second))
}

// TransportPath is what the session's TCP measures.
func (s *share) TransportPath() (
	rtt, minRTT time.Duration, retransmitted, window uint64, ok bool,
) {
	queue := time.Duration(s.link.queued / s.link.rate * float64(time.Second))
	return s.link.roundTrip + queue, s.link.roundTrip, 0, uint64(s.below.window), true
}

// TransportGap reports none: nothing is lost for good.
func (s *share) TransportGap() uint64 { return 0 }
