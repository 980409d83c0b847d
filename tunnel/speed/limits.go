package speed

import "time"

const (
	// MaxBytes bounds what a test may carry in each direction, in bytes: 5 s at 7 Gbit/s.
	MaxBytes = 4 << 30

	// MaxTime bounds a test. One of the longest measurements takes less, on any path that carries
	// a session at all.
	MaxTime = 2 * time.Minute

	// maxStreams bounds the streams of a test besides its control stream.
	maxStreams = 16

	// maxLine bounds a line of the control stream, in bytes.
	maxLine = 4 << 10

	// MinWindow and MaxWindow bound how long each direction is measured. DefaultWindow is long
	// enough for the ups and downs of congestion control at most round trips.
	MinWindow     = time.Second
	MaxWindow     = 20 * time.Second
	DefaultWindow = 5 * time.Second

	// How long data flows before the measurement begins, since connections begin slowly: warmupTrips
	// round trips, within the other two.
	minWarmup   = time.Second
	maxWarmup   = 5 * time.Second
	warmupTrips = 15

	// streams is how many streams carry data at once: the window of a single one could be the limit.
	streams = 4

	// bufferSize is how much a stream is given at once, in bytes.
	bufferSize = 64 << 10

	// idlePings is how many round trips are measured while nothing else is sent, and pingPause the
	// time between two, then and under load. Of the latter, every lookEvery-th comes with a snapshot.
	idlePings = 10
	pingPause = 50 * time.Millisecond
	lookEvery = 4

	// answerTimeout bounds the wait for an answer: under load, one may wait behind full queues.
	answerTimeout = 15 * time.Second
)
