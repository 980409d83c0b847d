package tunnel

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"culvert/tunnel/mux"
)

// simRecovery bounds the time from the end of a fault to an answer through the tunnel. The last
// pause before an attempt may be backoffMax, and the attempt may be on a connection that TCP has
// just tried to establish in vain.
const simRecovery = 75 * time.Second

// simFault is something that happens to a tunnel. Its run returns when it is over.
type simFault struct {
	name   string
	weight int
	run    func(w *simWorld, rng *rand.Rand)

	fatal bool // the session ends
}

// simFaults are the faults of the schedule, with a weight each.
var simFaults = []simFault{
	{name: "cut", weight: 6, run: func(w *simWorld, _ *rand.Rand) { w.carriers.cut(0, 1) }},
	{name: "cut noticed at one end", weight: 4,
		run: func(w *simWorld, rng *rand.Rand) { w.carriers.cut(rng.IntN(2)) }},
	{name: "cuts", weight: 4, run: func(w *simWorld, rng *rand.Rand) {
		for range 2 + rng.IntN(8) {
			w.carriers.cut(0, 1)
			time.Sleep(simLogTime(rng, 10*time.Millisecond, 10*time.Second)) // synctest
		}
	}},
	{name: "silence", weight: 4,
		run: func(w *simWorld, _ *rand.Rand) { w.carriers.silence(0, 1) }},
	{name: "silence in one direction", weight: 4,
		run: func(w *simWorld, rng *rand.Rand) { w.carriers.silence(rng.IntN(2)) }},
	{name: "outage", weight: 4, run: func(w *simWorld, rng *rand.Rand) {
		w.carriers.setHole(true)
		w.carriers.silence(0, 1)
		time.Sleep(simLogTime(rng, time.Second, 80*time.Second)) // synctest
		w.carriers.setHole(false)
	}},
	{name: "freeze of the path", weight: 6, run: func(w *simWorld, rng *rand.Rand) {
		ends := 1 + rng.IntN(3)
		w.carriers.hold(ends&1 > 0, ends&2 > 0)
		time.Sleep(simLogTime(rng, 10*time.Millisecond, 60*time.Second)) // synctest
		w.carriers.hold(false, false)
	}},
	{name: "freeze of the local", weight: 3, run: func(w *simWorld, rng *rand.Rand) {
		w.freeze(rng, &w.clients)
	}},
	{name: "freeze of the remote", weight: 3, run: func(w *simWorld, rng *rand.Rand) {
		w.freeze(rng, &w.targets)
	}},
	{name: "damage", weight: 2, run: func(w *simWorld, rng *rand.Rand) {
		for end := rng.IntN(2); !w.carriers.damage(end) && w.pause(time.Millisecond); {
			continue
		}
	}},
	{name: "another path", weight: 6, run: func(w *simWorld, rng *rand.Rand) {
		w.carriers.change(simDelay(rng), simRate(rng))
	}},
	{name: "retry", weight: 4, run: func(w *simWorld, rng *rand.Rand) {
		for range 1 + rng.IntN(4) {
			w.local.Retry()
			time.Sleep(simLogTime(rng, time.Millisecond, time.Second)) // synctest
		}
	}},
	{name: "retry and cut", weight: 3, run: func(w *simWorld, rng *rand.Rand) {
		for range 1 + rng.IntN(4) {
			w.local.Retry()
			time.Sleep(simLogTime(rng, time.Millisecond, time.Second)) // synctest
			w.carriers.cut(0, 1)
		}
	}},
	{name: "probe", weight: 2, run: func(w *simWorld, rng *rand.Rand) { w.session.Probe() }},
	{name: "reload", weight: 3, run: func(w *simWorld, rng *rand.Rand) {
		w.reload(trustKeys(w.t, newKey(w.t), w.key))
	}},
	{name: "reload and cut", weight: 2, run: func(w *simWorld, rng *rand.Rand) {
		w.carriers.cut(0, 1)
		time.Sleep(simLogTime(rng, time.Millisecond, time.Second)) // synctest
		w.reload(trustKeys(w.t, w.key, newKey(w.t)))
	}},

	{name: "restart of the local", weight: 2, fatal: true, run: func(w *simWorld, _ *rand.Rand) {
		w.stopLocal()
		w.startLocal()
	}},
	{name: "crash of the local", weight: 2, fatal: true, run: (*simWorld).crashLocal},
	{name: "restart of the remote", weight: 2, fatal: true, run: func(w *simWorld, rng *rand.Rand) {
		w.stopRemote()
		time.Sleep(simLogTime(rng, time.Millisecond, 20*time.Second)) // synctest
		w.startRemote()
	}},
	{name: "outage beyond the window", weight: 1, fatal: true, run: (*simWorld).longOutage},
	{name: "revocation", weight: 2, fatal: true, run: (*simWorld).revoke},
}

// simLogTime returns a random time between two, even in its logarithm.
func simLogTime(rng *rand.Rand, least, most time.Duration) time.Duration {
	d := least
	for d < most && rng.IntN(8) > 0 {
		d += d / 2
	}
	return min(most, d+time.Duration(rng.Int64N(int64(d)/2+1)))
}

func simDelay(rng *rand.Rand) time.Duration {
	return simLogTime(rng, 500*time.Microsecond, 300*time.Millisecond)
}

