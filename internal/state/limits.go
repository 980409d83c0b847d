package state

import "time"

const (
	// MaxStreams bounds the streams of a snapshot, and MaxSessionStreams those of one session in it.
	// Which of more are in it is not defined. A stream takes some 300 bytes of JSON.
	MaxStreams        = 4096
	MaxSessionStreams = 1024

	// maxEvents is how many events are kept.
	maxEvents = 256

	// maxPending is how many events wait for an observer that is slow.
	maxPending = 64

	// maxReason bounds the reason of an event, in bytes: a peer may have sent it.
	maxReason = 300
)

const (
	// minInterval is the least time between two snapshots, whoever asks: more observers make no more
	// work. It is also the least time over which a rate is measured.
	minInterval = 250 * time.Millisecond

	// sampleLife is the age beyond which a snapshot has nothing to say about present rates.
	sampleLife = 5 * time.Second
)
