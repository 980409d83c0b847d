package tunnel

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// boundRequest bounds how long the body of a request may take to arrive, and its answer to be read,
// unless the bounds are extended.
func boundRequest(w http.ResponseWriter, request *http.Request) {
	control := http.NewResponseController(w)
	deadline := time.Now().Add(stallTimeout)
	control.SetWriteDeadline(deadline) // an error means that there is none to bound
	if hasBody(request) {
		control.SetReadDeadline(deadline)
	}
}

// hasBody reports whether a request has a body, which may still have to arrive. The server reads
// ahead of a request that has none, to notice when the client leaves: a deadline for reading would
// look like that.
func hasBody(request *http.Request) bool {
	return request.Body != nil && request.Body != http.NoBody
}

// fallbackVisit is a request that the fallback site answers, and its ResponseWriter. What makes
// progress goes on.
type fallbackVisit struct {
	http.ResponseWriter
	request *http.Request   // with a body that extends the deadline for reading
	visitor context.Context // is done when the visitor has left
	control *http.ResponseController
	place   *fairPlace

	mu    sync.Mutex // guards the deadlines, and:
	ended bool       // they are those of the next request
	cut   bool       // by this side, not by the visitor
	fault error      // of the visitor: why the request's body didn't arrive; nil if it may have
}

func newFallbackVisit(
	ctx context.Context, w http.ResponseWriter, request *http.Request, place *fairPlace,
) *fallbackVisit {
	v := &fallbackVisit{
		ResponseWriter: w, control: http.NewResponseController(w), place: place,
		visitor: request.Context(),
	}
	v.request = request.WithContext(ctx)
	if hasBody(request) {
		v.request.Body = &visitBody{request.Body, v}
	}
	return v
}

// setDeadline sets a deadline of the connection with set, unless the visit has ended.
func (v *fallbackVisit) setDeadline(set func(time.Time) error, deadline time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.ended {
		set(deadline)
	}
}

// end leaves the connection to the server.
func (v *fallbackVisit) end() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ended = true
}

// interrupt makes reads fail, and soon writes too. Until then an error can be answered.
func (v *fallbackVisit) interrupt() {
	now := time.Now()
	v.mu.Lock()
	v.cut = v.visitor.Err() == nil
	v.mu.Unlock()
	v.setDeadline(v.control.SetReadDeadline, now)
	v.setDeadline(v.control.SetWriteDeadline, now.Add(interruptWait))
}

// noteFault notes why the body of the request doesn't arrive.
func (v *fallbackVisit) noteFault(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.fault == nil && !v.cut {
		v.fault = err
	}
}

// Unwrap is for http.ResponseController.
func (v *fallbackVisit) Unwrap() http.ResponseWriter { return v.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (v *fallbackVisit) WriteHeader(status int) {
	v.extendWrite()
	v.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (v *fallbackVisit) Write(p []byte) (int, error) {
	v.extendWrite()
	n, err := v.ResponseWriter.Write(p)
	if err == nil {
		v.place.touch()
	}
	return n, err
}

// FlushError is for http.ResponseController.
func (v *fallbackVisit) FlushError() error {
	v.extendWrite()
	return v.control.Flush()
}

func (v *fallbackVisit) extendWrite() {
	if v.request.Context().Err() == nil {
		v.setDeadline(v.control.SetWriteDeadline, time.Now().Add(stallTimeout))
	}
}

// Hijack implements http.Hijacker: a WebSocket of the site's.
func (v *fallbackVisit) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffers, err := v.control.Hijack()
	if err != nil {
		return nil, nil, err
	}
	v.end()
	socket := &visitSocket{Conn: conn, place: v.place}
	socket.extend()
	context.AfterFunc(v.request.Context(), func() { conn.Close() })
	return socket, buffers, nil
}

// visitBody is the body of a request to the fallback site.
type visitBody struct {
	io.ReadCloser
	visit *fallbackVisit
}

// Read implements io.Reader.
func (b *visitBody) Read(p []byte) (int, error) {
	control := b.visit.control
	if b.visit.request.Context().Err() == nil {
		b.visit.setDeadline(control.SetReadDeadline, time.Now().Add(stallTimeout))
	}
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.visit.place.touch()
	}
	switch {
	case err == io.EOF: // see hasBody
		b.visit.setDeadline(control.SetReadDeadline, time.Time{})
	case err != nil && !errors.Is(err, http.ErrBodyReadAfterClose):
		b.visit.noteFault(err)
	}
	return n, err
}

// visitSocket is the connection of a WebSocket of the fallback site's. It fails when nothing passes
// in either direction for fallbackSocketIdle, or when the visitor doesn't read for stallTimeout.
type visitSocket struct {
	net.Conn
	place *fairPlace
}

func (s *visitSocket) extend() {
	now := time.Now()
	s.Conn.SetReadDeadline(now.Add(fallbackSocketIdle))
	s.Conn.SetWriteDeadline(now.Add(stallTimeout))
	s.place.touch()
}

// Read implements net.Conn.
func (s *visitSocket) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if n > 0 {
		s.extend()
	}
	return n, err
}

// Write implements net.Conn.
func (s *visitSocket) Write(p []byte) (int, error) {
	s.Conn.SetWriteDeadline(time.Now().Add(stallTimeout))
	n, err := s.Conn.Write(p)
	if err == nil {
		s.extend()
	}
	return n, err
}