func simRate(rng *rand.Rand) int { return 100 << 10 << rng.IntN(8) }

// freeze freezes a machine: nothing arrives there, nor on the other side of it.
func (w *simWorld) freeze(rng *rand.Rand, behind *simPath) {
	w.carriers.hold(true, true)
	behind.hold(true, true)
	time.Sleep(simLogTime(rng, 100*time.Millisecond, 60*time.Second)) // synctest
	behind.hold(false, false)
	w.carriers.hold(false, false)
}

func (w *simWorld) reload(trust RemoteTrust) {
	err := w.remote.Reload(RemoteIdentity{Key: w.remoteKey}, trust, w.rights())
	if err != nil {
		w.errorf("reload: %v", err)
	}
}

// crashLocal ends the local without a word to the remote, which keeps the session for its resume
// window and no longer.
func (w *simWorld) crashLocal(_ *rand.Rand) {
	w.carriers.silence(0, 1)
	w.local.Abort()
	w.stopLocal()
	crashed := w.session
	w.startLocal()
	w.session = w.awaitSession(simRecovery)
	waited := w.pause(w.resumeWindow + mux.DefaultKeepalive + 10*time.Second)
	w.remote.mu.Lock()
	n := len(w.remote.sessions)
	w.remote.mu.Unlock()
	if waited && (n != 1 || w.session == crashed) {
		w.errorf("%d sessions at the remote after the resume window of one", n)
	}
}

// longOutage outlasts the resume window.
func (w *simWorld) longOutage(rng *rand.Rand) {
	w.carriers.setHole(true)
	w.carriers.silence(0, 1)
	time.Sleep(w.resumeWindow + mux.DefaultKeepalive + 10*time.Second) // synctest
	w.remote.mu.Lock()
	n := len(w.remote.sessions)
	w.remote.mu.Unlock()
	if n > 0 {
		w.errorf("%d sessions at the remote after the resume window", n)
	}
	w.carriers.setHole(false)
}

// revoke takes the local's key off the list, which ends its session and the local, and starts both
// again.
func (w *simWorld) revoke(rng *rand.Rand) {
	w.reload(trustKeys(w.t, newKey(w.t)))
	select {
	case err := <-w.local.ended:
		if !IsAdmissionError(err) {
			w.errorf("the local of a revoked key ended with %v", err)
		}
	case <-time.After(simRecovery): // synctest
		w.errorf("the local of a revoked key has not ended")
	}
	w.stopLocal()
	w.reload(trustKeys(w.t, w.key))
	w.startLocal()
}

// disturb lets a fault happen, waits until the tunnel works again, and checks that its session has
// survived unless the fault is fatal.
func (w *simWorld) disturb(f simFault, rng *rand.Rand) {
	w.trace.printf("fault: %s", f.name)
	if f.fatal {
		w.begin(&w.deaths)
	}
	w.begin(&w.faults)
	before := w.session
	f.run(w, rng)
	w.trace.printf("over: %s", f.name)
	over := time.Now()
	for f.fatal && before.Err() == nil && time.Since(over) < simRecovery {
		time.Sleep(10 * time.Millisecond) // synctest: the local has not noticed yet
	}
	w.session = w.awaitSession(simRecovery)
	if w.session == nil {
		return
	}
	ctx, cancel := context.WithDeadline(context.Background(), over.Add(simRecovery))
	defer cancel()
	if _, err := w.session.Ping(ctx); err != nil {
		w.errorf("%v after %s: %v", time.Since(over), f.name, err)
	}
	w.stats.recovered(time.Since(over))
	switch {
	case f.fatal && w.session == before:
		w.errorf("the session has survived: %s", f.name)
	case !f.fatal && w.session != before:
		w.errorf("the session has not survived: %s", f.name)
	}
	w.finish()
}

// begin notes that a span of time begins.
func (w *simWorld) begin(spans *[]simSpan) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*spans = append(*spans, simSpan{from: time.Now()})
}

// finish notes that the spans of now are over.
func (w *simWorld) finish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, spans := range [][]simSpan{w.deaths, w.faults} {
		if n := len(spans); n > 0 && spans[n-1].to.IsZero() {
			spans[n-1].to = time.Now()
		}
	}
}

// mayBeCutShort reports whether the session has ended, as expected, since a time.
func (w *simWorld) mayBeCutShort(since time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return overlaps(w.deaths, since)
}

// mayFailToOpen reports whether a stream that a client has asked for at a time may be refused:
// there was no carrier for most of the time that it waits for one. The rest of that may be due to
// the fault before.
func (w *simWorld) mayFailToOpen(since time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	long := slices.DeleteFunc(slices.Clone(w.faults), func(s simSpan) bool {
		to := s.to
		if to.IsZero() {
			to = time.Now()
		}
		return to.Sub(s.from) < openWait*2/3
	})
	return overlaps(w.deaths, since) || overlaps(long, since)
}

// pickFault returns a fault of the schedule.
func pickFault(rng *rand.Rand) simFault {
	total := 0
	for _, f := range simFaults {
		total += f.weight
	}
	at := rng.IntN(total)
	for _, f := range simFaults {
		if at -= f.weight; at < 0 {
			return f
		}
	}
	panic("unreachable")
}
