package socks

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
)

// wantedUpgrade returns the protocol, WebSocket say, that a client asks its target
// to switch to (RFC 9110 section 7.8), or "". A proxy may leave such a wish out: it
// does with one for HTTP/2, which would need fields that go no further than here,
// and with those of requests that have a body.
func wantedUpgrade(req *http.Request) string {
	upgrade := req.Header.Get("Upgrade")
	if !hasToken(req.Header["Connection"], "Upgrade") || strings.HasPrefix(strings.ToLower(upgrade), "h2c") ||
		!req.ProtoAtLeast(1, 1) || req.Body != http.NoBody {
		return ""
	}
	return upgrade
}

// askForUpgrade sends a request on a connection of its own, since what follows the
// response may be another protocol. If so, the target is returned; its first bytes
// are the response's body. Otherwise closing the response's body closes it.
func (h *httpConn) askForUpgrade(ctx context.Context, x *exchange, req *http.Request) (*http.Response, net.Conn, error) {
	target, err := h.s.dial(ctx, h.address)
	if err != nil {
		return nil, nil, err
	}
	x.reached()
	stop := context.AfterFunc(ctx, func() { target.Close() })
	limit := &io.LimitedReader{R: target, N: maxTargetHead}
	in := bufio.NewReader(limit)
	resp, err := x.roundTrip(target, in, req)
	if err != nil {
		stop()
		target.Close()
		return nil, nil, err
	}
	limit.N = math.MaxInt64
	if resp.StatusCode != http.StatusSwitchingProtocols {
		resp.Body = ownedBody{resp.Body, target}
		return resp, nil, nil
	}
	if !stop() {
		return nil, nil, context.Cause(ctx) // and the target is closed
	}
	early, _ := in.Peek(in.Buffered())
	resp.Body = io.NopCloser(bytes.NewReader(early))
	return resp, target, nil
}

// roundTrip sends req to target and reads the response.
func (x *exchange) roundTrip(target io.Writer, in *bufio.Reader, req *http.Request) (*http.Response, error) {
	if err := req.Write(target); err != nil {
		return nil, err
	}
	for {
		resp, err := http.ReadResponse(in, req)
		if err != nil || resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, err
		}
		if err := x.inform(resp.StatusCode, resp.Header); err != nil {
			return nil, err
		}
	}
}

// ownedBody is a response's body whose connection is closed with it.
type ownedBody struct {
	io.ReadCloser
	target net.Conn
}

// Close closes the connection without reading the rest of the body.
func (b ownedBody) Close() error { return b.target.Close() }

// switchProtocols tells the client that target has switched, for the relay to
// begin.
func (h *httpConn) switchProtocols(x *exchange, target net.Conn, resp *http.Response) (net.Conn, bool, error) {
	if gone := x.end(); gone != nil {
		target.Close()
		return nil, false, gone
	}
	upgrade := resp.Header["Upgrade"]
	removeHopByHop(resp.Header)
	resp.Header["Upgrade"], resp.Header["Connection"] = upgrade, []string{"Upgrade"}
	var message bytes.Buffer
	message.WriteString("HTTP/1.1 101 " + http.StatusText(http.StatusSwitchingProtocols) + "\r\n")
	resp.Header.Write(&message)
	message.WriteString("\r\n")
	message.ReadFrom(resp.Body)
	if err := h.s.promise(h.c, target, message.Bytes()); err != nil {
		return nil, false, err
	}
	return target, false, nil
}
