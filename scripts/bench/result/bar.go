package result

import (
	"math"
	"slices"
)

// Bar is a figure that culvert should reach.
type Bar struct {
	Figure string
	AtMost bool    // the figure should be at most Value, not at least
	Within bool    // the figure, a difference, should be at most Value from 0
	Value  float64 // the bar
	Beyond float64 // the goal beyond the bar; 0: none
	Unit   string  // "ms", "KB", or empty for a ratio or a count

	// Precise is for a figure that differs from the bar by less than single rounds do from each
	// other: it is shown with the error of its median, not with the range of the rounds.
	Precise bool

	values func(*Results) []float64
}

// Names of the peers that bars compare, as in package peer.
const (
	ours    = "culvert"
	fastest = "openssh-gcm" // OpenSSH with its fastest cipher
	direct  = "none"

	system   = ours + "-system"   // with the system's congestion control
	always   = ours + "-always"   // with --fast-open always
	observed = ours + "-observed" // with a control socket, an access log, metrics and events
	users    = ours + "-users"    // a remote with many users
)

// Bars are the figures that culvert should reach.
var Bars = []Bar{
	{Figure: "one stream down on loopback, against OpenSSH with aes128-gcm", Value: 1, Beyond: 1.3,
		values: ratio("loopback-down-1", "mb_per_s", fastest)},
	{Figure: "one stream up on loopback, against the same", Value: 1, Beyond: 1.3,
		values: ratio("loopback-up-1", "mb_per_s", fastest)},
	{Figure: "16 streams down, against the same", Value: 1,
		values: ratio("loopback-down-16", "mb_per_s", fastest)},
	{Figure: "16 streams up, against the same", Value: 1,
		values: ratio("loopback-up-16", "mb_per_s", fastest)},
	{Figure: "CPU time per GB down, both ends, against the same", AtMost: true, Value: 1, Beyond: 0.8,
		values: ratio("loopback-down-1", "cpu_s_per_gb", fastest)},
	{Figure: "CPU time per GB up, both ends, against the same", AtMost: true, Value: 1, Beyond: 0.8,
		values: ratio("loopback-up-1", "cpu_s_per_gb", fastest)},
	{Figure: "echo under 4 downloads at 40 ms, 50 Mbit/s, p50", AtMost: true, Value: 60, Beyond: 45,
		Unit:   "ms",
		values: own("narrow-down", "p50_ms")},
	{Figure: "the same, p90", AtMost: true, Value: 80, Unit: "ms",
		values: own("narrow-down", "p90_ms")},
	{Figure: "the same with HAProxy in front of the remote, p50", AtMost: true, Value: 90, Beyond: 60,
		Unit:   "ms",
		values: own("narrow-haproxy", "p50_ms")},
	{Figure: "echo under 4 uploads at 40 ms, 10 Mbit/s up, p50", AtMost: true, Value: 80, Beyond: 60,
		Unit:   "ms",
		values: own("narrow-up", "p50_ms")},
	{Figure: "echo under 4 downloads on loopback, p50", AtMost: true, Value: 5, Beyond: 2, Unit: "ms",
		values: own("loopback-echo-down", "p50_ms")},
	{Figure: "the same, against OpenSSH with aes128-gcm", AtMost: true, Value: 1,
		values: ratio("loopback-echo-down", "p50_ms", fastest)},
	{Figure: "echo under 4 uploads on loopback, p50, against the same", AtMost: true, Value: 1,
		values: ratio("loopback-echo-up", "p50_ms", fastest)},
	{Figure: "throughput of the downloads at 50 Mbit/s, against the best peer", Value: 0.97,
		values: againstBest("narrow-down", "bulk_mb_per_s")},
	{Figure: "of the downloads through HAProxy, against the best peer", Value: 0.97,
		values: againstBest("narrow-haproxy", "bulk_mb_per_s")},
	{Figure: "of the uploads at 10 Mbit/s, against the best peer", Value: 0.97,
		values: againstBest("narrow-up", "bulk_mb_per_s")},
	{Figure: "one stream down at 100 ms, 1 Gbit/s, against no proxy", Value: 0.95, Beyond: 1,
		values: ratio("long-down", "mb_per_s", direct)},
	{Figure: "one stream up at 100 ms, 1 Gbit/s, against no proxy", Value: 0.95, Beyond: 1,
		values: ratio("long-up", "mb_per_s", direct)},
	{Figure: "first byte of a new connection to a known target at 100 ms", AtMost: true, Value: 105,
		Unit:   "ms",
		values: own("long-first", "seen_ms")},
	{Figure: "first byte, target not seen before", AtMost: true, Value: 205, Unit: "ms",
		values: own("long-first", "unseen_ms")},
	{Figure: "new connections per second on loopback, 16 at a time, against OpenSSH with aes128-gcm",
		Value: 1, Beyond: 1.3,
		values: ratio("loopback-connect", "conns_per_s", fastest)},
	{Figure: "the page at 100 ms, 100 Mbit/s, through a fresh tunnel, against no proxy", AtMost: true,
		Value: 1, values: ratio("page-alone", "first_s", direct)},
	{Figure: "the page, later loads, against the same", AtMost: true, Value: 0.85, Beyond: 0.8,
		values: ratio("page-alone", "later_s", direct)},
	{Figure: "the page through a fresh tunnel with `--fast-open always`, against the same",
		AtMost: true, Value: 0.85, values: ratioOf(always, "page-alone", "first_s", direct)},
	{Figure: "the page, later loads with `--fast-open always`, against the same", AtMost: true,
		Value: 0.85, Beyond: 0.8, values: ratioOf(always, "page-alone", "later_s", direct)},
	{Figure: "the page during two downloads at 40 ms, 50 Mbit/s, against no proxy", AtMost: true,
		Value: 1, Beyond: 0.7,
		values: ratio("page-busy", "load_s", direct)},
	{Figure: "one stream down on loopback observed, against unobserved", Value: 0.98, Precise: true,
		values: turnRatio("status-down", "mb_per_s")},
	{Figure: "one stream up on loopback observed, against unobserved", Value: 0.98, Precise: true,
		values: turnRatio("status-up", "mb_per_s")},
	{Figure: "CPU time per GB down observed, both ends, against unobserved", AtMost: true, Value: 1.02,
		Precise: true, values: turnRatio("status-down", "cpu_s_per_gb")},
	{Figure: "CPU time per GB up observed, the same", AtMost: true, Value: 1.02,
		Precise: true, values: turnRatio("status-up", "cpu_s_per_gb")},
	{Figure: "memory of an idle stream, both ends", AtMost: true, Value: 16, Beyond: 10, Unit: "KB",
		values: own("idle-1000", "kb_per_stream")},
	{Figure: "idle streams held over one WebSocket, of 10,000", Value: 10000,
		values: own("idle-10000", "held")},
	{Figure: "echo with them, against the same with none", AtMost: true, Value: 2,
		values: own("idle-10000", "ratio")},

	{Figure: "one stream down at 40 ms, 100 Mbit/s, 0.1 % loss, BBR, against no proxy", Value: 0.95,
		Beyond: 1, values: ratio("loss-down-1", "mb_per_s", direct)},
	{Figure: "one stream up there, against the same", Value: 0.95, Beyond: 1,
		values: ratio("loss-up-1", "mb_per_s", direct)},
	{Figure: "4 streams down, the same", Value: 0.95, Beyond: 1,
		values: ratio("loss-down-4", "mb_per_s", direct)},
	{Figure: "4 streams up, the same", Value: 0.95, Beyond: 1,
		values: ratio("loss-up-4", "mb_per_s", direct)},
	{Figure: "one stream down with 1 % loss, the same", Value: 0.95, Beyond: 1,
		values: ratio("loss-bad-down-1", "mb_per_s", direct)},
	{Figure: "one stream up with 1 % loss, the same", Value: 0.95, Beyond: 1,
		values: ratio("loss-bad-up-1", "mb_per_s", direct)},
	{Figure: "4 streams down with 1 % loss, the same", Value: 0.95, Beyond: 1,
		values: ratio("loss-bad-down-4", "mb_per_s", direct)},
	{Figure: "4 streams up with 1 % loss, the same", Value: 0.95, Beyond: 1,
		values: ratio("loss-bad-up-4", "mb_per_s", direct)},
	{Figure: "one stream down with 0.1 % loss under cubic, `--congestion system`, against one " +
		"connection without a proxy",
		Value: 0.95, values: ratioOf(system, "loss-cubic-down-1", "mb_per_s", direct)},
	{Figure: "one stream up under cubic, the same", Value: 0.95,
		values: ratioOf(system, "loss-cubic-up-1", "mb_per_s", direct)},
	{Figure: "4 streams down under cubic, the same", Value: 0.95,
		values: ratioOf(system, "loss-cubic-down-4", "mb_per_s", direct)},
	{Figure: "4 streams up under cubic, the same", Value: 0.95,
		values: ratioOf(system, "loss-cubic-up-4", "mb_per_s", direct)},
	{Figure: "one stream down under cubic with 1 % loss, the same", Value: 0.95,
		values: ratioOf(system, "loss-bad-cubic-down-1", "mb_per_s", direct)},
	{Figure: "one stream up under cubic with 1 % loss, the same", Value: 0.95,
		values: ratioOf(system, "loss-bad-cubic-up-1", "mb_per_s", direct)},
	{Figure: "4 streams down under cubic with 1 % loss, the same", Value: 0.95,
		values: ratioOf(system, "loss-bad-cubic-down-4", "mb_per_s", direct)},
	{Figure: "4 streams up under cubic with 1 % loss, the same", Value: 0.95,
		values: ratioOf(system, "loss-bad-cubic-up-4", "mb_per_s", direct)},
	{Figure: "one stream down with 0.1 % loss under cubic, against OpenSSH with aes128-gcm", Value: 4,
		values: ratio("loss-cubic-down-1", "mb_per_s", fastest)},
	{Figure: "one stream up, against the same", Value: 4,
		values: ratio("loss-cubic-up-1", "mb_per_s", fastest)},
	{Figure: "one stream down under cubic with 1 % loss, against the same", Value: 4,
		values: ratio("loss-bad-cubic-down-1", "mb_per_s", fastest)},
	{Figure: "one stream up under cubic with 1 % loss, against the same", Value: 4,
		values: ratio("loss-bad-cubic-up-1", "mb_per_s", fastest)},
	{Figure: "200 MB down from a cold start at 100 ms, 1 Gbit/s, BBR, against no proxy", Value: 0.97,
		Beyond: 1, values: ratio("cold-down", "mb_per_s", direct)},
	{Figure: "200 MB up, the same", Value: 0.97, Beyond: 1,
		values: ratio("cold-up", "mb_per_s", direct)},
	{Figure: "200 MB down, cubic, the same", Value: 0.97, Beyond: 1,
		values: ratio("cold-cubic-down", "mb_per_s", direct)},
	{Figure: "200 MB up, cubic, the same", Value: 0.97, Beyond: 1,
		values: ratio("cold-cubic-up", "mb_per_s", direct)},
	{Figure: "200 MB down, cubic, `--congestion system`, the same", Value: 0.97, Beyond: 1,
		values: ratioOf(system, "cold-cubic-down", "mb_per_s", direct)},
	{Figure: "200 MB up, cubic, `--congestion system`, the same", Value: 0.97, Beyond: 1,
		values: ratioOf(system, "cold-cubic-up", "mb_per_s", direct)},
	{Figure: "share of a download next to another, BBR", Value: 0.4,
		values: own("rival-bbr", "share")},
	{Figure: "the same, at most", AtMost: true, Value: 0.6, values: own("rival-bbr", "share")},
	{Figure: "share of a download next to another, cubic, `--congestion system`", Value: 0.4,
		values: of(system, "rival-cubic", "share")},
	{Figure: "the same under cubic, at most", AtMost: true, Value: 0.6,
		values: of(system, "rival-cubic", "share")},
	{Figure: "share under BBR next to a download under cubic, less that of no proxy in its place",
		Within: true, Value: 0.1, values: difference(ours, "rival-bbr-cubic", "share", direct)},
	{Figure: "share under cubic next to a download under BBR, less that of no proxy in its place",
		Within: true, Value: 0.1, values: difference(system, "rival-cubic-bbr", "share", direct)},
	{Figure: "2,000 sessions, 50 busy streams, against the same in one session", Value: 0.9,
		values: of(users, "many", "ratio")},
	{Figure: "echo of idle sessions meanwhile, at half of the throughput, p90", AtMost: true, Value: 5,
		Unit: "ms", values: of(users, "many", "p90_ms")},
	{Figure: "memory of an end a minute after a load", AtMost: true, Value: 40, Beyond: 25, Unit: "MB",
		values: own("memory", "end_mb")},
}

