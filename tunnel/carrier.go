package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"culvert/protocol"
	"culvert/tunnel/mux"

	"github.com/gorilla/websocket"
)

// Step is one step on the way to a session.
type Step string

// The steps, in their order. StepDNS is left out for an address, StepProxy without a proxy, StepTLS for ws://. With a proxy
// the first two are about reaching that.
const (
	StepDNS       Step = "dns"
	StepTCP       Step = "tcp"
	StepProxy     Step = "proxy"
	StepTLS       Step = "tls"
	StepUpgrade   Step = "upgrade"
	StepHandshake Step = "handshake"
	StepSession   Step = "session"
)

// BeforeRemote says that the step is taken before the remote is asked for anything: with a proxy, it is about that.
func (s Step) BeforeRemote() bool { return s == StepDNS || s == StepTCP || s == StepProxy }

// Progress reports a step that has ended.
type Progress struct {
	Step   Step
	Took   time.Duration
	Detail string // what was found, for people
	Err    error
}

// Address is a parsed URL of a remote.
type Address struct {
	url *url.URL
}

// ParseAddress reads a remote's URL: ws:// or wss://, or http:// or https:// for the same. Without a scheme it is ws://.
func ParseAddress(text string) (Address, error) {
	if !strings.Contains(text, "://") {
		text = "ws://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return Address{}, fmt.Errorf("%q is not a URL", hideUser(text))
	}
	switch u.Scheme {
	case "http":
		u.Scheme = "ws"
	case "https":
		u.Scheme = "wss"
	case "ws", "wss":
	default:
		return Address{}, fmt.Errorf("%q is not a ws:// or wss:// URL", hideUser(text))
	}
	if u.User != nil {
		return Address{}, errors.New("a remote's URL has no user and no password")
	}
	if u.Hostname() == "" || u.Fragment != "" {
		return Address{}, fmt.Errorf("%q is not a URL of a remote, such as ws://example.org:8080/", hideUser(text))
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return Address{u}, nil
}

// hideUser cuts what may be a user and a password out of a text that should have been a URL.
func hideUser(text string) string {
	at := strings.LastIndexByte(text, '@')
	if at < 0 {
		return text
	}
	scheme, _, ok := strings.Cut(text[:at], "://")
	if ok {
		scheme += "://"
	} else {
		scheme = ""
	}
	return scheme + "…" + text[at:]
}

// Secure says that the remote is reached by TLS.
func (a Address) Secure() bool { return a.url.Scheme == "wss" }

// String returns the URL.
func (a Address) String() string { return a.url.String() }

// Name is what the remote is remembered by: host:port, and the path where it isn't "/". The scheme is no part of it, so
// that a remote keeps its identity when TLS comes before it.
func (a Address) Name() string {
	port := a.url.Port()
	if port == "" {
		port = map[string]string{"ws": "80", "wss": "443"}[a.url.Scheme]
	}
	name := net.JoinHostPort(a.url.Hostname(), port)
	if a.url.Path != "/" {
		name += a.url.EscapedPath()
	}
	return name
}

// connector makes sessions to one remote.
type connector struct {
	address    Address
	client     protocol.ClientConfig
	tls        *tls.Config    // nil for the defaults
	header     http.Header    // sent with the upgrade
	cookies    http.CookieJar // what a load balancer sets brings the next carrier to the same node
	via        *Proxy         // nil for none
	session    mux.Config
	onProgress func(Progress) // may be nil
}

// connection is a session and what its handshake found.
type connection struct {
	session *mux.Session
	state   protocol.State
}

// connect takes all steps: to a new session, or to a new carrier for one that lost its own. Every failure is a
// *ConnectError.
func (c *connector) connect(ctx context.Context, resume *mux.Session) (*connection, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	steps := &stepClock{report: c.onProgress}
	steps.begin(StepTCP)
	ws, err := c.dial(ctx, steps)
	if err != nil {
		return nil, steps.fail(err)
	}

	steps.begin(StepHandshake)
	cfg := c.client
	cfg.ServerName = c.address.url.Hostname()
	if addr, err := netip.ParseAddr(cfg.ServerName); err == nil {
		cfg.ServerAddr = addr.Unmap()
	} else if tcp, ok := ws.NetConn().RemoteAddr().(*net.TCPAddr); ok && c.via == nil { // the proxy's address is no proof
		cfg.ServerAddr = tcp.AddrPort().Addr().Unmap()
	}
	conn, err := protocol.Client(ctx, ws, cfg)
	if err != nil {
		return nil, steps.fail(err)
	}
	state := conn.State()
	steps.end(describe(state))

	steps.begin(StepSession)
	var session *mux.Session
	if resume != nil && resume.Err() == nil {
		session, err = resume.Resume(ctx, conn)
	} else {
		session, err = mux.NewClient(ctx, conn, c.session)
	}
	if err != nil {
		return nil, steps.fail(err)
	}
	steps.end("")
	return &connection{session, state}, nil
}

// describe tells people what a handshake has agreed on.
func describe(state protocol.State) string {
	secrecy := "no forward secrecy"
	if state.ForwardSecrecy {
		secrecy = "forward secrecy"
	}
	return fmt.Sprintf("version %d, %s, %s, key %s", state.Version, state.Suite, secrecy, state.Peer.Key)
}

// dial opens the WebSocket. The steps' clock is told by the goroutine that dials.
func (c *connector) dial(ctx context.Context, steps *stepClock) (*websocket.Conn, error) {
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := c.reach(ctx, steps, network, address)
		if err != nil {
			return nil, steps.keep(err)
		}
		steps.begin(StepUpgrade)
		return conn, nil
	}
	dialTLS := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := c.reach(ctx, steps, network, address)
		if err != nil {
			return nil, steps.keep(err)
		}
		conn, err = c.secure(ctx, steps, conn)
		return conn, steps.keep(err)
	}
	dialer := protocol.NewDialer(dial, dialTLS)
	dialer.Jar = c.cookies
	ws, response, err := dialer.DialContext(ctx, c.address.String(), c.header)
	switch {
	case err == nil:
		steps.end("")
	case steps.kept != nil:
		return nil, steps.kept
	case errors.Is(err, websocket.ErrBadHandshake) && response != nil:
		return nil, &StatusError{response.StatusCode, response.Status}
	}
	return ws, err
}

