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
	"time"

	"culvert/internal/netfault"
	"culvert/protocol"
	"culvert/tunnel/mux"

	"github.com/gorilla/websocket"
)

// localConnector makes sessions to one remote.
type localConnector struct {
	address    Address
	client     protocol.ClientConfig
	tls        *tls.Config // nil for the defaults
	header     http.Header // sent with the upgrade
	cookies    *localCookies
	via        *Proxy // nil for none
	session    mux.Config
	onProgress func(Progress) // may be nil
}

// localConnection is a session and the result of its handshake.
type localConnection struct {
	session *mux.Session
	state   protocol.State
}

// connect takes all steps to a new session or, when resume is not nil, to a new carrier for that
// session. Every failure is a *ConnectError.
func (c *localConnector) connect(
	ctx context.Context, resume *mux.Session,
) (*localConnection, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	steps := &stepClock{report: c.onProgress}
	steps.begin(StepTCP)
	cookies := c.cookies.attempt()
	ws, err := c.dial(ctx, steps, cookies)
	if err != nil {
		return nil, steps.fail(err)
	}

	steps.begin(StepHandshake)
	cfg := c.client
	cfg.ServerName = c.address.url.Hostname()
	if addr, err := netip.ParseAddr(cfg.ServerName); err == nil {
		cfg.ServerAddr = addr.Unmap()
	} else if tcp, ok := ws.NetConn().RemoteAddr().(*net.TCPAddr); ok && c.via == nil {
		// With a proxy, this would be the proxy's address, which proves nothing.
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
	resumes := resume != nil && resume.Err() == nil
	if resumes {
		session, err = resume.Resume(ctx, conn)
	} else {
		session, err = mux.NewClient(ctx, conn, c.session)
	}
	if err != nil {
		return nil, steps.fail(err)
	}
	cookies.accept(resumes && session != resume)
	steps.end("")
	return &localConnection{session, state}, nil
}

// describe describes the result of a handshake to people.
func describe(state protocol.State) string {
	secrecy := "no forward secrecy"
	if state.ForwardSecrecy {
		secrecy = "forward secrecy"
	}
	return fmt.Sprintf("version %d, %s, %s, key %s",
		state.Version, state.Suite, secrecy, state.Peer.Key)
}

// dial opens the WebSocket. The goroutine that dials uses the steps.
func (c *localConnector) dial(
	ctx context.Context, steps *stepClock, cookies http.CookieJar,
) (*websocket.Conn, error) {
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
	dialer.Jar = cookies
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

// reach connects to the address of the remote, through the proxy if there is one.
func (c *localConnector) reach(
	ctx context.Context, steps *stepClock, network, address string,
) (net.Conn, error) {
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
		return nil, &ConnectError{steps.step, netfault.Cause(err)}
	}
	steps.end(conn.RemoteAddr().String())
	return conn, nil
}

// secure runs the TLS handshake.
func (c *localConnector) secure(
	ctx context.Context, steps *stepClock, conn net.Conn,
) (net.Conn, error) {
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

// Connect makes one session, to find out whether that is possible, and closes it. The round trip is
// 0 when it could not be measured.
func Connect(
	ctx context.Context, cfg LocalConfig,
) (state protocol.State, roundTrip time.Duration, err error) {
	conn, err := cfg.connector().connect(ctx, nil)
	if err != nil {
		return protocol.State{}, 0, err
	}
	roundTrip, err = conn.session.Ping(ctx)
	return conn.state, roundTrip, errors.Join(err, conn.session.Close())
}
