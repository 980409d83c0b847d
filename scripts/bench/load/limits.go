package load

import "time"

const (
	// tallyPause is between two tallies.
	tallyPause = 50 * time.Millisecond

	// tallyPatience is how long the tally after the end of a measurement may take.
	tallyPatience = 10 * time.Second

	// dialTime bounds a connection through the proxy, its answer to the first byte included.
	dialTime = 20 * time.Second

	// echoTime bounds one echo.
	echoTime = 20 * time.Second

	// readyTime bounds the wait for a proxy that has just been started; readyPause is between two
	// attempts.
	readyTime  = 20 * time.Second
	readyPause = 50 * time.Millisecond

	// bulkBuffer in bytes is what bulk is read and written with.
	bulkBuffer = 128 << 10

	// echoBuffer in bytes is the target's for an echo, small as there may be thousands.
	echoBuffer = 512

	// echoSize in bytes is what an echo measures with.
	echoSize = 64

	// loadedPause is between two echoes while bulk runs, which are not to be a load of their own.
	loadedPause = 5 * time.Millisecond

	// opening is how many idle streams are opened at once.
	opening = 64

	// settleTime is given to the proxy after idle streams were opened, before its memory is read.
	settleTime = time.Second
)