// reach connects to the remote's address, through the proxy if there is one.
func (c *connector) reach(ctx context.Context, steps *stepClock, network, address string) (net.Conn, error) {
	if c.via == nil {
		return dialTCP(ctx, steps, network, address)
	}
	conn, err := dialTCP(ctx, steps, network, c.via.address)
	if err != nil {
		return nil, err
	}
	steps.begin(StepProxy)
	if err := c.via.connect(ctx, conn, address); err != nil {
		return nil, &ConnectError{StepProxy, err}
	}
	steps.end(address + " through " + c.via.String())
	return conn, nil
}

func dialTCP(ctx context.Context, steps *stepClock, network, address string) (net.Conn, error) {
	steps.begin(StepTCP)
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSStart: func(httptrace.DNSStartInfo) { steps.begin(StepDNS) },
		DNSDone: func(info httptrace.DNSDoneInfo) {
			if info.Err == nil {
				steps.end(fmt.Sprint(len(info.Addrs), " addresses"))
				steps.begin(StepTCP)
			}
		},
	})
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, &ConnectError{steps.step, plainCause(err)}
	}
	steps.end(conn.RemoteAddr().String())
	return conn, nil
}

// secure runs the TLS handshake.
func (c *connector) secure(ctx context.Context, steps *stepClock, conn net.Conn) (net.Conn, error) {
	steps.begin(StepTLS)
	cfg := c.tls.Clone()
	if cfg == nil {
		cfg = &tls.Config{}
	}
	if cfg.ServerName == "" {
		cfg.ServerName = c.address.url.Hostname()
	}
	cfg.NextProtos = []string{"http/1.1"} // a WebSocket upgrade is HTTP/1.1 (RFC 6455, section 4.1)
	secured := tls.Client(conn, cfg)
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, &ConnectError{StepTLS, err}
	}
	state := secured.ConnectionState()
	steps.end(tls.VersionName(state.Version))
	steps.begin(StepUpgrade)
	return secured, nil
}

// stepClock times the steps of one attempt and reports them. One goroutine uses it.
type stepClock struct {
	report func(Progress) // may be nil
	began  time.Time
	step   Step
	kept   error // of a hook of the WebSocket dialer, which may wrap it beyond recognition
}

func (s *stepClock) begin(step Step) { s.step, s.began = step, time.Now() }

func (s *stepClock) end(detail string) {
	if s.report != nil {
		s.report(Progress{Step: s.step, Took: time.Since(s.began), Detail: detail})
	}
}

func (s *stepClock) keep(err error) error {
	s.kept = err
	return err
}

// fail reports the present step as failed and returns err as a *ConnectError.
func (s *stepClock) fail(err error) error {
	var known *ConnectError
	if !errors.As(err, &known) {
		err = &ConnectError{s.step, plainCause(err)}
	}
	if s.report != nil {
		s.report(Progress{Step: s.step, Took: time.Since(s.began), Err: err})
	}
	return err
}
