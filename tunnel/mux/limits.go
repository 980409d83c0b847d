package mux

import (
	"time"

	"culvert/internal/bounds"
	"culvert/tunnel/mux/budget"
	"culvert/tunnel/mux/pace"
)

// Limits of the format and of a session. Sizes are bytes.
const (
	// maxData is the most data in one frame. Larger frames save little and delay everything behind
	// them.
	maxData = 32 << 10

	// maxRecord is the largest record this side builds: one full data frame and some small frames.
	maxRecord = headerSize + maxData + 1024

	// MaxRecordSize is the largest record this side accepts and announces in its hello. It exceeds
	// maxRecord so that a later version may build larger records.
	MaxRecordSize = 64 << 10

	// minRecordSize is the smallest limit on records that a peer may announce: below it, headers
	// dominate.
	minRecordSize = 4 << 10

	// maxTarget bounds the target of an open frame: a name of 255 bytes and a port, or the path of
	// a unix socket.
	maxTarget = 512

	// maxText bounds the text of refused and close frames, which is for logs only.
	maxText = 256

	// Somebody seems to wait for each piece of a stream that had littleData or less to send,
	// littleTurns times in a row: one time, it may be the end of something large.
	littleData  = 2 << 10
	littleTurns = 2

	// minFill is the room in a record below which no more stream data is put into it: a small piece
	// of a frame costs the receiver as much as a whole one.
	minFill = 512

	// gatherTime is how long after a record the next one lets others add to it. What is sent less
	// often doesn't wait.
	gatherTime = time.Millisecond

	// gatherBelow is the memory of queued data from which the next record doesn't wait for more: it
	// fills some, and is still in the processor's cache.
	gatherBelow = 2 * largeBlock

	// ackInterval is how long ackSome bytes may wait for an ack even when nothing else is sent: the
	// peer measures the path by the acks. ackMuch bytes are acknowledged at once: they are few
	// compared with what a sender retains.
	ackInterval = 2 * time.Millisecond
	ackSome     = 4 << 10
	ackMuch     = 256 << 10

	// ackDelay is how long fewer bytes may wait for a record to carry their ack before one is sent
	// for them alone.
	ackDelay = 25 * time.Millisecond

	// MaxDatagram is the largest datagram of a Flow. UDP itself carries at most 65,507 bytes over
	// IPv4 and 65,527 over IPv6 (RFC 768, RFC 8200), so all but the largest leave room for an
	// address.
	MaxDatagram = 65535

	// maxPiece is the most of a datagram that one frame carries: two fit into a record, so that one
	// always fits together with the other frames of a busy session.
	maxPiece = maxData / 2

	// maxDatagramQueue bounds the datagrams of one flow that wait to be sent, and those that wait
	// to be received, with their prefixes: what a kernel's socket holds. More would only make them
	// late.
	maxDatagramQueue = 256 << 10

	// maxDatagramWait is how long a datagram may wait to be sent. By then its sender has given up
	// or sent it again.
	maxDatagramWait = time.Second

	// maxStreamControl is the number of control frames for each of the streams that a peer may have
	// open (but at least leastLoadedStreams) that may be queued or unacknowledged, all streams
	// together; maxStreamControlBytes is that of their bytes. A peer that causes more than it
	// acknowledges is attacking, and the session ends; of its own streams a side opens no more.
	//
	// A peer that keeps to the rules stays below half of it, however slow: the end of a stream
	// reaches it before it opens another in its place, and an ack goes before the open. Until then
	// there is an answer to the open, a fin, a reset, and credit four times, since a quarter of a
	// window is due at a time and the data that uses it follows an ack: seven frames of 90 bytes. As
	// many again may be for this side's streams. The text of a refusal is left out past a quarter of
	// the bytes. The other half is for streams that the peer cancels, which end before it is told.
	maxStreamControl      = 32
	maxStreamControlBytes = 512

	// leastLoadedStreams leaves room for the credit of this side's streams where the peer may have
	// few: DefaultMaxStreams times five frames.
	leastLoadedStreams = DefaultMaxStreams / 4

	// minWindow is the least time for which a client keeps a session without a carrier, whatever
	// the server announces.
	minWindow = time.Second

	// leastSending is what a session may hold to send even when its client exceeds its share of the
	// memory, in bytes: otherwise a target that must write before it reads, and whose data fills that
	// share, would wait forever. leastWindow is what windows are left with then.
	leastSending = 128 << 10
	leastWindow  = 16 << 10

	// timedPings is how many pings on a carrier are remembered until they are answered: that of a
	// probe, and some of users who have given up waiting.
	timedPings = 8

	// probePatience is how long the peer may be silent when the path has probably changed; four round
	// trips, if that is longer. It is the least that a mobile network's usual hiccups stay below.
	probePatience = 500 * time.Millisecond

	// overdueTime is by how much a sign of life may take longer than two round trips: an ack waits for
	// ackDelay, and both ends may be busy.
	overdueTime = 100 * time.Millisecond

	// quietTime is how long after data has ceased to come a ping shows whether the carrier is dead.
	quietTime = time.Second

	// partialTime is how long after the last record bytes of another one come at the earliest: a
	// system tells when bytes came in milliseconds.
	partialTime = 10 * time.Millisecond

	// maxUnsent bounds what is kept of a stream that has ended before its answer, in bytes, until it
	// is opened in another session: room for the header of an HTTP request, or a TLS ClientHello.
	maxUnsent = 16 << 10

	// lingerTime is how long a stream that was cut short may spend on what came before the cut
	// without progress, in either direction. stallCheck is how often progress is looked for, and how
	// often the source of a stream is checked for a reset while the stream's queue is full, so that
	// nothing is read from the source.
	// writeSlice is how long a write that makes no progress waits until it is tried again, when
	// the stream was cut short or retryBacklog bytes are queued behind it.
	lingerTime   = 30 * time.Second
	writeSlice   = time.Second
	retryBacklog = 64 << 10
	stallCheck   = time.Second

	// closeTimeout bounds how long Close waits for the close frame to be written.
	closeTimeout = time.Second

	// drainNotice bounds how long Drain waits on a carrier for the peer to answer, and drainAway how
	// long for a carrier after the last was lost: what the peer has opened and arrives later than
	// that may find the session closed.
	drainNotice = time.Second
	drainAway   = 5 * time.Second
)

