package socks

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// httpConn is a connection whose client speaks HTTP/1 to its proxy (RFC 9110 and
// 9112). It serves one request after the other; its methods are for the
// connection's goroutine, unless they say otherwise.
type httpConn struct {
	s *Server
	c *clientConn

	// address is the target of the last request, for the log.
	address string

	// transport carries the forwarded requests. It belongs to this connection
	// alone, since some servers tie an authentication (NTLM) to theirs. It is nil
	// until the first such request.
	transport *http.Transport

	mu      sync.Mutex     // guards closed, and adding to targets
	closed  bool           // nothing more is dialed
	targets sync.WaitGroup // the transport's dials and connections
}

func newHTTPConn(s *Server, c *clientConn) *httpConn { return &httpConn{s: s, c: c} }

// beginsHTTP reports whether an HTTP request can begin with this byte. All
// methods that are registered, and known, are upper case letters.
func beginsHTTP(first byte) bool { return 'A' <= first && first <= 'Z' }

// close ends the connections to targets, except one that serve has returned.
func (h *httpConn) close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	if h.transport != nil {
		h.transport.CloseIdleConnections()
	}
	h.targets.Wait()
}

// serve answers requests until one asks for a tunnel, whose target it returns, or
// the connection is over. The client's first request may still take what is left
// of the negotiation's deadline.
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
		if !h.s.endRelay(h.c) || !keep {
			h.c.hangUp(nil)
			return h.address, nil, nil
		}
		h.c.SetDeadline(time.Now().Add(keepAliveTimeout))
		if _, err := h.c.in.Peek(1); err != nil {
			return h.address, nil, nil // the usual end of a connection
		}
		h.c.SetDeadline(time.Now().Add(h.s.cfg.NegotiationTimeout))
	}
}

// readRequest reads a request up to its body. A *refusal error has the client
// told what is wrong with it.
func (h *httpConn) readRequest() (*http.Request, error) {
	refuse := func(status int, err error) (*http.Request, error) {
		text := err.Error()
		if errors.Is(err, errMalformed) {
			text = errMalformed.Error() // what follows may hold anything, of any length
		}
		return nil, &refusal{httpAnswer(nil, status, text, false), err}
	}
	head, err := h.c.peekHead()
	if errors.Is(err, errHeadTooLarge) {
		return refuse(http.StatusRequestHeaderFieldsTooLarge, err)
	}
	if err != nil {
		return nil, err
	}
	if err := checkHead(head); err != nil {
		return refuse(http.StatusBadRequest, err)
	}
	req, err := http.ReadRequest(h.c.in)
	if err != nil {
		return refuse(http.StatusBadRequest, fmt.Errorf("%w: %w", errMalformed, err))
	}
	if req.ProtoMajor != 1 {
		return refuse(http.StatusHTTPVersionNotSupported, errors.New("only HTTP/1 is spoken here"))
	}
	return req, nil
}

// handle answers one request. The target is not nil when the client was told that
// it is joined to it; otherwise keep says whether another request may follow. An
// error ends the connection.
func (h *httpConn) handle(ctx context.Context, req *http.Request) (target net.Conn, keep bool, err error) {
	if !h.authorized(req) {
		return h.answer(req, http.StatusProxyAuthRequired, errors.New("this proxy asks for a user name and a password"))
	}
	if h.address, err = requestTarget(req); err != nil {
		return h.answer(req, http.StatusBadRequest, err)
	}
	if req.Method == http.MethodConnect {
		return h.connect(ctx, req)
	}
	return h.forward(ctx, req)
}

// authorized checks the credentials of the Basic scheme (RFC 7617).
func (h *httpConn) authorized(req *http.Request) bool {
	if h.s.asked == nil {
		return true
	}
	scheme, token, _ := strings.Cut(req.Header.Get("Proxy-Authorization"), " ")
	pair, err := base64.StdEncoding.DecodeString(strings.TrimLeft(token, " "))
	if err != nil || !strings.EqualFold(scheme, "Basic") {
		return false
	}
	username, password, _ := strings.Cut(string(pair), ":")
	return h.s.asked.Valid(username, password)
}

var (
	errMalformed = errors.New("malformed request")
	errAuthority = errors.New("the target is no host and port")
	errUserinfo  = errors.New("the URL holds a user name")
	errNotProxy  = errors.New("this is a proxy: it takes CONNECT, and requests for http:// URLs")
)

