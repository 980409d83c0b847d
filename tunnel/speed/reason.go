package speed

import (
	"math"
	"slices"
	"time"

	"culvert/internal/tcpinfo"
)

// Limit is what limits a transfer.
type Limit string

// The limits.
const (
	LimitWindow  Limit = "receive-window" // of the kernel of the receiving end
	LimitBuffer  Limit = "send-buffer"    // of the kernel of the sending end
	LimitCPU     Limit = "cpu"            // of an end
	LimitLoss    Limit = "loss"           // of packets on the way
	LimitShare   Limit = "share"          // of the client, by the remote's configuration
	LimitLink    Limit = "link"           // its rate
	LimitUnknown Limit = "unknown"        // the kernel of the sending end doesn't tell
)

// End is an end of the tunnel.
type End string

// The ends.
const (
	Local  End = "local"
	Remote End = "remote"
)

// Reason is what limits a transfer, and where.
type Reason struct {
	Limit   Limit
	End     End    // whose limit it is; "" for those of the path
	Setting string // the kernel's setting that bounds it, "" if none does
	Value   int64  // of the setting; or of the share, in bytes a second

	// Proxied reports that the connection of this end leads to a proxy, since its round trip is
	// much shorter than the session's: what is behind that can't be seen.
	Proxied bool
}

// Thresholds of the evidence, as shares.
const (
	// The rate times the least round trip is what is inflight without a queue. If the window is the
	// limit it is about as much as the window; a kernel that lets its window grow with the rate keeps
	// it at twice that or more. If the sending kernel has waited for the window for windowTime,
	// halfWindow is enough. One that has waited with much less inflight had a receiving process that
	// read too slowly.
	fullWindow = 0.85
	halfWindow = 0.4
	windowTime = 0.15

	// A send buffer holds what is inflight, with its overhead, which is as much again or more.
	partBuffer = 0.2
	bufferTime = 0.3

	// A process that uses busyCore of a processor is limited by it: a session is mostly a sequence of
	// steps. If the sending kernel has waited for a process, in that it had nothing to send for
	// idleTime or waited for the window, slowCore is enough; and busyPart is, where all programs
	// together leave idlePart of the machine's processors, or less.
	busyCore = 0.8
	slowCore = 0.4
	busyPart = 0.05
	idlePart = 0.1
	idleTime = 0.2

	// Queues on the way that overflow are long, with round trips above queueTimes the least, hold
	// queueBytes, and lose packets now and then. Less than that in bytes is what delayed
	// acknowledgements make of few packets inflight. Other losses are spread: if there are
	// spreadLosses, no third of the time has less than spreadPart of the average. Less than lossPart
	// of packets limits nothing. A sender that makes up for such losses may fill queues too, and lose
	// far more packets there at times. But a queue alone loses none while it is short or grows: so
	// where it was short at steadyPart of the looks, and at least lossPart of the packets was lost
	// between all looks but steadyPart, other losses go on all the time.
	lossPart     = 0.003
	steadyPart   = 0.25
	queueTimes   = 1.5
	queueBytes   = 16 << 10
	spreadPart   = 0.1
	spreadLosses = 15

	// A rate that the remote enforces is met, apart from what frames take.
	sharePart = 0.85

	// proxiedTimes is how many times TCP's least round trip the session's is, at least, and at least
	// proxiedLeast longer, if the connection leads to a proxy.
	proxiedTimes = 2
	proxiedLeast = 2 * time.Millisecond
)

// evidence is what is known of a transfer.
type evidence struct {
	phase            Phase
	sender, receiver usage
	rate             float64       // bytes a second
	trip             time.Duration // of the session while idle
	share            int64         // bytes a second; 0 for none

	// Of the sender's connection; nil and zero if it is not known.
	tcp            *tcpinfo.Info // at the end
	window         float64       // the largest that the receiver has offered, in bytes
	segments, lost int64
	spread         float64       // the third of the time with the fewest losses, of the average
	steady         bool          // losses go on while there is no queue
	busyTime       float64       // share of the time
	windowTime     float64       // the same
	bufferTime     float64       // the same
	queued         time.Duration // what the median round trip exceeds the least one by

	receiving *tcpinfo.Info // of the receiver's connection; nil if it is not known
}

