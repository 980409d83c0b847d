package socks

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// upload is the client's half of an exchange, which goes on while the response comes: it sends
// the request's body to the target and then watches the client, so that its end is passed on.
// From start to finish nobody else reads from the client.
//
// A client may close its half once it has sent its request, and still wants the response. That
// looks like the end of one that has gone, so both are told to the target, which can judge as
// it would without a proxy.
//
// It has so many fields because either goroutine may find out what ends the exchange: those above
// mu belong to one of them at a time.
type upload struct {
	c         *clientConn
	target    *targetConn // nil when there is none, and what comes is discarded
	body      framing
	goOn      func()        // tells the client to send the body, if it may wait for that; else nil
	delay     *time.Timer   // to the watch of a client whose request has no body
	sent      chan struct{} // closed when there is nothing more to send
	done      chan struct{} // closed when nobody reads from the client any more
	began     bool          // done will be closed, unless delay is stopped
	discarded int64         // bytes of body that no target took
	last      bool          // finish was told so; guarded by mu

	mu         sync.Mutex // guards all below, and setting the client's read deadline
	begun      bool       // some of the body has been read
	complete   bool       // all of it has
	halfClosed bool       // the client has
	stopping   bool       // the watch is to end
	ahead      bool       // another request has come ahead of the response
	misled     bool       // the client may have taken an interim response for the final one
	discards   bool       // the target takes no more
	over       time.Time  // since when the response is, as finish was told; zero before
	writeBy    time.Time  // the deadline of writing to the target
	bodyErr    error      // why the body could not be read
	gone       error      // why the client is gone
}

var (
	errBodyTooLate = errors.New("nothing came of the request's body for too long")
	errGone        = errors.New("client left before the response was complete")
	errMisled      = errors.New("it took an interim response for the final one")
)

func newUpload(c *clientConn, req *request) *upload {
	return &upload{
		c: c, body: req.body, complete: req.body.done(),
		sent: make(chan struct{}), done: make(chan struct{}),
	}
}

// canHalfClose reports whether a connection can tell the end of one half from that of both.
func canHalfClose(conn net.Conn) bool {
	_, ok := conn.(closeWriter)
	return ok
}

// start begins to send to the target.
func (u *upload) start(target *targetConn) {
	u.target, u.began = target, true
	u.ahead = u.complete && u.c.in.Buffered() > 0
	switch {
	case !u.complete:
		go u.run()
	case u.halfClosed:
		close(u.sent)
		defer close(u.done)
		u.endOfFile()
	default:
		close(u.sent)
		u.delay = time.AfterFunc(watchDelay, func() {
			defer close(u.done)
			u.watch()
		})
	}
}

func (u *upload) run() {
	defer close(u.done)
	goesOn := u.send()
	close(u.sent)
	if goesOn {
		u.watch()
	}
}

// send sends the body, and reports whether the client is to be watched then.
func (u *upload) send() bool {
	u.awaitContinue()
	body := bodyCopy{dst: uploadWriter{u}, in: u.c.in, body: &u.body}
	defer body.close()
	for !u.body.done() {
		if !u.mayRead() {
			return false
		}
		if err := body.step(); err != nil {
			u.fail(err)
			return false
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.over.IsZero() {
		return false
	}
	u.c.SetReadDeadline(time.Time{})
	return true
}

// awaitContinue waits for a client that waits for its target. One that doesn't say within
// continueTimeout is taken to agree.
func (u *upload) awaitContinue() {
	if u.goOn == nil {
		return
	}
	u.mu.Lock()
	if u.over.IsZero() {
		u.c.SetReadDeadline(time.Now().Add(continueTimeout))
	}
	u.mu.Unlock()
	if _, err := u.c.in.Peek(1); errors.Is(err, os.ErrDeadlineExceeded) {
		u.goOn()
	}
}

// mayRead sets the deadline of the next read, and reports whether there is to be one.
func (u *upload) mayRead() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.discards && u.discarded >= maxDiscarded {
		return false
	}
	u.c.SetReadDeadline(u.deadline())
	return true
}

// deadline is that of the next read. mu is held.
func (u *upload) deadline() time.Time {
	deadline := time.Now().Add(bodyTimeout)
	if u.last {
		deadline = time.Now().Add(lingerIdle)
	}
	end := u.over.Add(lingerTotal)
	if !u.over.IsZero() && u.discards && end.Before(deadline) {
		deadline = end
	}
	return deadline
}

// fail ends a body that could not be read.
func (u *upload) fail(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.c.SetReadDeadline(time.Time{})
	if !u.over.IsZero() {
		return
	}
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF) && canHalfClose(u.c.Conn):
		u.bodyErr = err
		u.halfClosed = true
		if u.target.closeWrite() {
			return // the target may have an answer to that
		}
	case errors.Is(err, errChunk):
		u.bodyErr = err
	case errors.Is(err, os.ErrDeadlineExceeded):
		u.bodyErr = errBodyTooLate
	default:
		u.leaveLocked(err)
		return
	}
	u.target.Close()
}