func own(name, value string) func(*Results) []float64 { return of(ours, name, value) }

// of returns a peer's values.
func of(peer, name, value string) func(*Results) []float64 {
	return func(r *Results) []float64 { return r.Values(name, peer, value) }
}

func ratio(name, value, over string) func(*Results) []float64 {
	return ratioOf(ours, name, value, over)
}

// ratioOf is ratio for a peer other than culvert with its defaults.
func ratioOf(peer, name, value, over string) func(*Results) []float64 {
	return func(r *Results) []float64 { return r.Ratios(name, value, peer, over) }
}

// turnRatio returns the values of culvert observed divided by those of culvert with its defaults,
// from rounds in the order ABBA.
func turnRatio(name, value string) func(*Results) []float64 {
	return func(r *Results) []float64 { return r.TurnRatios(name, value, observed, ours) }
}

// difference returns a peer's values less those of another in the same rounds.
func difference(peer, name, value, less string) func(*Results) []float64 {
	return func(r *Results) []float64 { return r.Differences(name, value, peer, less) }
}

// againstBest returns culvert's values divided by the best peer's of the same round.
func againstBest(name, value string) func(*Results) []float64 {
	return func(r *Results) []float64 {
		found, ok := r.Cases[name]
		if !ok {
			return nil
		}
		best, mine := make(map[int]float64), make(map[int]float64)
		for _, s := range found.Samples {
			v, ok := s.Values[value]
			switch {
			case !ok:
			case s.Peer == ours:
				mine[s.Round] = v
			default:
				best[s.Round] = max(best[s.Round], v)
			}
		}
		var ratios []float64
		for round, v := range mine {
			if best[round] > 0 {
				ratios = append(ratios, v/best[round])
			}
		}
		slices.Sort(ratios)
		return ratios
	}
}

// Verdict is the result of comparing a bar with what was measured.
type Verdict struct {
	Measured      Summary
	Known         bool // it was measured
	Reached       bool // by the median
	ReachedBeyond bool // the goal beyond the bar, if there is one
}

// Verdict compares a bar with what was measured.
func (b Bar) Verdict(r *Results) Verdict {
	s := Summarize(b.values(r))
	v := Verdict{Measured: s, Known: s.Count > 0}
	v.Reached = v.Known && b.meets(s.Median, b.Value)
	v.ReachedBeyond = v.Known && b.Beyond != 0 && b.meets(s.Median, b.Beyond)
	return v
}

func (b Bar) meets(measured, bar float64) bool {
	if math.IsNaN(measured) {
		return false
	}
	switch {
	case b.AtMost:
		return measured <= bar
	case b.Within:
		return math.Abs(measured) <= bar
	}
	return measured >= bar
}
