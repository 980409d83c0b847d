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
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"culvert/internal/netfault"

	"golang.org/x/net/proxy"
)

// Proxy is a proxy on the way to the remote. It prints without its user and password.
type Proxy struct {
	scheme   string // "http" (CONNECT, RFC 9110, section 9.3.6) or "socks5" (RFC 1928)
	address  string // host:port
	user     string // empty for no authentication
	password string
}

// ParseProxy parses the URL of an HTTP or SOCKS5 proxy, with the user and password it requires, if
// any. Errors quote nothing of the text, which may hold a password.
func ParseProxy(text string) (*Proxy, error) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" ||
		u.Fragment != "" {
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
		// RFC 1929 has a byte for the length of each. RFC 7617, section 2, ends the user at the
		// first colon.
		if p.user == "" || len(p.user) > 255 || len(p.password) > 255 ||
			(p.scheme == "http" && strings.Contains(p.user, ":")) {
			return nil, errors.New("the user or the password can't be sent")
		}
	}
	return p, nil
}

// String returns the proxy's URL, without user and password.
func (p *Proxy) String() string { return p.scheme + "://" + p.address }

// GoString keeps the password out of %#v.
func (p *Proxy) GoString() string { return p.String() }

// ProxyError is the error when an HTTP proxy refuses to connect to the remote.
type ProxyError struct{ httpRefusal }

func (e *ProxyError) Error() string { return e.describe("proxy") }

// connect asks the proxy at the other end of conn to connect to target, a host:port that the proxy
// resolves. It closes conn when it fails. ctx must have a deadline.
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

// dialed is a dialer that returns an existing connection. It implements DialContext because package
// proxy otherwise dials on a goroutine that closes the connection when it finds the context done,
// however late, even when the connection is in use by then.
type dialed struct{ net.Conn }

var _ proxy.ContextDialer = dialed{}

func (d dialed) Dial(string, string) (net.Conn, error) { return d.Conn, nil }

func (d dialed) DialContext(context.Context, string, string) (net.Conn, error) {
	return d.Conn, nil
}

func (p *Proxy) connectSOCKS(ctx context.Context, conn net.Conn, target string) error {
	var auth *proxy.Auth
	if p.user != "" {
		auth = &proxy.Auth{User: p.user, Password: p.password}
	}
	dialer, err := proxy.SOCKS5("tcp", p.address, auth, dialed{conn})
	if err != nil {
		return err
	}
	// The connection that this returns only wraps conn.
	_, err = dialer.(proxy.ContextDialer).DialContext(ctx, "tcp", target)
	var op *net.OpError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the proxy closed the connection")
	case isSystemError(err): // such as a reset, which isn't the proxy's word
		return netfault.Cause(err)
	case errors.As(err, &op) && op.Err != nil:
		// The package puts "unknown error" before the meaning of a reply.
		why := strings.TrimPrefix(netfault.Cause(op.Err).Error(), "unknown error ")
		err = errors.New("the proxy says: " + why)
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
	limited := &io.LimitedReader{R: conn, N: maxHeaderBytes}
	r := bufio.NewReader(limited)
	refusal, err := readConnectResponse(r)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil && limited.N == 0:
		return fmt.Errorf("the proxy's answer has more than %d bytes", maxHeaderBytes)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the proxy closed the connection")
	case isSystemError(err):
		return netfault.Cause(err)
	case err != nil:
		return fmt.Errorf("not an HTTP proxy: %w", netfault.Cause(err))
	}
	if refusal != nil { // not a typed nil
		return refusal
	}
	if r.Buffered() > 0 {
		// With TLS and with WebSockets, the client speaks first.
		return errors.New("the proxy sends data of its own")
	}
	if !stop() {
		return context.Cause(ctx)
	}
	return nil
}

// isSystemError reports whether the system has ended a connection, as by a reset.
func isSystemError(err error) bool {
	_, ok := errors.AsType[syscall.Errno](err)
	return ok
}

// readConnectResponse reads the head of the response to a CONNECT, after interim ones. It returns
// nil if the proxy has connected. The fields are of no matter then (RFC 9110, section 9.3.6), not
// even whether they are well-formed, so net/http's parser does not fit.
func readConnectResponse(r *bufio.Reader) (*ProxyError, error) {
	reader := textproto.NewReader(r)
	for {
		line, err := reader.ReadLine()
		if err != nil {
			return nil, err
		}
		version, status, _ := strings.Cut(line, " ")
		digits, _, _ := strings.Cut(strings.TrimSpace(status), " ")
		code, err := strconv.Atoi(digits)
		if _, _, ok := http.ParseHTTPVersion(version); !ok || err != nil || code < 100 {
			return nil, fmt.Errorf("malformed response %.*q", maxQuoted, line)
		}
		if code/100 > 2 {
			header, err := reader.ReadMIMEHeader()
			if err != nil {
				return nil, err
			}
			return &ProxyError{httpRefusal{
				Code: code, Status: strings.TrimSpace(status), Location: header.Get("Location"),
				RetryAfter: retryAfter(header.Get("Retry-After"), time.Now()),
			}}, nil
		}
		for line != "" {
			if line, err = reader.ReadLine(); err != nil {
				return nil, err
			}
		}
		if code/100 == 2 {
			return nil, nil
		}
	}
}
