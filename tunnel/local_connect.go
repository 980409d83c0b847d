package tunnel

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"culvert/certs"
	"culvert/internal/netfault"
	"culvert/protocol"
	"culvert/tunnel/mux"

	"github.com/rs/zerolog"
)

// localConnector makes sessions to one remote.
type localConnector struct {
	place      int // of the remote, in order of preference
	address    Address
	client     protocol.ClientConfig
	next       func() (*certs.Certificate, error) // as LocalConfig has it
	tls        *tls.Config                        // nil for the defaults
	header     http.Header                        // sent with the upgrade
	unnamed    bool                               // sessions have no sessionHeader
	via        *Proxy                             // nil for none
	timeout    time.Duration
	session    mux.Config
	congestion *carrierCongestion
	onProgress func(Progress) // may be nil
	observer   Observer       // nil for none
	log        zerolog.Logger

	family      Family
	dialAddress protocol.DialFunc // an IP address and port; a net.Dialer's except in tests
	lookup      lookupFunc        // the system's except in tests

	dials   atomic.Uint32  // turns of the families: see takeTurn
	reached atomic.Bool    // there was a session
	hedging sync.WaitGroup // connections of attempts, also those that came too late
}

// localConnection is a session and the result of its handshake.
type localConnection struct {
	connector *localConnector // of its remote
	session   *mux.Session
	route     *localRoute
	state     protocol.State
	carrier   mux.Carrier
	path      localPath     // of the carrier
	took      time.Duration // by the handshake
	skew      time.Duration // the server's clock is ahead by at least that; 0 if it is not known

	since        time.Time // of the carrier
	sessionSince time.Time
}

// localRoute is what leads the carriers of a session to one node of several. It belongs to the
// session, and to the one that replaces it where the node turns out not to know it.
type localRoute struct {
	cookies *localCookies
	name    string // the value of sessionHeader, "" for none
}

func (c *localConnector) newRoute() *localRoute {
	route := &localRoute{cookies: newLocalCookies()}
	if !c.unnamed {
		route.name = newRouteName()
	}
	return route
}

// upgradeHeader returns the header of the upgrade to a carrier.
func (c *localConnector) upgradeHeader(route *localRoute) http.Header {
	if route.name == "" {
		return c.header
	}
	header := c.header.Clone()
	if header == nil {
		header = http.Header{}
	}
	header.Set(sessionHeader, route.name)
	return header
}

// connect takes all steps to a new session or, when last is not nil and its session lives, to a new
// carrier for that session. One budget of time is for all of them. Every failure is a
// *ConnectError.
func (c *localConnector) connect(
	ctx context.Context, last *localConnection, progress *attemptProgress,
) (*localConnection, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, &TimeoutError{c.timeout})
	defer cancel()
	made, err := c.connectWithin(ctx, last, progress)
	if failed, ok := errors.AsType[*ConnectError](err); ok {
		failed.Remote = c.address
	}
	c.observe(made, err)
	return made, err
}

// observe reports how an attempt ended, if it got as far as to be admitted or not.
func (c *localConnector) observe(made *localConnection, err error) {
	if c.observer == nil || errors.Is(err, errAbandoned) || errors.Is(err, context.Canceled) {
		return
	}
	h := Handshake{Result: handshakeResult(err)}
	if err == nil {
		h.Version, h.Suite, h.Took = made.state.Version, made.state.Suite, made.took
		c.observer.Handshake(h)
		return
	}
	if failed, ok := errors.AsType[*ConnectError](err); ok {
		h.Took = failed.handshake
		if failed.Step != StepHandshake && failed.Step != StepSession {
			status, ok := errors.AsType[*StatusError](err)
			if !ok || status.Code != http.StatusServiceUnavailable {
				return
			}
			h.Result, h.Took = HandshakeBusy, 0
		}
	}
	c.observer.Handshake(h)
}

// connectWithin is connect without its budget of time.
func (c *localConnector) connectWithin(
	ctx context.Context, last *localConnection, progress *attemptProgress,
) (*localConnection, error) {
	delay := hedgeDelay
	var resume *mux.Session
	var route *localRoute
	if last != nil {
		if last.session.Err() == nil {
			resume, route = last.session, last.route
		}
		if rtt := last.session.Stats().SmoothedRTT; rtt > 0 {
			delay = min(max(hedgeTimes*rtt, hedgeMin), hedgeDelay)
		}
	}
	if route == nil {
		route = c.newRoute()
	}
	outcome := c.race(ctx, route, progress, delay)
	steps := outcome.steps
	if outcome.err != nil {
		return nil, steps.fail(ctx, outcome.err)
	}
	conn := outcome.conn
	made := &localConnection{
		connector: c, route: route,
		state: conn.State(), carrier: conn, path: outcome.path, took: outcome.took,
	}
	if steps.skew != nil {
		made.skew = *steps.skew
	}
	var err error
	steps.begin(StepSession)
	resumes := resume != nil && resume.Err() == nil
	if resumes {
		made.session, err = c.resume(ctx, conn, resume, outcome.took)
	} else {
		made.session, err = c.begin(ctx, conn, outcome.took)
	}
	if err != nil {
		return nil, steps.fail(ctx, err)
	}
	outcome.cookies.accept(resumes && made.session != resume)
	steps.end("")
	c.reached.Store(true)
	made.since = time.Now()
	made.sessionSince = made.since
	return made, nil
}

