package pace

import "time"

// rttFilter keeps the least round trips. Zero stands for none.
type rttFilter struct {
	windowStart time.Time        // of the present minRTTWindow
	windows     [2]time.Duration // the least of this window, and of the one before
	loaded      [2]time.Duration // the same of samples taken while not app-limited
	cycle       time.Duration    // the least of the probe cycle
	round       time.Duration    // the newest of the round
	latest      time.Duration    // the newest of all
	least       time.Duration    // the least of all
	drained     time.Duration    // busyMin when the queue was last known to be empty
}

// add takes a sample.
func (r *rttFilter) add(now time.Time, rtt time.Duration, appLimited bool) {
	if now.Sub(r.windowStart) >= minRTTWindow {
		r.windows[1], r.windows[0], r.windowStart = r.windows[0], 0, now
		r.loaded[1], r.loaded[0] = r.loaded[0], 0
	}
	r.windows[0] = shorter(r.windows[0], rtt)
	if !appLimited {
		r.loaded[0] = shorter(r.loaded[0], rtt)
	}
	r.cycle = shorter(r.cycle, rtt)
	r.round, r.latest, r.least = rtt, rtt, shorter(r.least, rtt)
}

// min returns min RTT: the round trip of the path when its queues are empty, 0 when it is unknown.
// It is that of a busy session if there was any: large records take longer than a ping, and are
// acknowledged later.
func (r *rttFilter) min() time.Duration {
	if busy := r.busyMin(); busy != 0 {
		return busy
	}
	return shorter(r.windows[0], r.windows[1])
}

// busyMin returns the least round trip of the session while it was busy, 0 when it was not.
func (r *rttFilter) busyMin() time.Duration { return shorter(r.loaded[0], r.loaded[1]) }

// onDrained takes the least round trip while the queue was drained, and by how much the session's
// own data may have delayed it. If that explains it, the path is as short as before.
func (r *rttFilter) onDrained(least, slack time.Duration) (explained bool) {
	explained = least <= scaled(r.drained, noQueueFactor, slack)
	if explained {
		r.loaded[0] = shorter(r.loaded[0], r.drained)
	}
	r.drained = r.busyMin()
	return explained
}

// exceeds reports whether a round trip is longer than factor × min RTT + rttSlack.
func (r *rttFilter) exceeds(rtt time.Duration, factor float64) bool {
	return r.min() > 0 && rtt > scaled(r.min(), factor, rttSlack)
}

// queued reports whether the round's round trip shows a queue.
func (r *rttFilter) queued() bool { return r.exceeds(r.round, queueFactor) }

// gap reports whether the round's round trip shows a loss, while another of the cycle shows that
// there was no queue.
func (r *rttFilter) gap() bool {
	return r.exceeds(r.round, gapFactor) && r.cycle > 0 && !r.exceeds(r.cycle, queueFactor)
}

// endsBeyond reports whether the session's path is longer than a transport's with such a smoothed
// and least round trip. A competing flow may have filled the path's queue ever since there was much
// to send; then both see that.
func (r *rttFilter) endsBeyond(rtt, minRTT time.Duration) bool {
	return r.min() > scaled(minRTT, queueFactor, rttSlack) &&
		r.latest > scaled(rtt, queueFactor, rttSlack)
}

// scaled returns factor × rtt + slack.
func scaled(rtt time.Duration, factor float64, slack time.Duration) time.Duration {
	return time.Duration(factor*float64(rtt)) + slack
}

// shorter returns the shorter of two durations, either of which may be 0 for none.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 || (b != 0 && b < a) {
		return b
	}
	return a
}

// delivery is what the peer acknowledged in a round.
type delivery struct{ bytes, seconds float64 }

// add adds another delivery.
func (d *delivery) add(other delivery) {
	d.bytes += other.bytes
	d.seconds += other.seconds
}

// rate returns the delivery rate, in bytes a second.
func (d *delivery) rate() float64 { return d.bytes / d.seconds }

// bandwidthFilter estimates the path's bandwidth: the largest delivery rate of the last cycle.
type bandwidthFilter struct {
	recent  [gapRounds]delivery // the last rounds, the newest first
	bursty  int                 // for how many more rounds data counts as arriving in bursts
	samples [cycleRounds]float64
	next    int     // index in samples
	max     float64 // the largest of samples, bytes a second
}

// record notes a round's delivery. queued is whether its round trip was long, so that data may
// arrive in bursts.
func (b *bandwidthFilter) record(d delivery, queued bool) {
	copy(b.recent[1:], b.recent[:])
	b.recent[0] = d
	b.bursty = max(b.bursty-1, 0)
	if queued {
		b.bursty = burstyRounds
	}
}

// recentRate returns the mean delivery rate of the last rounds, in bytes a second.
func (b *bandwidthFilter) recentRate(rounds int) float64 {
	var sum delivery
	for _, d := range b.recent[:rounds] {
		sum.add(d)
	}
	return sum.rate()
}

// add takes a rate sample in place of the oldest.
func (b *bandwidthFilter) add(sample float64) {
	b.samples[b.next] = sample
	b.next = (b.next + 1) % len(b.samples)
	b.max = 0
	for _, s := range b.samples {
		b.max = max(b.max, s)
	}
}