// watch waits for the client to go. What it sends meanwhile stays in its read buffer; once that
// is full the watch ends, and the target may not be silent for ever.
func (u *upload) watch() {
	in := u.c.in
	for in.Buffered() < in.Size() {
		if in.Buffered() > 0 && !u.noteAhead() {
			return
		}
		_, err := in.Peek(in.Buffered() + 1)
		switch {
		case err == nil:
			continue
		case errors.Is(err, os.ErrDeadlineExceeded): // finish was called
		case errors.Is(err, io.EOF) && in.Buffered() > 0: // another request is there
			u.endAhead()
		case errors.Is(err, io.EOF) && canHalfClose(u.c.Conn):
			u.endOfFile()
		default:
			u.leave(err)
		}
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.stopping {
		u.target.boundSilence()
	}
}

// mayInform reports whether the client may get an interim response other than 100, which is the
// case as long as it has sent no other request. Python takes that for the final one. So when the
// client sends another request then, before the final response, it is left: it would take this
// response for that of the next request, which may be for another server.
func (u *upload) mayInform() bool {
	u.mu.Lock()
	u.misled = !u.ahead
	may := u.misled
	u.mu.Unlock()
	if may && u.delay != nil && u.delay.Stop() {
		u.delay.Reset(0) // that request is to be seen, however soon it comes
	}
	return may
}

// answered notes that the final response begins, or returns why the client may not have it.
func (u *upload) answered() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.misled = false
	if errors.Is(u.gone, errMisled) {
		return u.gone
	}
	return nil
}

// noteAhead notes that another request has come ahead of the response, and reports whether the
// watch goes on.
func (u *upload) noteAhead() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ahead = true
	if u.misled && !u.stopping {
		u.leaveLocked(errMisled)
		return false
	}
	return true
}

// endOfFile passes on that the client sends no more.
func (u *upload) endOfFile() {
	u.mu.Lock()
	u.halfClosed = true
	told := u.stopping || u.target.closeWrite()
	u.mu.Unlock()
	if !told {
		u.leave(io.EOF)
	}
}

// endAhead notes that the client sends no more than the request that has come ahead. The target
// isn't told: that is for the target of the other request.
func (u *upload) endAhead() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.halfClosed = true
	if !u.stopping {
		u.target.boundSilence()
	}
}

// leave ends the exchange of a client that has gone.
func (u *upload) leave(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.stopping {
		u.leaveLocked(err)
	}
}

// leaveLocked is leave with mu held. The target is still to get what the client has sent of a
// body; without that, nobody needs it any more.
func (u *upload) leaveLocked(err error) {
	u.gone = fmt.Errorf("%w: %w", errGone, err)
	if u.begun {
		u.target.cut()
	} else {
		u.target.Close()
	}
}

// isComplete reports whether all of the body has been read.
func (u *upload) isComplete() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.complete
}

// outlives reports whether the client's connection can go on after a response that begins now.
// It can't when the target wants no more of the body, and when the client may not send any,
// since it has waited to be told to, and now has its answer.
func (u *upload) outlives(resp *response) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.complete || !resp.close && (u.begun || u.goOn == nil)
}

// isSent reports whether there is nothing more to send.
func (u *upload) isSent() bool {
	select {
	case <-u.sent:
		return true
	default:
		return false
	}
}

// finish ends the client's half when the response is over, or there is none, and reports whether
// the body is. Without that no other request can be found behind it.
//
// A body that is not over is heard on: many clients look for the response only when they have
// sent all, and would lose it to a reset. The target goes on to get it as long as it takes it.
// If this request is the last one, the client is told by the end of file.
func (u *upload) finish(last bool) bool {
	if !u.over.IsZero() {
		return u.isComplete()
	}
	if last && !u.isComplete() {
		if w, ok := u.c.Conn.(closeWriter); !ok || w.CloseWrite() != nil {
			u.c.Close() // nothing else tells it
		}
	}
	u.mu.Lock()
	u.last, u.over = last, time.Now()
	u.discards = u.discards || u.target == nil
	if u.stopping = u.complete; u.stopping {
		u.c.SetReadDeadline(time.Unix(1, 0)) // long past: wakes a watch
	} else {
		u.c.SetReadDeadline(u.deadline())
	}
	if u.began && !u.isSent() {
		u.writeBy = u.over
		u.target.SetWriteDeadline(u.writeBy) // wakes a write, which then waits less
	}
	u.mu.Unlock()
	switch {
	case !u.began:
		if !u.stopping {
			u.send()
		}
	case u.delay == nil || !u.delay.Stop():
		<-u.done
	}
	u.c.SetReadDeadline(time.Time{})
	return u.complete
}
