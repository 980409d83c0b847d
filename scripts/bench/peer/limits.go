package peer

import "time"

const (
	// startTime bounds the start of one program.
	startTime = 20 * time.Second

	// commandTime bounds a command that only writes a file.
	commandTime = 20 * time.Second

	// scrapePeriod is how often an observer reads the metrics: as often as Prometheus often does.
	scrapePeriod = 15 * time.Second

	// pagePeriod is how often the status page asks for the state.
	pagePeriod = time.Second

	// Ports that are tried as consecutive ones, and how often.
	leastPort, mostPort = 10000, 30000
	portAttempts        = 100
)