// usage is what an end has used of its processors.
type usage struct {
	end  End
	used float64 // processors
	idle float64 // share of the machine's processors; 1 if it is not known
}

func newUsage(end End, from, to Snapshot) usage {
	u := usage{end: end, idle: 1}
	took := (to.At - from.At).Seconds()
	if took <= 0 {
		return u
	}
	u.used = (to.Used - from.Used).Seconds() / took
	if to.Idle > 0 && to.Cores > 0 {
		u.idle = (to.Idle - from.Idle).Seconds() / took / float64(to.Cores)
	}
	return u
}

// newEvidence evaluates at least two looks.
func newEvidence(phase Phase, looks []look, rate float64, trip time.Duration) *evidence {
	first, last := looks[0], looks[len(looks)-1]
	from, receivedFrom := ends(phase, first)
	to, receivedTo := ends(phase, last)
	sender, receiver, share := Remote, Local, last.remote.Down
	if phase == PhaseUpload {
		sender, receiver, share = Local, Remote, last.remote.Up
	}
	e := &evidence{
		phase: phase, rate: rate, trip: trip, share: share, receiving: receivedTo.TCP,
		sender:   newUsage(sender, from, to),
		receiver: newUsage(receiver, receivedFrom, receivedTo),
	}
	if from.TCP == nil || to.TCP == nil || to.At <= from.At {
		return e
	}
	e.tcp = to.TCP
	e.segments = int64(to.TCP.Segments - from.TCP.Segments)
	e.lost = lostBetween(from.TCP, to.TCP)
	e.spread = spreadOf(phase, looks)
	e.steady = isSteady(phase, looks)
	took := (to.At - from.At).Seconds()
	e.busyTime = (to.TCP.Busy - from.TCP.Busy).Seconds() / took
	e.windowTime = (to.TCP.WindowLimited - from.TCP.WindowLimited).Seconds() / took
	e.bufferTime = (to.TCP.BufferLimited - from.TCP.BufferLimited).Seconds() / took
	var trips []time.Duration
	for _, l := range looks {
		if s, _ := ends(phase, l); s.TCP != nil {
			e.window = max(e.window, float64(s.TCP.PeerWindow))
			trips = append(trips, s.TCP.RoundTrip)
		}
	}
	slices.Sort(trips)
	e.queued = max(0, trips[len(trips)/2]-to.TCP.MinRoundTrip)
	return e
}

// lostBetween returns how many segments were lost between two snapshots of a connection.
func lostBetween(from, to *tcpinfo.Info) int64 {
	resent, unnecessary := to.Resent-from.Resent, to.Unnecessary-from.Unnecessary
	return max(0, int64(resent)-int64(unnecessary))
}

// spreadOf returns how evenly losses were spread: the third of the time with the fewest, of the
// average of all.
func spreadOf(phase Phase, looks []look) float64 {
	const parts = 3
	fewest, all := int64(math.MaxInt64), int64(0)
	for i := range parts {
		from, _ := ends(phase, looks[i*(len(looks)-1)/parts])
		to, _ := ends(phase, looks[(i+1)*(len(looks)-1)/parts])
		if from.TCP == nil || to.TCP == nil {
			return 0
		}
		lost := lostBetween(from.TCP, to.TCP)
		fewest, all = min(fewest, lost), all+lost
	}
	if all == 0 {
		return 0
	}
	return float64(fewest) * parts / float64(all)
}