// notInHost picks the characters that package net/url lets a host have and that a
// URL's host can't (RFC 3986 section 3.2.2): net/http would silently leave the Host
// field empty for some, and send another form of the rest.
func notInHost(r rune) bool { return r >= 0x7f || strings.ContainsRune("<>\"#/?\\^`{|}", r) }

// requestTarget returns what a request has to be sent to, as "host:port".
func requestTarget(req *http.Request) (string, error) {
	u := req.URL
	port := u.Port()
	switch {
	case u.User != nil:
		return "", errUserinfo
	case req.Method == http.MethodConnect:
		if *u != (url.URL{Host: u.Host}) || port == "" {
			return "", errAuthority
		}
	case u.Scheme != "http" || u.Host == "":
		return "", errNotProxy
	case port == "":
		port = "80"
	}
	if strings.ContainsFunc(u.Hostname(), notInHost) {
		return "", errName
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return "", errAuthority
	}
	if err := checkTarget(u.Hostname(), int(n)); err != nil {
		return "", err
	}
	return net.JoinHostPort(u.Hostname(), port), nil
}

// connect serves a CONNECT request. When that fails the connection is over, since
// the client may already have sent what was for the target.
func (h *httpConn) connect(ctx context.Context, req *http.Request) (net.Conn, bool, error) {
	if req.Body != http.NoBody {
		return h.answer(req, http.StatusBadRequest, errors.New("CONNECT has a body"))
	}
	target, err := h.s.dialWatched(ctx, h.c, h.address)
	if failed, ok := errors.AsType[*dialError](err); ok {
		return h.answerDialError(req, failed)
	}
	if err != nil {
		return nil, false, err
	}
	if err := h.s.promise(h.c, target, []byte("HTTP/1.1 200 Connection established\r\n\r\n")); err != nil {
		return nil, false, err
	}
	return target, false, nil
}

// keepsAlive reports whether the client wants to send another request.
func keepsAlive(req *http.Request) bool { return req.ProtoAtLeast(1, 1) && !req.Close }

// answer answers a request that is not forwarded. What it returns is for handle
// to return.
func (h *httpConn) answer(req *http.Request, status int, why error) (net.Conn, bool, error) {
	return h.answerText(req, status, why.Error(), why)
}

func (h *httpConn) answerDialError(req *http.Request, failed *dialError) (net.Conn, bool, error) {
	return h.answerText(req, dialStatus(failed.reply), h.address+": "+failed.reply.String(), failed)
}

// answerText is answer with a text for the client and a reason for the log.
func (h *httpConn) answerText(req *http.Request, status int, text string, why error) (net.Conn, bool, error) {
	h.s.cfg.Log.Debug().Err(why).Stringer("client", h.c.RemoteAddr()).Str("target", h.address).
		Int("status", status).Msg("socks: request not forwarded")
	keep := keepsAlive(req) && req.Body == http.NoBody && req.Method != http.MethodConnect
	h.c.SetWriteDeadline(time.Now().Add(h.s.cfg.NegotiationTimeout))
	if _, err := h.c.Write(httpAnswer(req, status, text, keep)); err != nil {
		return nil, false, err
	}
	return nil, keep, nil
}

// dialStatus translates a failed dial into a status of RFC 9110 section 15.
func dialStatus(r Reply) int {
	switch r {
	case ReplyNotAllowed:
		return http.StatusForbidden
	case ReplyTTLExpired:
		return http.StatusGatewayTimeout
	case ReplyUnavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusBadGateway
}

// httpAnswer encodes a response of this proxy's own, with a line of text. The
// request is nil when there was none that could be read.
func httpAnswer(req *http.Request, status int, text string, keep bool) []byte {
	text += "\n"
	resp := &http.Response{
		StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Request: req, Close: !keep,
		Header:        http.Header{"Content-Type": {"text/plain; charset=utf-8"}, "X-Content-Type-Options": {"nosniff"}},
		ContentLength: int64(len(text)),
		Body:          io.NopCloser(strings.NewReader(text)),
	}
	if status == http.StatusProxyAuthRequired {
		resp.Header.Set("Proxy-Authenticate", `Basic realm="proxy", charset="UTF-8"`)
	}
	var message bytes.Buffer
	resp.Write(&message) // neither the buffer nor the text fails
	return message.Bytes()
}
