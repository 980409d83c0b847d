package socks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// exchange is one forwarded request and its response. The transport reads the
// request's body on a goroutine of its own, also while the response is being sent.
// Whenever nobody reads from the client for a while, a watch does.
type exchange struct {
	h      *httpConn
	req    *http.Request
	cancel context.CancelFunc // ends the request
	body   *requestBody       // nil when the request has none
	goesOn bool               // the client wants to send another request
	target *targetConn        // the transport's connection, once it has one

	// bodyErr is why the client's body could not be read. It is valid after end.
	bodyErr error

	mu        sync.Mutex // guards all below, and writing to the client until responded
	watch     *clientWatch
	gone      error // why the client is gone
	interims  int   // responses ahead of the response
	responded bool  // the response has begun
	continued bool  // the client has been told to go on
	atEOF     bool  // all of the body is read
	stopped   bool  // the body is not wanted any more
	ended     bool
}

var (
	errBodyUnwanted = errors.New("the rest of the request's body is not wanted")
	errInterim      = errors.New("too many interim responses")
)

// newExchange begins an exchange and watches the client until its body is read.
func newExchange(h *httpConn, req *http.Request, cancel context.CancelFunc) *exchange {
	x := &exchange{h: h, req: req, cancel: cancel, goesOn: keepsAlive(req), atEOF: true}
	if req.Body != http.NoBody {
		x.body = &requestBody{x: x, body: req.Body, closed: make(chan struct{})}
		x.atEOF = false
		req.Body = x.body
	}
	x.watch = watchClient(h.c, cancel)
	return x
}

// end ends an exchange: from then on nothing but the connection's goroutine reads
// from the client or writes to it. It returns why the client is gone, or nil.
func (x *exchange) end() error {
	x.mu.Lock()
	x.ended = true
	x.stopWatch()
	x.stopBody()
	atEOF := x.atEOF
	x.mu.Unlock()
	if x.body != nil {
		if !atEOF {
			x.cancel()
		}
		<-x.body.closed // the transport closes every body
		x.h.c.SetReadDeadline(time.Time{})
	}
	return x.gone
}

// stopWatch ends the watch, if there is one. mu is held.
func (x *exchange) stopWatch() {
	if x.watch == nil {
		return
	}
	if gone := x.watch.stop(); gone != nil {
		x.gone = fmt.Errorf("client left before the response was complete: %w", gone)
	}
	x.watch = nil
}

// stopBody has a running read of the body, and all that follow, fail. mu is held.
func (x *exchange) stopBody() {
	if !x.atEOF && !x.stopped {
		x.stopped = true
		x.h.c.SetReadDeadline(time.Unix(1, 0)) // long past: wakes a blocked read
	}
}

// interrupt stops the body because its target takes no more of it.
func (x *exchange) interrupt() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.ended {
		x.stopBody()
	}
}

// reached marks the client's connection as one that Shutdown waits for.
func (x *exchange) reached() {
	if !x.h.s.beginRelay(x.h.c) {
		x.cancel()
	}
}

// beginResponse keeps interim responses from being sent, and returns whether the
// body was read to its end.
func (x *exchange) beginResponse() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.responded = true
	return x.atEOF
}

// inform passes on an interim response, of which it takes maxInterim. "100
// Continue" is sent when the body is asked for, and not passed on.
func (x *exchange) inform(status int, header http.Header) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.interims++; x.interims > maxInterim {
		return errInterim
	}
	if status == http.StatusContinue || !x.req.ProtoAtLeast(1, 1) {
		return nil
	}
	removeHopByHop(header)
	message := bytes.NewBufferString(fmt.Sprintf("HTTP/1.1 %d %s\r\n", status, http.StatusText(status)))
	header.Write(message)
	message.WriteString("\r\n")
	x.writeInterim(message.Bytes())
	return nil
}

// writeInterim sends an interim response, unless it is too late. An error shows
// again in what follows. mu is held.
func (x *exchange) writeInterim(message []byte) {
	if x.responded || x.ended {
		return
	}
	c := x.h.c
	c.SetWriteDeadline(time.Now().Add(x.h.s.cfg.NegotiationTimeout))
	c.Write(message)
	c.SetWriteDeadline(time.Time{})
}

// requestBody is a request's body as the transport reads it.
type requestBody struct {
	x         *exchange
	body      io.Reader
	closeOnce sync.Once
	closed    chan struct{}
}

// Read implements io.Reader. It takes over from the watch, and back to it at the
// end of the body.
func (b *requestBody) Read(p []byte) (int, error) {
	x := b.x
	if err := x.beginRead(); err != nil {
		return 0, err
	}
	n, err := b.body.Read(p)
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case err == nil || x.atEOF:
	case err == io.EOF:
		x.atEOF = true
		if !x.ended {
			x.h.c.SetReadDeadline(time.Time{})
			x.watch = watchClient(x.h.c, x.cancel)
		}
	case !x.stopped:
		x.bodyErr = err
		x.stopped = true
	}
	return n, err
}

// beginRead prepares for a read of the body.
func (x *exchange) beginRead() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.atEOF:
		return nil
	case x.stopped:
		return errBodyUnwanted
	}
	x.stopWatch()
	if x.gone != nil {
		return x.gone
	}
	x.h.c.SetReadDeadline(time.Now().Add(bodyTimeout))
	if !x.continued {
		x.continued = true // whether or not it waits for that
		if expectsContinue(x.req) {
			x.writeInterim([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
		}
	}
	return nil
}

// Close implements io.Closer. It reads nothing, unlike that of net/http's body.
func (b *requestBody) Close() error {
	b.closeOnce.Do(func() { close(b.closed) })
	return nil
}
