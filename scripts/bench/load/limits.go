package load

import "time"

const (
	// tallyPause is the interval between two tallies.
	tallyPause = 50 * time.Millisecond

	// tallyPatience is how long the tally after the end of a measurement may take.
	tallyPatience = 10 * time.Second

	// dialTime bounds a connection through the proxy, including the echo of its first byte.
	dialTime = 20 * time.Second

	// echoTime bounds one echo.
	echoTime = 20 * time.Second

	// readyTime bounds the wait for a proxy that has just been started; readyPause is the interval
	// between two attempts.
	readyTime  = 20 * time.Second
	readyPause = 50 * time.Millisecond

	// bulkBuffer is the buffer size in bytes of bulk transfers.
	bulkBuffer = 128 << 10

	// pacePause is the interval between two pieces of a paced download.
	pacePause = 10 * time.Millisecond

	// transferPause is the interval between two looks at whether a transfer has ended.
	transferPause = 10 * time.Millisecond

	// A slow download reads slowPiece bytes, then pauses for slowPause.
	slowPiece = 20 << 10
	slowPause = 100 * time.Millisecond

	// echoBuffer is the target's buffer size in bytes for an echo; there may be thousands of them.
	echoBuffer = 512

	// echoSize is the size in bytes of a message whose echo is measured.
	echoSize = 64

	// loadedPause separates two echoes under bulk transfers, so that they add no load of their own.
	loadedPause = 5 * time.Millisecond

	// opening is how many idle streams are opened concurrently.
	opening = 64

	// connecting is how many sessions are made concurrently: fewer than the handshakes that a remote
	// allows one address.
	connecting = 16

	// connectTime bounds the making of one session.
	connectTime = 20 * time.Second

	// spareFiles is how many files a process may have open besides its sessions and streams.
	spareFiles = 400

	// settleTime is the wait between opening idle streams and reading the proxy's memory.
	settleTime = time.Second
)
