package socks

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"
)

var errNoResponse = errors.New("no valid response")

// forward sends a request to its target and the response back. Nothing is held:
// bodies go through as they come.
func (h *httpConn) forward(ctx context.Context, req *http.Request) (target net.Conn, keep bool, err error) {
	during, cancel := context.WithCancel(ctx)
	defer cancel()
	upgrade := wantedUpgrade(req)
	x := newExchange(h, req, cancel)
	makeForwardable(req, upgrade)
	var resp *http.Response
	if upgrade == "" {
		resp, err = h.roundTripper().RoundTrip(req.WithContext(httptrace.WithClientTrace(during, x.trace())))
	} else {
		resp, target, err = h.askForUpgrade(during, x, req)
	}
	if err != nil {
		return h.answerFailure(ctx, x, err)
	}
	if target != nil {
		return h.switchProtocols(x, target, resp)
	}
	keep, err = x.respond(ctx, resp)
	resp.Body.Close()
	if gone := x.end(); gone != nil {
		keep = false
	}
	if err != nil {
		// What was sent may look complete; only this shows that it isn't.
		h.c.reset()
	}
	return nil, keep, err
}

// answerFailure ends an exchange that has brought no response.
func (h *httpConn) answerFailure(ctx context.Context, x *exchange, err error) (net.Conn, bool, error) {
	gone := x.end()
	switch {
	case gone != nil:
		return nil, false, gone
	case h.s.stopping(ctx):
		return nil, false, errDraining
	case x.bodyErr != nil:
		return h.answerText(x.req, http.StatusBadRequest, "the request's body is malformed or cut short", x.bodyErr)
	}
	failed, ok := errors.AsType[*dialError](err)
	switch {
	case ok:
	case h.s.cfg.Unreached(err):
		failed = h.s.newDialError(err)
	case x.target != nil: // the transport may name what followed from that, a body that was not read on
		failed = x.target.unreached.Load()
	}
	if failed != nil {
		return h.answerDialError(x.req, failed)
	}
	return h.answerText(x.req, http.StatusBadGateway, h.address+": "+errNoResponse.Error(), err)
}

// makeForwardable turns what a client asks of its proxy into what the proxy asks
// of the target. Nothing is added that tells of a proxy.
func makeForwardable(req *http.Request, upgrade string) {
	removeHopByHop(req.Header)
	if !req.ProtoAtLeast(1, 1) {
		req.Header.Del("Expect") // RFC 9110 section 10.1.1
	}
	// Without this the transport, to keep its connection, would go on to send a body
	// that its target has refused.
	req.Close = expectsContinue(req)
	if upgrade != "" {
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", upgrade)
	}
	if _, ok := req.Header["User-Agent"]; !ok {
		req.Header.Set("User-Agent", "") // keeps net/http from naming itself
	}
	// The path stays as it was written (RFC 9112 section 3.2.2), which URL would
	// escape in its own way. One that begins with // has another meaning there.
	_, rest, _ := strings.Cut(req.RequestURI, "://")
	path, _, _ := strings.Cut(rest, "?")
	if i := strings.IndexByte(path, '/'); i >= 0 && !strings.HasPrefix(path[i:], "//") {
		req.URL.Opaque = path[i:]
	} else if i < 0 && req.Method == http.MethodOptions && req.URL.RawQuery == "" {
		req.URL.Path = "*" // RFC 9112 section 3.2.4
	}
}

// expectsContinue reports whether the client waits to be told to send its body.
func expectsContinue(req *http.Request) bool { return hasToken(req.Header["Expect"], "100-continue") }

// roundTripper returns the connection's transport.
func (h *httpConn) roundTripper() *http.Transport {
	if h.transport == nil {
		h.transport = &http.Transport{
			DialContext:            h.dialTarget,
			DisableCompression:     true, // or it would ask for what the client didn't
			MaxIdleConns:           maxIdleTargets,
			MaxIdleConnsPerHost:    1,
			IdleConnTimeout:        targetIdleTimeout,
			ExpectContinueTimeout:  continueTimeout,
			MaxResponseHeaderBytes: maxTargetHead,
		}
	}
	return h.transport
}

// dialTarget is the transport's dialer, which may be called after its request has
// ended, and from any goroutine.
func (h *httpConn) dialTarget(ctx context.Context, _, address string) (net.Conn, error) {
	h.mu.Lock()
	closed := h.closed
	if !closed {
		h.targets.Add(1)
	}
	h.mu.Unlock()
	if closed {
		return nil, net.ErrClosed
	}
	conn, err := h.s.dial(ctx, address)
	if err != nil {
		h.targets.Done()
		return nil, err
	}
	return &targetConn{Conn: conn, s: h.s, closed: sync.OnceFunc(h.targets.Done)}, nil
}

// targetConn is a connection of the transport.
type targetConn struct {
	net.Conn
	s         *Server
	closed    func()
	user      atomic.Pointer[exchange]  // the last that it was used for
	unreached atomic.Pointer[dialError] // what a read has failed of, when its target was never reached
}

// Read implements net.Conn.
func (t *targetConn) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	if err != nil && t.s.cfg.Unreached(err) {
		t.unreached.Store(t.s.newDialError(err))
	}
	return n, err
}

// Close implements net.Conn. It wakes the transport when that is waiting for more
// of a body that nobody takes any more.
func (t *targetConn) Close() error {
	err := t.Conn.Close()
	if x := t.user.Load(); x != nil {
		x.interrupt()
	}
	t.closed()
	return err
}

// trace has the exchange told of its connection and of interim responses.
func (x *exchange) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			x.target = info.Conn.(*targetConn)
			x.target.user.Store(x)
			x.reached()
		},
		Got1xxResponse: func(status int, header textproto.MIMEHeader) error {
			return x.inform(status, http.Header(header))
		},
	}
}

// respond sends the response to the client and returns whether another request
// may follow. After an error the client has not got all of it.
func (x *exchange) respond(ctx context.Context, resp *http.Response) (keep bool, err error) {
	// Without the rest of its body the client's next request can't be found.
	keep = x.beginResponse() && x.goesOn && !x.h.s.stopping(ctx)
	removeHopByHop(resp.Header)
	resp.Proto, resp.ProtoMajor, resp.ProtoMinor = "HTTP/1.1", 1, 1
	resp.Close = !keep
	if resp.ContentLength < 0 && x.req.ProtoAtLeast(1, 1) {
		resp.TransferEncoding = []string{"chunked"}
	} else {
		resp.TransferEncoding, resp.Trailer = nil, nil
	}
	out, _ := x.h.s.writers.Get().(*bufio.Writer)
	if out == nil {
		out = bufio.NewWriterSize(nil, httpWriteBuffer)
	}
	out.Reset(x.h.c.Conn)
	defer func() {
		out.Reset(nil)
		x.h.s.writers.Put(out)
	}()
	resp.Body = flushingBody{resp.Body, out}
	if err := resp.Write(onlyWriter{out}); err != nil {
		return false, err
	}
	return keep, out.Flush()
}

// flushingBody sends what is buffered before it waits for more.
type flushingBody struct {
	io.ReadCloser
	out *bufio.Writer
}

func (b flushingBody) Read(p []byte) (int, error) {
	if err := b.out.Flush(); err != nil {
		return 0, err
	}
	return b.ReadCloser.Read(p)
}

// onlyWriter hides bufio.Writer's ReadFrom, which reads straight into the buffer
// that flushingBody empties.
type onlyWriter struct{ io.Writer }
