package socks

import (
	"net"
	"time"
)

// switchProtocols tells the client that its target has switched to the protocol that it asked
// for (RFC 9110 section 7.8), for the relay to begin. The request's body, if it has one, comes
// first. The response's head is the first n bytes of the target's buffer.
func (x *exchange) switchProtocols(resp *response, n int) (net.Conn, bool, error) {
	<-x.up.sent
	x.up.finish(false)
	x.up.mu.Lock()
	failed := x.up.gone
	if failed == nil {
		failed = x.up.bodyErr
	}
	x.up.mu.Unlock()
	if failed != nil {
		x.end()
		return nil, false, failed
	}
	message := resp.appendHead(nil, "Upgrade", false)
	x.target.in.Discard(n)
	target, early := x.target.release()
	if target == nil {
		return nil, false, errDraining
	}
	target.SetDeadline(time.Time{})
	if err := x.h.s.promise(x.h.c, target, append(message, early...)); err != nil {
		return nil, false, err
	}
	return target, false, nil
}
