package tunnel

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/proxy"
)

// Proxy is a proxy on the way to the remote. What it prints as has no user and no password.
type Proxy struct {
	scheme   string // "http" (CONNECT, RFC 9110, section 9.3.6) or "socks5" (RFC 1928)
	address  string // host:port
	user     string // empty for no authentication
	password string
}

// ParseProxy reads the URL of an HTTP or a SOCKS5 proxy, with a user and a password if it asks for them. Errors quote
// nothing of the text, which may hold a password.
func ParseProxy(text string) (*Proxy, error) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("not a proxy's URL")
	}
	p := &Proxy{scheme: u.Scheme}
	port := u.Port()
	switch u.Scheme {
	case "http":
		if port == "" {
			port = "80"
		}
	case "socks5", "socks5h": // names are always resolved by the proxy
		p.scheme = "socks5"
		if port == "" {
			port = "1080"
		}
	default:
		return nil, errors.New("neither http:// nor socks5://")
	}
	p.address = net.JoinHostPort(u.Hostname(), port)
	if u.User != nil {
		p.user = u.User.Username()
		p.password, _ = u.User.Password()
		// RFC 1929 counts both in a byte. RFC 7617, section 2, ends the user at the first colon.
		if p.user == "" || len(p.user) > 255 || len(p.password) > 255 || (p.scheme == "http" && strings.Contains(p.user, ":")) {
			return nil, errors.New("the user or the password can't be sent")
		}
	}
	return p, nil
}

// String returns the proxy's URL, without user and password.
func (p *Proxy) String() string { return p.scheme + "://" + p.address }

// GoString keeps the password out of %#v.
func (p *Proxy) GoString() string { return p.String() }

// ProxyError says that an HTTP proxy refuses to connect to the remote.
type ProxyError struct {
	Code   int
	Status string // as http.Response.Status
}

func (e *ProxyError) Error() string { return fmt.Sprintf("the proxy answered %q", e.Status) }

// connect has the proxy at the other end of conn connect to target, a host:port that the proxy resolves. It closes conn
// when it fails. ctx must have a deadline.
func (p *Proxy) connect(ctx context.Context, conn net.Conn, target string) error {
	var err error
	if p.scheme == "socks5" {
		err = p.connectSOCKS(ctx, conn, target)
	} else {
		err = p.connectHTTP(ctx, conn, target)
	}
	if err != nil {
		conn.Close()
	}
	return err
}

// dialed gives out a connection that exists already. It has DialContext too: without it, package proxy dials on a goroutine
// that closes the connection when it finds the context done, however late, and so also one that is in use by then.
type dialed struct{ net.Conn }

var _ proxy.ContextDialer = dialed{}

func (d dialed) Dial(string, string) (net.Conn, error) { return d.Conn, nil }

func (d dialed) DialContext(context.Context, string, string) (net.Conn, error) { return d.Conn, nil }

func (p *Proxy) connectSOCKS(ctx context.Context, conn net.Conn, target string) error {
	var auth *proxy.Auth
	if p.user != "" {
		auth = &proxy.Auth{User: p.user, Password: p.password}
	}
	dialer, err := proxy.SOCKS5("tcp", p.address, auth, dialed{conn})
	if err != nil {
		return err
	}
	// The connection that this returns is a wrapper of conn, which does no more.
	_, err = dialer.(proxy.ContextDialer).DialContext(ctx, "tcp", target)
	var op *net.OpError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the proxy closed the connection")
	case errors.As(err, &op) && op.Err != nil:
		// The package has "unknown error" before what a reply means.
		err = errors.New("the proxy says: " + strings.TrimPrefix(plainCause(op.Err).Error(), "unknown error "))
	}
	return err
}

func (p *Proxy) connectHTTP(ctx context.Context, conn net.Conn, target string) error {
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Now()) })
	defer stop()
	request := &http.Request{
		Method: http.MethodConnect,
		URL:    &url.URL{Opaque: target},
		Host:   target,
		Header: http.Header{"User-Agent": {""}}, // none
	}
	if p.user != "" {
		credentials := base64.StdEncoding.EncodeToString([]byte(p.user + ":" + p.password))
		request.Header.Set("Proxy-Authorization", "Basic "+credentials)
	}
	if err := request.Write(conn); err != nil {
		return err
	}
	r := bufio.NewReader(io.LimitReader(conn, maxHeaderBytes))
	response, err := http.ReadResponse(r, request)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the proxy closed the connection")
	case err != nil:
		return fmt.Errorf("not an HTTP proxy: %w", plainCause(err))
	}
	response.Body.Close()
	if response.StatusCode/100 != 2 {
		return &ProxyError{response.StatusCode, response.Status}
	}
	if r.Buffered() > 0 {
		// Both TLS and a WebSocket wait for the client first.
		return errors.New("the proxy sends data of its own")
	}
	if !stop() {
		return context.Cause(ctx)
	}
	return nil
}
