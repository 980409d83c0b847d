// Package pace decides how much a session may have inflight: sent, and not yet acknowledged by the
// peer.
//
// # Why
//
// Whatever a session sends faster than its path delivers waits in a queue: in this kernel, in a
// proxy, in a router. Nothing overtakes what waits there, so a small urgent frame takes as long as
// the queue is, however cleverly the session orders its frames. TCP below does not help: it fills
// the buffers of the nearest proxy, and knows nothing of what lies behind that. The peer's
// acknowledgements, however, come from the far end of the path. They show how fast it delivers and
// how long it takes. A [Controller] derives from them how much the path itself holds, and the
// session sends no more than that.
//
// The model is BBR's (Cardwell et al., "BBR: Congestion-Based Congestion Control", ACM Queue 14.5,
// 2016; draft-ietf-ccwg-bbr), one level up. TCP still decides when each packet leaves, and loss is
// its affair. So there is no pacing rate here: BBR's pacing gain and cwnd gain are one gain, which
// scales the bound on inflight data.
//
// # What is measured
//
//   - Round: the unit of measurement, one min RTT long and at least 5 ms.
//   - Delivery rate: the bytes delivered in a round, divided by its length. Delivered is what the
//     peer acknowledges, and what its transport holds back behind a gap, if a [Transport] tells. A
//     round in which the session was app-limited (it had less to send than it might, or no credit
//     for it) counts only if it was faster than all others.
//   - Bandwidth: the largest delivery rate of the last 8 rounds, a max filter.
//   - Min RTT: the shortest round trip of the last 10 to 20 seconds, a min filter.
//   - BDP: bandwidth × min RTT, which is what the path holds when its queues are empty.
//
// # The bound
//
//	inflight ≤ gain × BDP + slack + quantization budget
//
// The slack is what the path delivers in 5 ms: acknowledgements are that much late without any
// queue. The quantization budget is two frames and the peer's acknowledgement threshold, since
// frames are sent whole and acknowledged together. The gain depends on the state of the model:
//
//   - Startup: 2, so that inflight data doubles every other round, until the pipe is filled: for
//     three rounds the bandwidth grows by less than a quarter, or for two while a queue builds up.
//     While a [Transport] reports that there is no queue yet, the bound exceeds the transport's
//     window, so that the startup is the transport's own: it is not slower than without the bound,
//     and rounds in which that window was the limit do not end it.
//   - Probe cycle, 8 rounds long, from then on: one round at 1.25 probes for more bandwidth, one at
//     0.9 drains the queue, six cruise at 1. When a probe finds much more, startup begins again.
//   - Drain: a session that is busy for long never empties the queue quite, so that min RTT would
//     rise with each window, and the queue with it. Where min RTT has risen, three quarters of a
//     BDP are inflight for some round trips, without slack and budget, to see what it is.
//   - Competing flow, where a [Transport] is end to end: next to one that fills the queue, a bound
//     of one BDP yields, and the delivery rate falls. When it falls by a tenth, TCP is left to
//     itself (the gain is 6), first for a second. Then the session takes back three tenths of what
//     TCP has inflight, for four rounds. Where that lowers the rate and leaves a queue, the other
//     flow is still there; otherwise the session drains the queue, so that min RTT shows, and tries
//     the bound again. A rate that stays shows that it is alone, on a path that has become slower
//     at most. It is left to TCP in the startup as well, once there is a queue: next to a flow that
//     fills it TCP otherwise finds its share late. A startup that ends with a queue ends with the
//     same look.
//   - Competing flow elsewhere: where even the least round trip of a cycle shows a queue, or the
//     startup ends with one, the session keeps three quarters of a BDP inflight for some round
//     trips. If the queue doesn't empty then, somebody else fills it, and the gain is 2. The
//     session looks again from time to time whether the other flow has ended, and sees it itself
//     where the queue empties in three cycles in a row.
//   - Loss without a queue, as over radio: what arrives behind a gap is acknowledged late, so more
//     than the BDP must be inflight to keep the rate. Long round trips show gaps and queues alike.
//     A [Transport] knows which it is. What it reports as held back behind a gap has left the path,
//     so as much is added to the bound, and the gain is 1.5 for a cycle. The gain is 6 while it
//     reports losses with hardly a queue, or with one that is no longer than BBR's own. Where there
//     is no transport to ask, a trial with a gain of 3 finds out.
//
// Five sizes follow from the bandwidth: of a frame (2 ms of it), of a record (0.5 s, which matters
// on slow paths only), of a stream's turn (0.125 ms, but a frame at least), of a burst (1 ms), and
// of what the carrier's socket may hold unsent (4 ms).
//
// While streams send little at a time, somebody seems to wait for them. Then, on very fast paths,
// the bound exceeds the path's capacity by less, and a turn is one frame.
//
// # What the session calls, and when
//
//   - [New] for each carrier, with [Controller.Inflight] of the carrier before;
//   - [Controller.CanSend] before it sends data, [Controller.OnRestart] when nothing is inflight;
//   - [Controller.OnAppLimited] when it has sent all it could and CanSend still allows more;
//   - [Controller.OnAck] for each acknowledgement, then [Controller.OnRTTSample] if that completes
//     the measurement of a round trip;
//   - [Controller.OnStalled] while [Controller.WatchesGaps], when it may send no more and no
//     acknowledgement has come for [GapInterval];
//   - [Controller.FrameSize], [Controller.RecordSize], [Controller.TurnSize],
//     [Controller.BurstSize] and [Controller.UnsentLimit] as it sends, [Controller.OnInteractive]
//     when a stream sends little.
//
// The package starts no goroutine, reads no clock and opens no socket. A Controller is guarded by
// the mutex of the session that owns it.
package pace
