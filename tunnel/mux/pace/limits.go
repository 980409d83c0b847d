package pace

import "time"

// Limits of the model. A round is the unit in which it measures: one min RTT, minRound at least.
const (
	// minRound is the shortest round. Acknowledgements come every few milliseconds, so anything
	// shorter would measure their spacing rather than the path.
	minRound = 5 * time.Millisecond

	// minRTTWindow is how long a round trip counts as the least one: until the end of the next
	// window, so between one and two of them. Paths change.
	minRTTWindow = 10 * time.Second

	// cycleRounds is the length of the probe cycle, and for how many rounds a delivery rate
	// counts: the max filter then always holds one round that probed.
	cycleRounds = 8

	// burstyRounds is how many rounds count together where data arrives in bursts. gapRounds
	// replaces it where packets are known, or under trial, to be lost without a queue: much
	// piles up behind a gap when more is inflight.
	burstyRounds = 4
	gapRounds    = 3 * burstyRounds
)

// The bound on inflight data is gain × bandwidth × min RTT, plus a slack, plus the quantization
// budget. The last two are the queue that remains.
const (
	// rttSlack is how much longer than min RTT an acknowledgement may take without any queue:
	// the peer delays it by milliseconds, and either end may be busy with something else. The
	// bound grows by what the path delivers in that time, maxSlack bytes at most: the ends of a very
	// fast path share processors, and with little inflight they wait for each other's turns. With
	// 512 KiB, 16 streams on loopback move 30 % less.
	rttSlack = 5 * time.Millisecond
	maxSlack = 4 << 20

	// Next to an interaction, all of that delays what somebody waits for. So it is shortSlack at
	// most, and less where the path delivers more than shortSlackRate, in bytes a second, down to
	// leastSlack: acknowledgements then come by volume, so that less is needed to wait for them.
	shortSlack     = 512 << 10
	leastSlack     = 256 << 10
	shortSlackRate = 256e6

	// interactiveTime is how long an interaction lasts after its last sign: longer than the pauses
	// between a person's keystrokes, or between the requests of a page.
	interactiveTime = time.Second

	// budgetFrames is how many frames the quantization budget holds: the path takes frames
	// whole, one is being sent while one is being acknowledged.
	budgetFrames = 2
)

// Startup.
const (
	// startupGain doubles inflight data with each round in which it has shown, which is every other
	// one.
	startupGain = 2

	// The pipe is filled after fullRounds rounds whose bandwidth grew by less than
	// fullGrowth; one round fewer when there is a queue, since TCP would only lose packets.
	fullGrowth = 1.25
	fullRounds = 3

	// restartGrowth is the growth from a probe that starts the startup again: the path has
	// become faster, and the probe cycle alone would take many cycles to catch up.
	restartGrowth = 1.08
)

// probeGains are the gains in the rounds of a probe cycle, once the pipe is filled: the first
// probes for more bandwidth, the next one drains the queue that it left, so that min RTT shows, and
// the rest cruise. A round at 0.8 would drain more than that queue: 4 downloads at 40 ms, 50 Mbit/s
// lose 1 %, which grows with the round trip.
var probeGains = [cycleRounds]float64{1.25, 0.9, 1, 1, 1, 1, 1, 1}

// Queues. A round trip exceeds a factor when it is longer than factor × min RTT + rttSlack.
const (
	// queueFactor is the round trip that shows a queue.
	queueFactor = 1.25

	// Where there is no transport end to end, a competing flow is one that keeps the path's queue
	// filled. To find out whether a queue is its own, the session keeps drainGain BDPs inflight until
	// it has drainSamples round trips of data that it sent meanwhile: a gap may have delayed the one.
	// Next to a competing flow that costs a part of the share, so it looks again after minLook, and
	// after lookFactor times as long whenever it saw the same, up to maxLook. A competing flow that
	// returns within the time relapse was never away.
	drainGain    = 0.75
	drainSamples = 2
	minLook      = time.Second
	maxLook      = 16 * time.Second
	lookFactor   = 4
	relapse      = 8 * time.Second

	// slowFrame is the time that a frame takes, although it is as small as frames are, on a path
	// that is called slow here: below 16 Mbit/s.
	slowFrame = 2 * frameTime

	// clearCycles is how many cycles, each with a round trip without a queue, show that the
	// competing flow has ended. BBR empties the queue every 10 s, for less than two.
	clearCycles = 3

	// competingGain holds the session's share next to a competing flow where the transport ends at
	// a proxy. TCP there can't be left to itself: it would fill the proxy's buffers.
	competingGain = 2

	// emptySlack is how much longer a round trip may be while the queue is empty, when the session
	// has drained it: the peer acknowledges late.
	emptySlack = 4 * time.Millisecond

	// noQueueFactor and noQueueSlack are how far the transport's smoothed round trip may exceed
	// its least one where there is no queue at all.
	noQueueFactor = 1.02
	noQueueSlack  = time.Millisecond
)

