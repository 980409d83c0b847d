package socks

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

// answerFailure ends an exchange that has brought no response.
func (x *exchange) answerFailure(ctx context.Context, err error) (net.Conn, bool, error) {
	x.begin()
	h := x.h
	x.up.mu.Lock()
	gone, bodyErr := x.up.gone, x.up.bodyErr
	x.up.mu.Unlock()
	failed, isDial := errors.AsType[*dialError](err)
	switch {
	case gone != nil:
		x.end()
		return nil, false, gone
	case errors.Is(err, errDraining), ctx.Err() != nil:
		x.end()
		return nil, false, errDraining
	case bodyErr != nil:
		return x.answer(ctx, http.StatusBadRequest, "the request's body is malformed or cut short",
			bodyErr)
	case !isDial && h.s.cfg.Unreached(err):
		failed, isDial = h.s.newDialError(err), true
	}
	if isDial {
		return x.answer(ctx, dialStatus(failed.reply), h.address+": "+failed.reply.String(), failed)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return x.answer(ctx, http.StatusGatewayTimeout, h.address+": "+errTooLate.Error(), err)
	}
	return x.answer(ctx, http.StatusBadGateway, h.address+": "+errNoResponse.Error(), err)
}

// answer answers in place of the target.
func (x *exchange) answer(
	ctx context.Context, status int, text string, why error,
) (net.Conn, bool, error) {
	keep := x.up.isComplete() && !x.req.close && !x.h.s.stopping(ctx)
	err := x.h.write(x.req, status, text, keep, why)
	x.end()
	return nil, keep && err == nil, err
}

// refuse answers a request that is not forwarded. What it returns is for handle to return.
func (h *httpConn) refuse(
	req *request, status int, text string, why error,
) (net.Conn, bool, error) {
	keep := req.body.done() && !req.close && req.method != http.MethodConnect
	err := h.write(req, status, text, keep, why)
	newUpload(h.c, req).finish(!keep)
	return nil, keep && err == nil, err
}

// refuseDial is refuse for a target that is not reached.
func (h *httpConn) refuseDial(req *request, failed *dialError) (net.Conn, bool, error) {
	return h.refuse(req, dialStatus(failed.reply), h.address+": "+failed.reply.String(), failed)
}

// write writes a response of this proxy's own, with a text for the client and a reason for the
// log.
func (h *httpConn) write(req *request, status int, text string, keep bool, why error) error {
	h.s.cfg.Log.Debug().Err(why).Stringer("client", h.c.RemoteAddr()).Str("target", h.address).
		Int("status", status).Msg("socks: request not forwarded")
	h.c.SetWriteDeadline(time.Now().Add(h.s.cfg.NegotiationTimeout))
	defer h.c.SetWriteDeadline(time.Time{})
	phrase := http.StatusText(status)
	if failed, ok := errors.AsType[*dialError](why); ok {
		// Many clients of CONNECT show their users this and no more.
		phrase = failed.reply.String()
	}
	_, err := h.c.Write(httpAnswer(req.method, status, phrase, text, keep))
	return err
}

// dialStatus translates a failed dial into a status of RFC 9110 section 15.
func dialStatus(r Reply) int {
	switch r {
	case ReplyNotAllowed:
		return http.StatusForbidden
	case ReplyTTLExpired:
		return http.StatusGatewayTimeout
	case ReplyUnavailable, ReplyBusy:
		return http.StatusServiceUnavailable
	}
	return http.StatusBadGateway
}

// httpAnswer encodes a response of this proxy's own, with a reason phrase and a line of text. The
// method is that of the request, or empty when there was none that could be read.
func httpAnswer(method string, status int, phrase, text string, keep bool) []byte {
	text += "\n"
	b := fmt.Appendf(nil, "HTTP/1.1 %d %s\r\n", status, phrase)
	b = append(b, "Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n"...)
	if status == http.StatusProxyAuthRequired {
		b = append(b, "Proxy-Authenticate: Basic realm=\"proxy\", charset=\"UTF-8\"\r\n"...)
	}
	if !keep {
		b = append(b, "Connection: close\r\n"...)
	}
	b = fmt.Appendf(b, "Content-Length: %d\r\n\r\n", len(text))
	if method == http.MethodHead {
		return b
	}
	return append(b, text...)
}