// runHedge takes the steps to a connection whose handshake is done.
func (c *localConnector) runHedge(
	ctx context.Context, route *localRoute, steps *stepClock,
) hedge {
	cookies := route.cookies.attempt()
	ws, err := c.dial(ctx, steps, c.upgradeHeader(route), cookies)
	if err != nil {
		return hedge{err: err}
	}
	path := pathOf(ws.NetConn())
	steps.begin(StepHandshake)
	cfg := c.client
	cfg.ServerName = c.address.url.Hostname()
	if addr, err := netip.ParseAddr(cfg.ServerName); err == nil {
		cfg.ServerAddr = addr.Unmap()
	} else if c.via == nil { // with a proxy, its address would prove nothing
		cfg.ServerAddr = path.remote.Addr()
	}
	if c.next != nil && cfg.Cert != nil {
		cert, err := c.next()
		if err != nil {
			c.log.Warn().Err(err).Msg("our certificate can't be read again: the last one is presented")
		}
		cfg.Cert = cmp.Or(cert, cfg.Cert)
	}
	conn, err := protocol.Client(ctx, ws, cfg)
	if err != nil {
		return hedge{err: err}
	}
	took := time.Since(steps.began)
	steps.end(describe(conn.State()))
	return hedge{conn: conn, path: path, cookies: cookies, took: took}
}

// begin starts a session, after a handshake that took a time.
func (c *localConnector) begin(
	ctx context.Context, conn *protocol.Conn, took time.Duration,
) (*mux.Session, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, max(helloTimeout, helloTimes*took),
		mux.ErrNotCulvert)
	defer cancel()
	return mux.NewClient(ctx, conn, c.session)
}

// resume gives a session another carrier, after a handshake that took a time. It does not wait long
// if the path has just died: the next attempt may be on another.
func (c *localConnector) resume(
	ctx context.Context, conn *protocol.Conn, session *mux.Session, took time.Duration,
) (*mux.Session, error) {
	most := max(resumeTimeout, helloTimes*took)
	ctx, cancel := context.WithTimeoutCause(ctx, most, &TimeoutError{most})
	defer cancel()
	return session.Resume(ctx, conn)
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

// reach connects to the address of the remote, through the proxy if there is one.
func (c *localConnector) reach(
	ctx context.Context, steps *stepClock, network, address string,
) (net.Conn, error) {
	if c.via == nil {
		return c.dialTCP(ctx, steps, network, address)
	}
	conn, err := c.dialTCP(ctx, steps, network, c.via.address)
	if err != nil {
		return nil, err
	}
	steps.begin(StepProxy)
	if err := c.via.connect(ctx, conn, address); err != nil {
		return nil, &ConnectError{Step: StepProxy, Err: err}
	}
	steps.end(address + " through " + c.via.String())
	return conn, nil
}

// takeTurn reports whether the next connection is tried over IPv4 first. The families take turns.
func (c *localConnector) takeTurn() (ipv4 bool) { return c.dials.Add(1)%2 == 0 }

// repeatTurn makes the next connection be tried over the family that the last one was.
func (c *localConnector) repeatTurn() { c.dials.Add(^uint32(0)) }

// beginTurns makes the next connection be tried over IPv4 first, or over IPv6.
func (c *localConnector) beginTurns(ipv4 bool) {
	if ipv4 {
		c.dials.Store(1)
	} else {
		c.dials.Store(0)
	}
}

// dialTCP connects to the first of a host's addresses that answers.
func (c *localConnector) dialTCP(
	ctx context.Context, steps *stepClock, network, address string,
) (net.Conn, error) {
	if host, _, err := net.SplitHostPort(address); err == nil && net.ParseIP(host) == nil {
		steps.begin(StepDNS)
	} else {
		steps.begin(StepTCP)
	}
	dialer := &addressDialer{
		lookup: c.lookup,
		dial:   c.dialAddress,
		family: c.family,
		// A family may connect but lose larger packets, or lead somewhere else.
		preferIPv4: c.takeTurn(),
		found: func(addresses int) {
			detail := "1 address"
			if addresses != 1 {
				detail = fmt.Sprint(addresses, " addresses")
			}
			steps.end(detail)
			steps.begin(StepTCP)
		},
	}
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, &ConnectError{Step: steps.step, Err: netfault.Cause(err)}
	}
	detail := conn.RemoteAddr().String()
	if inForce := c.congestion.apply(conn); inForce != "" {
		detail += ", " + inForce
	}
	steps.end(detail)
	return conn, nil
}

// secureTLS runs the TLS handshake.
func (c *localConnector) secureTLS(
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
		return nil, &ConnectError{Step: StepTLS, Err: err}
	}
	state := secured.ConnectionState()
	steps.end(tls.VersionName(state.Version))
	steps.begin(StepUpgrade)
	return secured, nil
}
