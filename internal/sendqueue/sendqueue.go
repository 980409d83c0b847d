// Package sendqueue waits until what was written to a TCP connection has reached the peer's system.
// A reset that is sent before then overtakes it.
package sendqueue

import (
	"context"
	"net"
	"time"

	"culvert/internal/rawsock"
	"culvert/internal/stall"
)

const (
	// stallTime is how long the peer's system may take nothing of what was written.
	stallTime = 30 * time.Second

	// The socket is looked at every pollMin at first, and up to pollMax apart.
	pollMin = time.Millisecond
	pollMax = 100 * time.Millisecond

	// blindTime is how long to wait where the system can't tell.
	blindTime = 250 * time.Millisecond
)

// state is what the system knows of the data that was written to a connection.
type state struct {
	unknown  bool   // nothing
	empty    bool   // the peer has acknowledged everything, or the connection is over
	progress uint64 // differs when some of it has been acknowledged
}

// Await waits until the peer's system has received what was written to conn. It gives up when
// nothing moves for 30 s, or when ctx is done. Where the system can't tell, it waits for 250 ms. It
// returns at once if conn is neither a TCP connection nor has one as its NetConn.
func Await(ctx context.Context, conn net.Conn) {
	tcp := rawsock.TCPOf(conn)
	if tcp == nil {
		return
	}
	var seen uint64
	var watch stall.Watch
	pause := pollMin
	for {
		queue := stateOf(tcp)
		switch {
		case queue.empty:
			return
		case queue.unknown:
			pause = blindTime
		case queue.progress != seen:
			seen, pause = queue.progress, pollMin
			watch.Look(true)
		case watch.Look(false) >= stallTime:
			return
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		if queue.unknown {
			return
		}
		pause = min(2*pause, pollMax)
	}
}
