package pace

import (
	"testing"
	"time"
)

// TestEarlierLosses: what the transport retransmitted before the session began is not its loss.
func TestEarlierLosses(t *testing.T) {
	const rtt = 80 * time.Millisecond
	p := newSimPath(6.25e6, rtt)
	earlier := &simTransport{rtt: rtt, minRTT: rtt, retransmitted: 1000}
	p.c = New(testConfig, Start{Now: p.now, Transport: earlier})
	p.lossEvery = rtt + rtt/2
	gaps := 0
	p.run(10*time.Second, func() {
		if p.c.rtt.queued() {
			gaps++
		}
		if p.c.observer.lossy > 0 {
			t.Fatal("the path counts as losing packets")
		}
	})
	if gaps == 0 {
		t.Error("no round trip was long, so the transport's count never mattered")
	}
}

// TestStartupOutlastsLosses: rounds with known losses do not end the startup, flat as they are; it
// ends once they do.
func TestStartupOutlastsLosses(t *testing.T) {
	const rtt = 80 * time.Millisecond
	p := newSimPath(6.25e6, rtt)
	transport := &simTransport{rtt: rtt, minRTT: rtt, losing: true}
	p.c = New(testConfig, Start{Now: p.now, Transport: transport})
	p.c.observer.lossy = lossyRounds // a loss in the first round
	p.lossEvery = rtt + rtt/2
	p.run(5*time.Second, nil)
	if p.c.startup.filledPipe || p.c.observer.lossy == 0 || p.c.gain() != freeGain {
		t.Errorf("during the losses: filled pipe %v, lossy for %d rounds, gain %v",
			p.c.startup.filledPipe, p.c.observer.lossy, p.c.gain())
	}
	if full := p.c.startup.fullBandwidth; full < 0.9*p.rate || full > 1.1*p.rate {
		t.Errorf("full bandwidth %.0f, the path's is %.0f", full, p.rate)
	}
	transport.losing, transport.path, p.lossEvery = false, p, 0
	p.run((lossyRounds+cycleRounds)*2*rtt, nil)
	checkSteady(t, p)
}

// TestLossTrial follows trials: what fails is tried again after ever longer pauses, what succeeds
// holds and is checked again.
func TestLossTrial(t *testing.T) {
	const gap, noGap = true, false
	var trial lossTrial
	rounds := func(n int, gap bool, recent float64) {
		for range n {
			trial.onRound(gap, 100, recent)
		}
	}
	rounds(10, noGap, 100)
	if trial != (lossTrial{}) {
		t.Fatalf("without a gap: %+v", trial)
	}
	for _, pause := range []int{64, 128, 256, 512, 1024, 1024} {
		rounds(1, gap, 100)
		if !trial.active || trial.successful || trial.before != 100 || !trial.underway() {
			t.Fatalf("after a gap: %+v", trial)
		}
		rounds(trialRounds+1, gap, trialGrowth*100-1)
		if trial.active || trial.left != pause {
			t.Fatalf("after a failure: %+v, want a pause of %d rounds", trial, pause)
		}
		rounds(pause, gap, 100)
		if trial.active {
			t.Fatalf("during the pause: %+v", trial)
		}
	}
	rounds(1+trialRounds+1, gap, trialGrowth*100)
	if !trial.active || !trial.successful || trial.left != holdRounds {
		t.Fatalf("after a success: %+v", trial)
	}
	rounds(holdRounds, gap, 100)
	if !trial.active {
		t.Fatalf("the gain does not hold: %+v", trial)
	}
	rounds(1, gap, 100)
	if trial.active || trial.left != recheckRounds || !trial.underway() {
		t.Fatalf("when it is due to be checked: %+v", trial)
	}
	rounds(recheckRounds+1, gap, 100)
	if !trial.active {
		t.Fatalf("a gap when checked: %+v", trial)
	}
	rounds(trialRounds+1, gap, 100)
	if trial.left != pauseRounds {
		t.Fatalf("the first failure after a success: %+v", trial)
	}
}
