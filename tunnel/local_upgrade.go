package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"culvert/protocol"

	"github.com/gorilla/websocket"
)

// dial opens the WebSocket. The goroutine that dials uses the steps.
func (c *localConnector) dial(
	ctx context.Context, steps *stepClock, header http.Header, cookies http.CookieJar,
) (*websocket.Conn, error) {
	release := func() bool { return true }
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := c.reach(ctx, steps, network, address)
		if err == nil && c.address.Secure() {
			conn, err = c.secureTLS(ctx, steps, conn)
		}
		if err != nil {
			return nil, steps.keep(err)
		}
		steps.begin(StepUpgrade)
		// The WebSocket dialer takes the deadline from ctx, but does not notice its end.
		release = context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
		return conn, nil
	}
	dialer := protocol.NewDialer(dial, dial)
	dialer.Jar = cookies
	ws, response, err := dialer.DialContext(ctx, c.address.String(), header)
	if response != nil {
		steps.noteClock(response.Header)
	}
	switch {
	case !release() && err == nil:
		ws.Close()
		return nil, context.Cause(ctx)
	case err == nil:
		steps.end("")
		return ws, nil
	case steps.kept != nil:
		return nil, steps.kept
	case ctx.Err() != nil:
		return nil, err
	}
	var refused *StatusError
	if errors.Is(err, websocket.ErrBadHandshake) && response != nil {
		refused = newStatusError(response, time.Now())
		err = refused
	}
	if (refused == nil || refused.Code == http.StatusBadRequest && !refused.NoUpgrade) &&
		c.needsTLS(ctx) {
		return nil, ErrNeedsTLS
	}
	if response == nil && !isConnectionError(err) && !errors.Is(err, protocol.ErrResponseHead) {
		return nil, ErrNotHTTP
	}
	return nil, err
}

// isConnectionError reports whether an error is about the connection, rather than about what came
// over it.
func isConnectionError(err error) bool {
	_, isNet := errors.AsType[net.Error](err)
	_, isErrno := errors.AsType[syscall.Errno](err)
	return isNet || isErrno || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// needsTLS reports whether a server that did not understand a plain HTTP request speaks TLS. It
// asks only until there was a session, when a wrong URL is still possible.
func (c *localConnector) needsTLS(ctx context.Context) bool {
	if c.address.Secure() || c.reached.Load() {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, tlsProbeTimeout)
	defer cancel()
	address := c.address.url.Host
	if c.address.url.Port() == "" {
		address = net.JoinHostPort(c.address.url.Hostname(), "80")
	}
	c.repeatTurn()
	conn, err := c.reach(ctx, &stepClock{}, "tcp", address)
	if err != nil {
		return false
	}
	defer conn.Close()
	// Nothing is sent on this connection, so it does not matter whose it is.
	err = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx)
	op, ok := errors.AsType[*net.OpError](err)
	return err == nil || ok && op.Op == "remote error" // an alert, as package tls has it
}

// newStatusError describes a response other than the upgrade.
func newStatusError(response *http.Response, now time.Time) *StatusError {
	e := &StatusError{httpRefusal{
		Code:       response.StatusCode,
		Status:     response.Status,
		Location:   response.Header.Get("Location"),
		RetryAfter: retryAfter(response.Header.Get("Retry-After"), now),
	}, false, isPage(response.Header)}
	switch response.StatusCode {
	case http.StatusSwitchingProtocols, http.StatusUpgradeRequired:
		e.NoUpgrade = true
	case http.StatusBadRequest: // from remotes of earlier versions
		e.NoUpgrade = response.Header.Get("Sec-WebSocket-Version") != ""
	}
	return e
}

// retryAfter returns how long a server asks to wait (RFC 9110, section 10.2.3), 0 if it doesn't.
func retryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(0, date.Sub(now))
	}
	return 0
}