// paceConfig describes a session to the controller of its inflight data. The initial bound exceeds
// what TCP sends in its first round trip. The first record takes a link of 2 kB/s less than
// DefaultPatience.
var paceConfig = pace.Config{
	MaxFrame:        maxData,
	FirstRecord:     maxData / 8,
	MaxBurst:        maxBlocks * maxData,
	AckThreshold:    ackSome,
	InitialInflight: 128 << 10,
}

// Defaults for the zero fields of [Config].
const (
	DefaultMaxStreams   = 16 << 10
	DefaultWindow       = 256 << 10
	DefaultMaxWindow    = 16 << 20
	DefaultSendBuffer   = 256 << 10
	DefaultMaxBuffered  = 256 << 20
	DefaultKeepalive    = 20 * time.Second
	DefaultPatience     = 3 * time.Second
	DefaultMaxRetained  = 16 << 20
	DefaultResumeWindow = 2 * time.Minute
	DefaultMaxAway      = 1024
	DefaultHelloTimeout = 30 * time.Second
)

// Config holds a session's limits. A zero field means its documented default.
type Config struct {
	// MaxStreams bounds the streams that the peer may have open at once; one more is refused with
	// CodeTooManyStreams. A stream that the peer has reset counts until this side's user has closed
	// it. Default DefaultMaxStreams (16,384).
	MaxStreams int

	// NoIncoming refuses every stream that the peer opens with CodeNotAllowed, until TakeIncoming is
	// called. It is for a side that does not call Accept.
	NoIncoming bool

	// Window is the first receive window of each stream in bytes: what the peer may send before
	// this side's user reads. It grows with what is measured, to MaxWindow, as long as the growth
	// of all streams together stays below half of MaxBuffered, and their windows below 5/8 of it; a
	// sixteenth is for growth in any case. Defaults DefaultWindow (256 KiB) and DefaultMaxWindow (16
	// MiB).
	Window    int
	MaxWindow int

	// SendBuffer is how much of a stream's outgoing data waits for the scheduler before Write
	// blocks, in bytes. Default DefaultSendBuffer (256 KiB).
	SendBuffer int

	// MaxBuffered bounds the memory that received and unread data may occupy, in bytes over all
	// streams. When it is exceeded, the stream that holds most is reset with CodeOverload. Default
	// DefaultMaxBuffered (256 MiB).
	MaxBuffered int

	// Keepalive is how long a carrier may be idle in either direction before a ping is sent, so
	// that proxies keep it open. Default DefaultKeepalive (20 s); negative means never.
	Keepalive time.Duration

	// Patience is how long a peer that has something to acknowledge or to answer may give no sign
	// of life before its carrier is given up; four round trips, if that is longer. It starts again
	// while TCP has bytes acknowledged that the peer must get before. Default DefaultPatience (3 s).
	Patience time.Duration

	// MaxRetained bounds the memory for what was sent and not acknowledged, in bytes, of which four
	// fifths are data. It also bounds the throughput, to these per round trip. Default
	// DefaultMaxRetained (16 MiB).
	MaxRetained int

	// Memory, when set, is a budget that all sessions with it share, for all that they hold of
	// streams and flows: what waits to be sent, what is retained, and what was received. A client
	// that exceeds its share reads no more from its targets, then its windows shrink; one that takes
	// most of the budget nevertheless loses a session, which ends with CodeMemory. MaxBuffered is at
	// most half of the budget.
	Memory *budget.Budget

	// Bounds counts what is refused because of a bound; nil counts nothing.
	Bounds *bounds.Counts

	// HelloTimeout bounds the exchange of hellos. Default DefaultHelloTimeout (30 s).
	HelloTimeout time.Duration
}

func (c Config) withDefaults() Config {
	setDefault(&c.MaxStreams, DefaultMaxStreams)
	setDefault(&c.Window, DefaultWindow)
	setDefault(&c.MaxWindow, max(DefaultMaxWindow, c.Window))
	setDefault(&c.SendBuffer, DefaultSendBuffer)
	setDefault(&c.MaxBuffered, DefaultMaxBuffered)
	setDefault(&c.Keepalive, DefaultKeepalive)
	setDefault(&c.Patience, DefaultPatience)
	setDefault(&c.MaxRetained, DefaultMaxRetained)
	setDefault(&c.HelloTimeout, DefaultHelloTimeout)
	if c.Memory != nil {
		c.MaxBuffered = int(min(int64(c.MaxBuffered), c.Memory.Limit()/2))
	}
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
