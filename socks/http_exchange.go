package socks

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"culvert/internal/bounds"
)

// exchange is one forwarded request and its response.
type exchange struct {
	h      *httpConn
	req    *request
	up     *upload
	target *targetConn // nil while there is none
	heard  bool        // the target has sent something

	mu        sync.Mutex // guards all below, and writing to the client until responded
	responded bool       // the response has begun
	continued bool       // the client has been told to go on
}

// continueHead is an interim response that all read in the same way.
const continueHead = "HTTP/1.1 100 Continue\r\n\r\n"

var (
	errNoResponse = errors.New("no valid response")
	errTooLate    = errors.New("no response in time")
	errInterim    = errors.New("too many interim responses")
	errSwitched   = errors.New("the target switches to a protocol that nobody asked for")
	errStale      = errors.New("the target closed a connection that had served before")
)

// forward sends a request to its target and the response back. Nothing is held: bodies go
// through as they come.
func (h *httpConn) forward(ctx context.Context, req *request) (net.Conn, bool, error) {
	for {
		x := &exchange{h: h, req: req, up: newUpload(h.c, req)}
		if req.expects {
			x.up.goOn = x.goOn
		}
		resp, head, err := x.ask(ctx)
		if err == nil {
			return x.deliver(ctx, resp, head)
		}
		if !x.isStale(ctx, err) {
			return x.answerFailure(ctx, err)
		}
		x.end()
		if !req.repeatable() {
			// The client knows best whether to ask again: it does when a connection that
			// had served before ends without an answer.
			h.c.hangUp(nil)
			return nil, false, errStale
		}
	}
}

// ask sends the request and returns the response's head, and how much of the target's buffer
// it takes.
func (x *exchange) ask(ctx context.Context) (*response, int, error) {
	if err := x.reach(ctx); err != nil {
		return nil, 0, err
	}
	writeErr := x.sendHead()
	if errors.Is(writeErr, os.ErrDeadlineExceeded) {
		return nil, 0, writeErr // what it has of the head, nothing may follow
	}
	x.up.start(x.target)
	resp, n, err := x.readResponse()
	if err != nil && writeErr != nil && x.h.s.cfg.Unreached(writeErr) {
		err = writeErr
	}
	return resp, n, err
}

// reach gets a connection to the target, while it watches the client.
func (x *exchange) reach(ctx context.Context) error {
	h, address := x.h, x.req.address
	if !x.req.upgrades { // else what follows may be another protocol
		x.target = h.takeTarget(address)
	}
	if x.target == nil {
		closedWait := time.Duration(0)
		if canHalfClose(h.c.Conn) {
			closedWait = -1
		}
		halfClosed, err := h.s.watchedClient(ctx, h.c, closedWait, func(dial context.Context) error {
			conn, err := h.s.reach(dial, address)
			if conn != nil {
				x.target = newTargetConn(ctx, conn, address)
			}
			return err
		})
		if errors.Is(err, errClientGone) {
			x.up.gone = err
		}
		if err != nil {
			return err
		}
		x.up.halfClosed = halfClosed
	}
	if !h.s.beginRelay(h.c) {
		return errDraining
	}
	return nil
}

// sendHead sends the request's head, with what is there of its body. After an error other than
// os.ErrDeadlineExceeded there may still be a response.
func (x *exchange) sendHead() error {
	x.target.SetWriteDeadline(time.Now().Add(x.h.s.cfg.DialTimeout))
	defer x.target.SetWriteDeadline(time.Time{})
	piece := bodyCopy{dst: x.target, in: x.h.c.in, body: &x.up.body, head: x.req.head}
	if x.up.body.done() || x.h.c.in.Buffered() == 0 {
		return piece.write(nil)
	}
	err := piece.step()
	x.up.begun, x.up.complete = true, x.up.body.done()
	if _, failed := errors.AsType[*writeError](err); failed {
		x.up.discards = true
		return err
	}
	return nil // a malformed body shows again
}

// readResponse reads the head of the response, and passes on the interim responses ahead of it.
func (x *exchange) readResponse() (*response, int, error) {
	lenient := false // an interim response was
	for range maxInterim + 1 {
		n, err := peekHead(&x.target.in, x.target, maxTargetHead)
		x.heard = x.heard || x.target.in.Buffered() > 0
		if errors.Is(err, errHeadTooLarge) {
			x.h.s.cfg.Bounds.Refused(bounds.HTTPTargetHead)
		}
		if err != nil {
			return nil, 0, err
		}
		head, _ := x.target.in.Peek(n)
		resp, err := parseResponse(head, x.req.method)
		x.h.s.cfg.Bounds.Note(err)
		switch {
		case err != nil:
			return nil, 0, err
		case resp.status == http.StatusSwitchingProtocols && !x.req.upgrades:
			return nil, 0, errSwitched
		}
		lenient = lenient || resp.lenient
		resp.lenient = lenient
		if resp.status >= 200 || resp.status == http.StatusSwitchingProtocols {
			return resp, n, nil
		}
		x.inform(resp)
		x.target.in.Discard(n)
	}
	x.h.s.cfg.Bounds.Refused(bounds.HTTPInterim)
	return nil, 0, errInterim
}

