package tunnel

import (
	"context"
	"sync"
	"time"

	"culvert/protocol"
)

// hedges are the connections that compete for one attempt. A packet that TCP loses again and again
// is sent after pauses that double, to half a minute on a bad link, and the next connection may be
// lucky at once; so when one takes long, another is started, and the first that is secured is used.
type hedges struct {
	connector *localConnector
	route     *localRoute
	progress  *attemptProgress
	results   chan hedge // with room for all of them
	started   int
	running   int
}

// hedge is the outcome of one of them.
type hedge struct {
	conn    *protocol.Conn
	path    localPath
	cookies *attemptCookies
	took    time.Duration // by the handshake
	steps   *stepClock
	err     error
}

// race returns a connection to the remote whose handshake is done, and the clock of its steps.
// An error is that of the first connection that failed, unless a later one is final.
// After delay, and then again, another connection is started.
func (c *localConnector) race(
	ctx context.Context, route *localRoute, progress *attemptProgress, delay time.Duration,
) hedge {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	h := &hedges{
		connector: c, route: route, progress: progress, results: make(chan hedge, maxHedges),
	}
	defer h.drop()
	h.start(ctx)
	next := time.NewTimer(delay)
	defer next.Stop()
	var outcome hedge
	for {
		select {
		case r := <-h.results:
			h.running--
			if outcome.steps == nil || r.err == nil || isFinal(r.err) && !isFinal(outcome.err) {
				outcome = r
			}
			if r.err == nil || isFinal(r.err) || h.running == 0 {
				progress.follow(outcome.steps)
				return outcome
			}
		case <-next.C:
			h.start(ctx)
			if h.started < maxHedges {
				next.Reset(delay)
			}
		}
	}
}

// start starts a connection. The steps of the first are reported as they end, and those of all are
// logged.
func (h *hedges) start(ctx context.Context) {
	h.started++
	log := h.connector.log.With().Stringer("remote", h.connector.address).
		Int("connection", h.started).Logger()
	steps := &stepClock{progress: h.progress, log: log}
	steps.begin(StepTCP)
	h.progress.start(steps)
	h.running++
	h.connector.hedging.Go(func() {
		r := h.connector.runHedge(ctx, h.route, steps)
		r.steps = steps
		h.results <- r
	})
}

// drop closes those that come too late. They have been told to stop; whoever is connected by then
// takes a while to close.
func (h *hedges) drop() {
	n := h.running
	h.connector.hedging.Go(func() {
		for range n {
			if r := <-h.results; r.err == nil {
				r.conn.Close()
			}
		}
	})
}

// attemptProgress collects what the connections of an attempt report.
type attemptProgress struct {
	mu       sync.Mutex
	report   func(Progress) // may be nil
	followed *stepClock     // the one whose steps are reported
	told     map[Step]bool
	advanced time.Time // when a step last began
}

func newAttemptProgress(report func(Progress)) *attemptProgress {
	return &attemptProgress{report: report, told: map[Step]bool{}, advanced: time.Now()}
}

// start follows the first connection.
func (p *attemptProgress) start(steps *stepClock) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.followed == nil {
		p.followed = steps
	}
}

// follow reports from now on what steps does, and what it has done beyond what was reported.
func (p *attemptProgress) follow(steps *stepClock) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.followed = steps
	for _, held := range steps.held {
		if !p.told[held.Step] {
			p.tellLocked(held)
		}
	}
	steps.held = nil
}

// add takes the report of a step.
func (p *attemptProgress) add(steps *stepClock, step Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.followed == steps {
		p.tellLocked(step)
	} else {
		steps.held = append(steps.held, step)
	}
}

func (p *attemptProgress) tellLocked(step Progress) {
	p.told[step.Step] = true
	if p.report != nil {
		p.report(step)
	}
}

// advance notes that a step begins.
func (p *attemptProgress) advance(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.advanced = now
}

// idle returns for how long no step has begun.
func (p *attemptProgress) idle() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Since(p.advanced)
}