// Competing flows, where the transport is end to end.
const (
	// A bound that lowers the mean delivery rate of a cycle below costlyBound times what it was
	// yields to a competing flow. What it was is forgotten by referenceDecay a round, in which the
	// rate may fall a little by chance; a competing flow is quicker. What comes in the first
	// settleRounds rounds with a bound was sent without it.
	costlyBound    = 0.9
	referenceDecay = 1 - 1.0/1024
	settleRounds   = 3

	// A look keeps lookGain of what TCP had inflight, for lookRounds rounds from when that shows. Next
	// to a flow with as much, that lowers the rate by 18 %. Where it lowers the rate below costlyLook
	// times what it was, and a queue is left, that queue is another flow's: the session's own would
	// have kept the path full. The last of maxLooks in a row is followed by the bound in any case.
	lookGain   = 0.7
	costlyLook = 0.95
	lookRounds = 4
	maxLooks   = 5

	// Left to TCP, the session looks again after minLook, and after lookFactor times as long whenever
	// the look or the bound was costly, up to maxLook. After aloneRounds in which the bound was not,
	// there is no competing flow any more.
	aloneRounds = 8 * cycleRounds

	// With a window of probeWindow bytes or less, the transport measures its own round trip: BBR
	// keeps four segments in flight for 200 ms whenever it hasn't seen the least one for 10 s.
	probeWindow = 4 * 1500

	// longestStop is how long that may take in a look. On a path that holds no more, the window is
	// never larger.
	longestStop = time.Second
)

// Where TCP decides how much is inflight, the bound only guards against a change of the path: it is
// freeGain BDPs, and freeInflight bytes at least.
const (
	freeGain     = 6
	freeInflight = 1 << 20
)

// Losses without a queue, found by trial.
const (
	// trialGain is the gain during a trial, which lasts trialRounds rounds. A trial begins after a
	// round trip that exceeds gapFactor.
	trialGain   = 3
	trialRounds = 8
	gapFactor   = 1.75

	// A trial that raises the bandwidth trialGrowth times is successful: its gain holds for
	// holdRounds. Then recheckRounds without it show whether it is still needed.
	trialGrowth   = 1.2
	holdRounds    = 128
	recheckRounds = 2 * cycleRounds

	// pauseRounds is the pause after a trial that failed. It doubles with each further failure,
	// up to maxPauseRounds.
	pauseRounds    = 64
	maxPauseRounds = 1024
)

// Losses without a queue, known from the transport.
const (
	// lossyRounds is how long such a loss counts. It needs a smoothed round trip of the transport
	// that shows no queue, or, while such a loss counts, one within lossyQueueFactor of the least
	// one: BBR that is left to itself keeps up to a BDP in a queue.
	lossyRounds      = 32
	lossyQueueFactor = 1.75

	// lossyUnsentFactor raises what the socket may hold unsent meanwhile, since TCP sends in bursts
	// then.
	lossyUnsentFactor = 4
)

// Gaps: what the peer's transport holds back behind one.
const (
	// gapWatchRounds is how many rounds the transport is asked for gaps after it has retransmitted
	// something.
	gapWatchRounds = 256

	// gapGain applies while there are gaps, except in the draining round. The rates are then the
	// transport's, which sends less than the path takes while it recovers: a bound near the mean
	// would keep it there. With 1.1 it cost 17 to 30 % at a loss of 0.1 %, with 1.5 and 2 some 5 %.
	gapGain = 1.5

	// GapInterval is how long after an acknowledgement the session should call OnStalled while it
	// waits for the next one.
	GapInterval = 5 * time.Millisecond
)

// Sizes that follow from the bandwidth, as the time in which the path delivers them.
const (
	// frameTime is how long one frame may occupy the path, so that others need not wait long
	// behind it. A frame holds minFrame bytes at least, below which its header costs too much.
	frameTime = 2 * time.Millisecond
	minFrame  = 8 << 10

	// recordTime is how long a record may occupy the path: until all of it has arrived, the peer can't
	// show that anything has, and after some seconds it seems to be silent. A record holds minRecord
	// bytes at least, below which headers cost too much.
	recordTime = 500 * time.Millisecond
	minRecord  = 3 << 10

	// turnTime is how much a stream may send before the next one's turn: a frame at least, and
	// turnFrames at most, since the receiver takes as many in one call. With turns of one frame, 16
	// streams on loopback take 6 % more processor time.
	turnTime   = 125 * time.Microsecond
	turnFrames = 4

	// burstTime is how much is handed to the carrier at once: BBR's send quantum.
	burstTime = time.Millisecond

	// unsentTime is how much the carrier's socket may hold that TCP has not sent yet, between
	// minUnsent and maxUnsent bytes: enough that the socket does not run dry before the writer
	// wakes up.
	unsentTime = 4 * time.Millisecond
	minUnsent  = 16 << 10
	maxUnsent  = 4 << 20
)