// inform passes on an interim response (RFC 9110 section 15.2).
func (x *exchange) inform(resp *response) {
	goOn := resp.status == http.StatusContinue
	if !x.req.http11 || !goOn && (resp.lenient || !x.req.close && !x.up.mayInform()) {
		return
	}
	message := []byte(continueHead)
	if !resp.lenient {
		message = resp.appendHead(nil, "", false)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.continued = x.continued || goOn
	x.writeInterim(message)
}

// goOn tells the client to send its body, for a target that doesn't say.
func (x *exchange) goOn() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.continued && !x.responded {
		x.continued = true
		x.writeInterim([]byte(continueHead))
	}
}

// writeInterim sends an interim response. An error shows again in what follows: after a part of it,
// nothing else may come. mu is held.
func (x *exchange) writeInterim(message []byte) {
	c := x.h.c
	c.SetWriteDeadline(time.Now().Add(x.h.s.cfg.NegotiationTimeout))
	if _, err := c.Write(message); errors.Is(err, os.ErrDeadlineExceeded) {
		c.reset()
		return
	}
	c.SetWriteDeadline(time.Time{})
}

// begin keeps interim responses from being sent. The error is why the client may not have the
// final one.
func (x *exchange) begin() error {
	x.mu.Lock()
	x.responded = true
	x.mu.Unlock()
	return x.up.answered()
}

// end ends the exchange: from then on nothing but the connection's goroutine reads from the
// client or writes to it, and the target is closed. It returns why the client is gone, or nil.
func (x *exchange) end() error {
	x.begin()
	x.up.finish(true)
	if x.target != nil {
		x.target.Close()
		putReader(x.target.in)
		x.target = nil
	}
	return x.up.gone
}

// isStale reports whether a connection that has served before ended ahead of the response, as
// it does when the target's patience ends just as the request comes. The error is that of ask. A
// target that is only slow has the request.
func (x *exchange) isStale(ctx context.Context, err error) bool {
	if x.target == nil || !x.target.reused || x.heard || x.h.s.stopping(ctx) ||
		errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	x.up.mu.Lock()
	defer x.up.mu.Unlock()
	return x.up.gone == nil && x.up.bodyErr == nil
}

// deliver passes on a response whose head is the first n bytes of the target's buffer, and
// returns whether another request may follow, or the target that the client is joined to.
func (x *exchange) deliver(ctx context.Context, resp *response, n int) (net.Conn, bool, error) {
	if err := x.begin(); err != nil {
		x.end()
		return nil, false, err
	}
	if resp.status == http.StatusSwitchingProtocols {
		return x.switchProtocols(resp, n)
	}
	t, req := x.target, x.req
	framed := resp.body.kind != framedByClose
	keep := framed && !req.close && !resp.lenient && resp.http11 && !x.h.s.stopping(ctx) &&
		x.up.outlives(resp)
	connection := "close"
	if keep {
		connection = ""
	}
	body := bodyCopy{
		dst: x.h.c.Conn, in: t.in, body: &resp.body, decode: !req.http11,
		head: resp.appendHead(make([]byte, 0, n+headRoom), connection, !req.http11),
	}
	resp.body.chunks.promised = keep
	t.in.Discard(n)
	err := body.run()
	if errors.Is(err, errChunk) && req.http11 && !keep {
		// The client judges by itself: it gets all that comes, and knows that no other response
		// does.
		resp.body.kind, framed = framedByClose, false
		err = body.run()
	}
	if err != nil {
		return nil, false, x.breakOff(err, framed && (req.http11 || resp.body.kind != framedByChunks))
	}
	exact := framed && !resp.lenient && !resp.body.chunks.lenient
	if keep = x.up.finish(!keep || !exact) && keep && exact; exact && !resp.close && x.reusable() {
		x.h.keepTarget(t)
		return nil, keep, nil
	}
	x.end()
	return nil, keep, nil
}

// reusable reports whether the target may get another request on this connection: it has taken
// all of this one, and has not sent more than the response.
func (x *exchange) reusable() bool {
	up := x.up
	return up.complete && !up.discards && !up.halfClosed && up.gone == nil && !x.req.upgrades &&
		x.target.in.Buffered() == 0
}