// isSteady reports whether segments were lost all the time, though the queue was short at times.
func isSteady(phase Phase, looks []look) bool {
	var shares []float64 // of the segments sent between two looks, what was lost
	short := 0
	for i := range looks[1:] {
		from, _ := ends(phase, looks[i])
		to, _ := ends(phase, looks[i+1])
		if from.TCP == nil || to.TCP == nil || to.TCP.Segments == from.TCP.Segments {
			return false
		}
		sent := to.TCP.Segments - from.TCP.Segments
		shares = append(shares, float64(lostBetween(from.TCP, to.TCP))/float64(sent))
		if to.TCP.RoundTrip.Seconds() < queueTimes*to.TCP.MinRoundTrip.Seconds() {
			short++
		}
	}
	slices.Sort(shares)
	part := steadyPart * float64(len(shares))
	return float64(short) >= part && shares[int(part)] >= lossPart
}

// reason weighs the evidence.
func (e *evidence) reason() Reason {
	r := Reason{Proxied: e.isProxied()}
	switch {
	case e.share > 0 && e.rate >= sharePart*float64(e.share):
		r.Limit, r.End, r.Value = LimitShare, Remote, e.share
	case e.isWindowFull():
		r.Limit, r.End = LimitWindow, e.receiver.end
		if in := e.receiving; in != nil && isLargest(in.ReceiveBuffer, in.MaxReceiveBuffer) {
			r.Setting, r.Value = "net.ipv4.tcp_rmem", in.MaxReceiveBuffer
		}
	case e.isBufferFull():
		r.Limit, r.End = LimitBuffer, e.sender.end
		if isLargest(e.tcp.SendBuffer, e.tcp.MaxSendBuffer) {
			r.Setting, r.Value = "net.ipv4.tcp_wmem", e.tcp.MaxSendBuffer
		}
	case e.isBusy():
		r.Limit, r.End = LimitCPU, e.sender.end
		if e.receiver.used > e.sender.used {
			r.End = e.receiver.end
		}
	case e.tcp == nil:
		r.Limit, r.End = LimitUnknown, e.sender.end
	case e.isLossy():
		r.Limit = LimitLoss
	default:
		r.Limit = LimitLink
	}
	return r
}

// inflight is how many bytes are on the way, without a queue.
func (e *evidence) inflight() float64 { return e.rate * e.tcp.MinRoundTrip.Seconds() }

// isWindowFull reports whether the sender waits for the window of the receiver's kernel.
func (e *evidence) isWindowFull() bool {
	if e.tcp == nil || e.window == 0 {
		return false
	}
	full := e.inflight() / e.window
	return full >= fullWindow || full >= halfWindow && e.windowTime >= windowTime
}

// isBufferFull reports whether the buffer of the sender's kernel is the limit.
func (e *evidence) isBufferFull() bool {
	return e.tcp != nil && e.bufferTime >= bufferTime &&
		e.inflight() >= partBuffer*float64(e.tcp.SendBuffer)
}

// isLargest reports whether a buffer has about the size that it may grow to.
func isLargest(size int, largest int64) bool {
	return largest > 0 && float64(size) >= 0.9*float64(largest)
}

// isBusy reports whether an end is limited by its processors.
func (e *evidence) isBusy() bool {
	if max(e.sender.used, e.receiver.used) >= busyCore {
		return true
	}
	waits := e.tcp == nil || e.busyTime <= 1-idleTime || e.windowTime >= windowTime
	slow := func(u usage) bool {
		return u.used >= slowCore || u.used >= busyPart && u.idle <= idlePart
	}
	return waits && (slow(e.sender) || slow(e.receiver))
}

// isLossy reports whether packets were lost for other reasons than a full queue.
func (e *evidence) isLossy() bool {
	isLong := e.queued.Seconds() >= (queueTimes-1)*e.tcp.MinRoundTrip.Seconds() &&
		e.rate*e.queued.Seconds() >= queueBytes
	isSpread := e.lost < spreadLosses || e.spread >= spreadPart
	return float64(e.lost) >= lossPart*float64(e.segments) && (e.steady || !isLong && isSpread)
}

// isProxied reports whether the sender's connection leads to a proxy, by the round trips of TCP and
// the session.
func (e *evidence) isProxied() bool {
	if e.tcp == nil {
		return false
	}
	least := e.tcp.MinRoundTrip
	return e.trip >= proxiedTimes*least+proxiedLeast
}
