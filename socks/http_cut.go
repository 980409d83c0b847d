package socks

import (
	"context"
	"errors"

	"culvert/internal/sendqueue"
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

// resetWhenSent resets the connection once its peer has received all that was written to it.
func (c *clientConn) resetWhenSent() {
	sendqueue.Await(context.Background(), c.Conn) // the end of the connection's context resets it
	c.reset()
}
