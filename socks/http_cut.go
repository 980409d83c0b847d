package socks

import (
	"errors"
	"time"
)

// breakOff ends the connection of a client that has not got all of its response. What came of it
// is delivered first. A client that knows how long the response is to be sees by that that it was
// cut short, when its connection just ends; another one needs a reset to see it, which must not
// overtake what is on its way.
func (x *exchange) breakOff(err error, framed bool) error {
	c := x.h.c
	if _, left := errors.AsType[*writeError](err); left {
		c.reset()
		x.end()
		return err
	}
	if framed {
		x.end()
		c.hangUp(nil)
		return err
	}
	c.resetWhenSent()
	x.end()
	return err
}

// resetWhenSent resets the connection once its peer has got all that was written to it, for
// which there is deliverTimeout.
func (c *clientConn) resetWhenSent() {
	defer c.reset()
	deadline := time.NewTimer(deliverTimeout)
	defer deadline.Stop()
	for pause := time.Millisecond; unsent(c.Conn); pause = min(2*pause, deliverPoll) {
		next := time.NewTimer(pause)
		select {
		case <-next.C:
		case <-deadline.C:
			next.Stop()
			return
		}
	}
}
