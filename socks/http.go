package socks

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"culvert/internal/bounds"
)

// httpConn is a connection whose client speaks HTTP/1 to its proxy (RFC 9110 and 9112). It
// serves one request after the other; its methods are for the connection's goroutine.
//
// It parses what it has to judge, and copies the rest: see docs/http-proxy.md.
type httpConn struct {
	s *Server
	c *clientConn

	// address is the target of the last request, for the log.
	address string

	// idle are connections to targets that wait for another request.
	idle []*targetConn
}

func newHTTPConn(s *Server, c *clientConn) *httpConn { return &httpConn{s: s, c: c} }

// beginsHTTP reports whether an HTTP request can begin with this byte: a method is any token, and
// line ends may precede it (RFC 9112 section 2.2).
func beginsHTTP(first byte) bool {
	return isTokenByte(first) || first == '\r' || first == '\n'
}

// serve answers requests until one asks for a tunnel, whose target it returns, or the connection
// is over. The client's first request may still take what is left of the negotiation's deadline.
func (h *httpConn) serve(ctx context.Context) (address string, target net.Conn, err error) {
	for {
		req, err := h.readRequest()
		if err != nil {
			return h.address, nil, err
		}
		h.c.SetDeadline(time.Time{})
		target, keep, err := h.handle(ctx, req)
		if target != nil || err != nil {
			return h.address, target, err
		}
		h.c.answered.Store(true)
		if !h.s.endRelay(h.c) || !keep {
			h.c.hangUp(nil)
			return h.address, nil, nil
		}
		h.c.SetDeadline(time.Now().Add(keepAliveTimeout))
		if _, err := h.c.in.Peek(1); err != nil {
			return h.address, nil, nil // the usual end of a connection
		}
		h.c.answered.Store(false)
		h.c.SetDeadline(time.Now().Add(h.s.cfg.NegotiationTimeout))
	}
}

// readRequest reads a request up to its body. When there is something wrong with it, the client
// is told so.
func (h *httpConn) readRequest() (*request, error) {
	n, err := peekHead(&h.c.in, h.c, maxHead)
	if errors.Is(err, errHeadTooLarge) {
		h.s.cfg.Bounds.Refused(bounds.HTTPHead)
		return nil, h.refuseHead(http.StatusRequestHeaderFieldsTooLarge, err)
	}
	if err != nil {
		return nil, err
	}
	head, _ := h.c.in.Peek(n)
	req, err := parseRequest(head)
	switch {
	case errors.Is(err, errVersion):
		return nil, h.refuseHead(http.StatusHTTPVersionNotSupported, err)
	case errors.Is(err, errFields):
		h.s.cfg.Bounds.Refused(bounds.HTTPFields)
		return nil, h.refuseHead(http.StatusRequestHeaderFieldsTooLarge, err)
	case err != nil:
		return nil, h.refuseHead(http.StatusBadRequest, err)
	}
	h.c.in.Discard(n)
	if h.c.in.Buffered() == 0 && h.c.in.Size() > readBufferSize { // grown for this head
		h.c.in = readers.Get().(*bufio.Reader)
		h.c.in.Reset(h.c)
	}
	return req, nil
}

// refuseHead answers a request whose end can't be found, and returns why.
func (h *httpConn) refuseHead(status int, why error) error {
	answer := httpAnswer("", status, http.StatusText(status), why.Error(), false)
	h.c.linger(answer, lingerIdle, lingerTotal, maxDiscarded)
	return why
}

// handle answers one request. The target is not nil when the client was told that it is joined
// to it; otherwise keep reports whether another request may follow. An error ends the connection.
func (h *httpConn) handle(
	ctx context.Context, req *request,
) (target net.Conn, keep bool, err error) {
	if !h.authorized(req) {
		const text = "this proxy asks for a user name and a password"
		return h.refuse(req, http.StatusProxyAuthRequired, text, errors.New(text))
	}
	h.address = req.address
	if req.refused != nil {
		h.s.cfg.Bounds.Note(req.refused)
		return h.refuse(req, http.StatusBadRequest, req.refused.Error(), req.refused)
	}
	if req.method == http.MethodConnect {
		return h.connect(ctx, req)
	}
	return h.forward(ctx, req)
}

// authorized checks the credentials of the Basic scheme (RFC 7617).
func (h *httpConn) authorized(req *request) bool {
	if h.s.asked == nil {
		return true
	}
	scheme, token, _ := strings.Cut(req.login, " ")
	pair, err := base64.StdEncoding.DecodeString(strings.TrimLeft(token, " "))
	if err != nil || !strings.EqualFold(scheme, "Basic") {
		return false
	}
	username, password, _ := strings.Cut(string(pair), ":")
	return h.s.asked.Valid(username, password)
}

// connect serves a CONNECT request. When that fails the connection is over, since the client may
// already have sent what was for the target.
func (h *httpConn) connect(ctx context.Context, req *request) (net.Conn, bool, error) {
	if req.body.kind != noBody {
		const text = "CONNECT has a body"
		return h.refuse(req, http.StatusBadRequest, text, errors.New(text))
	}
	target, err := h.s.dialWatched(ctx, h.c, h.address)
	if failed, ok := errors.AsType[*dialError](err); ok {
		return h.refuseDial(req, failed)
	}
	if err != nil {
		return nil, false, err
	}
	established := []byte("HTTP/1.1 200 Connection established\r\n\r\n")
	if err := h.s.promise(h.c, target, established); err != nil {
		return nil, false, err
	}
	return target, false, nil
}
