package tunnel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"culvert/certs"
	"culvert/internal/bounds"
	"culvert/internal/testnet"

	"github.com/gorilla/websocket"
)

// publicListener is a listener on loopback whose peers appear to have public addresses: 127.0.x.y
// is 198.51.x.y.
type publicListener struct{ net.Listener }

func (l publicListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return publicConn{conn.(*net.TCPConn)}, nil
}

type publicConn struct{ *net.TCPConn }

func (c publicConn) NetConn() net.Conn { return c.TCPConn }

func (c publicConn) RemoteAddr() net.Addr {
	at := c.TCPConn.RemoteAddr().(*net.TCPAddr).AddrPort()
	from := at.Addr().Unmap().As4()
	from[0], from[1] = 198, 51
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom4(from), at.Port()))
}

// servedRemote is a remote that serves a listener of its own, through [Remote.Serve].
type servedRemote struct {
	*Remote
	key     *certs.KeyPair
	address string
}

// serveRemote serves a remote until the test ends. Its clients have public addresses if public is
// true; otherwise they are on this machine.
func serveRemote(
	t *testing.T, trust RemoteTrust, public bool, change func(*RemoteConfig),
) servedRemote {
	t.Helper()
	key := newKey(t)
	cfg := RemoteConfig{Identity: RemoteIdentity{Key: key}, Trust: trust}
	if change != nil {
		change(&cfg)
	}
	remote, err := NewRemote(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := servedRemote{remote, key, ln.Addr().String()}
	if public {
		ln = publicListener{ln}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() { remote.Serve(ctx, ln) })
	t.Cleanup(func() {
		cancel()
		serving.Wait()
	})
	return r
}

// connect admits a client and ends its session, or returns why it is not admitted.
func (r servedRemote) connect(t *testing.T, key *certs.KeyPair) error {
	t.Helper()
	conn, err := r.session(t, key)
	if err == nil {
		conn.session.Close()
	}
	return err
}

// session admits a client.
func (r servedRemote) session(t *testing.T, key *certs.KeyPair) (*localConnection, error) {
	t.Helper()
	address, err := ParseAddress("ws://" + r.address + "/")
	if err != nil {
		t.Fatal(err)
	}
	cfg := LocalConfig{Address: address, Key: key, VerifyRemote: (&testRemote{key: r.key}).pin}
	return cfg.connector().connect(testnet.Within(t, handshakeWait), nil, newAttemptProgress(nil))
}

// upgradeFrom upgrades a connection from an address of loopback, on which nothing is sent then.
func (r servedRemote) upgradeFrom(
	t *testing.T, from string, header http.Header,
) (*websocket.Conn, error) {
	ws, response, err := r.tryUpgrade(t, from, header)
	if err != nil && response != nil && response.StatusCode == http.StatusTooManyRequests {
		return nil, errPenalty
	}
	return ws, err
}

// tryUpgrade is upgradeFrom, with the response also of a refusal.
func (r servedRemote) tryUpgrade(
	t *testing.T, from string, header http.Header,
) (*websocket.Conn, *http.Response, error) {
	dialer := websocket.Dialer{NetDialContext: (&net.Dialer{
		LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)},
	}).DialContext}
	ws, response, err := dialer.DialContext(testnet.Within(t, patience), "ws://"+r.address+"/", header)
	if err == nil {
		t.Cleanup(func() { ws.Close() })
	}
	return ws, response, err
}

// TestHandshakePlaces: silent handshakes of one address, or of many, don't keep a client out, and
// come back each time they had to make way. What one address holds is bounded, and it is refused
// before that; many addresses hold all places.
func TestHandshakePlaces(t *testing.T) {
	for name, test := range map[string]struct {
		public  bool
		sources int
		most    int // handshakes
	}{
		"one address":     {true, 1, sourceHandshakes},
		"many addresses":  {true, 300, maxHandshakes - reservedHandshakes},
		"on this machine": {false, 1, maxHandshakes - reservedHandshakes},
	} {
		t.Run(name, func(t *testing.T) {
			key := newKey(t)
			remote := serveRemote(t, trustKeys(t, key), test.public, nil)
			ctx, cancel := context.WithCancel(t.Context())
			var flood sync.WaitGroup
			defer flood.Wait()
			defer cancel()
			var opened sync.WaitGroup
			for i := range 300 {
				from := fmt.Sprintf("127.0.%d.%d", 1+i%test.sources/100, 1+i%test.sources%100)
				opened.Add(1)
				flood.Go(func() {
					first := sync.OnceFunc(opened.Done)
					defer first()
					for ctx.Err() == nil {
						ws, err := remote.upgradeFrom(t, from, nil)
						first()
						if err != nil {
							continue
						}
						stop := context.AfterFunc(ctx, func() { ws.Close() })
						ws.ReadMessage() // returns when it has to make way
						stop()
						ws.Close()
					}
				})
			}
			opened.Wait()
			one := sourceOf(netip.MustParseAddr("198.51.1.1"))
			for range 3 {
				until(t, "the places are taken, or the only address is refused", func() bool {
					return remote.gate.handshakes.taken() >= test.most ||
						test.public && test.sources == 1 && remote.gate.penalized(one) > 0
				})
				until(t, "a client is admitted", func() bool { return remote.connect(t, key) == nil })
				if n := remote.gate.handshakes.taken(); n > test.most+1 {
					t.Errorf("%d handshakes", n)
				}
			}
		})
	}
}

// TestKnownSource: an address counts as known as long as it has a session.
func TestKnownSource(t *testing.T) {
	key := newKey(t)
	remote := serveRemote(t, trustKeys(t, key), true, nil)
	from := sourceOf(netip.MustParseAddr("198.51.0.1"))
	if remote.gate.knows(from) {
		t.Error("before there is a session")
	}
	conn, err := remote.session(t, key)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the session counts, and its connection is no stranger's", func() bool {
		return remote.gate.knows(from) && remote.gate.conns.taken() == 0
	})
	conn.session.Close()
	until(t, "the session is forgotten", func() bool { return !remote.gate.knows(from) })
}

// TestPenalty: strangers who fail again and again are slowed, and then refused with the time to
// wait. Other addresses are not, and neither are those with a session or those on this machine.
func TestPenalty(t *testing.T) {
	for name, test := range map[string]struct {
		public, session bool
		refused         bool
	}{
		"an address":                {true, false, true},
		"an address with a session": {true, true, false},
		"this machine":              {false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key, stranger := newKey(t), newKey(t)
			remote := serveRemote(t, trustKeys(t, key), test.public, nil)
			if test.session {
				conn, err := remote.session(t, key)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.session.Close()
			}
			const failures = int(penaltyLimit / penaltyFailed)
			begin := time.Now()
			var status *StatusError
			for range failures + 1 { // the first one finds no penalty yet
				if err := remote.connect(t, stranger); err == nil {
					t.Fatal("a stranger is admitted")
				}
			}
			until(t, "the stranger is refused", func() bool { // what is added must outrun the clock
				return !test.refused || errors.As(remote.connect(t, stranger), &status)
			})
			if took := time.Since(begin); test.refused &&
				took < time.Duration(failures-1)*penaltyDelay {
				t.Errorf("took only %v", took)
			}
			err := remote.connect(t, key)
			refused := errors.As(err, &status) && status.Code == http.StatusTooManyRequests
			if refused != test.refused || !refused && err != nil {
				t.Errorf("an admitted key of the same address: %v", err)
			}
			// An attempt may begin before the penalty for the one before it is there.
			if refused && (status.RetryAfter < time.Second ||
				status.RetryAfter > penaltyLimit+2*penaltyFailed) {
				t.Errorf("is told to wait %v", status.RetryAfter)
			}
			if _, err := remote.upgradeFrom(t, "127.0.1.1", nil); err != nil {
				t.Errorf("another address: %v", err)
			}
		})
	}
}

var errPenalty = errors.New("refused for a while")

// TestPenaltyFallback: with a fallback site, an address that is refused sees only that.
func TestPenaltyFallback(t *testing.T) {
	target, err := ParseFallback(site(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	remote := serveRemote(t, trustKeys(t, newKey(t)), true, func(cfg *RemoteConfig) {
		cfg.Fallback = target
	})
	remote.gate.penalties.add(sourceOf(netip.MustParseAddr("198.51.0.1")), penaltyLimit)
	header := http.Header{
		"Connection":            {"Upgrade"},
		"Upgrade":               {"websocket"},
		"Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key":     {"dGhlIHNhbXBsZSBub25jZQ=="},
	}
	got := visit(t, "http://"+remote.address+"/", "GET", header, "")
	if want := "418 ordinary GET / 198.51.0.1 "; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestStopWhileWaiting: a remote that stops doesn't wait for clients that wait for their turn.
func TestStopWhileWaiting(t *testing.T) {
	remote := startRemote(t, trustKeys(t, newKey(t)), nil)
	remote.gate.handshakes = newFairPlaces(1, 1, 0) // before there is any request
	held := remote.gate.handshakes.take(source{}, false, func() {})
	held.progress.Store(int64(time.Since(fairEpoch) + time.Hour)) // nobody's turn comes
	served := servedRemote{remote.Remote, remote.key, remote.server.Listener.Addr().String()}
	ended := make(chan error, 1)
	go func() {
		_, err := served.upgradeFrom(t, "127.0.0.1", nil)
		ended <- err
	}()
	until(t, "the client waits", func() bool { return remote.gate.turn.taken() == 1 })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	begin := time.Now()
	remote.Shutdown(ctx)
	if took := time.Since(begin); took > handshakeWait/2 {
		t.Errorf("took %v", took)
	}
	if err := receive(t, ended); err == nil {
		t.Error("the client is served")
	}
}

// TestCrowdedSource: clients that come at once from one address don't end each other's handshakes.
// Those beyond its share are asked to come later, which adds no penalty and costs no other address
// anything. A handshake that has had its time makes way.
func TestCrowdedSource(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, remote *Remote, ln *pipeListener) {
		const crowded = "192.0.2.1"
		upgrade := func(from string) (net.Conn, *http.Response) {
			conn := ln.dial(from)
			t.Cleanup(func() { conn.Close() })
			io.WriteString(conn, getUpgrade)
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			return conn, response
		}
		expect := func(from string, want int) net.Conn {
			t.Helper()
			conn, response := upgrade(from)
			if response.StatusCode != want {
				t.Errorf("%s: status %d, want %d", from, response.StatusCode, want)
			}
			return conn
		}
		var held readers
		for range sourceHandshakes {
			held.watch(expect(crowded, http.StatusSwitchingProtocols))
		}
		time.Sleep(handshakeHold / 2) // synctest
		_, refused := upgrade(crowded)
		if after := refused.Header.Get("Retry-After"); after != "1" ||
			refused.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("one too many: status %d, to come after %q s", refused.StatusCode, after)
		}
		if n := held.count(); n != sourceHandshakes {
			t.Errorf("%d handshakes go on", n)
		}
		expect("192.0.2.2", http.StatusSwitchingProtocols)
		from := sourceOf(netip.MustParseAddr(crowded))
		if left, _ := remote.gate.penalties.of(from); left != 0 {
			t.Errorf("a penalty of %v", left)
		}
		time.Sleep(handshakeHold / 2) // synctest
		expect(crowded, http.StatusSwitchingProtocols)
		if n := held.count(); n != sourceHandshakes-1 {
			t.Errorf("%d of the first handshakes go on", n)
		}
	})
}

// TestFullIsRemembered: a full remote doesn't look at all sessions for each stranger, and has room
// as soon as a session ends.
func TestFullIsRemembered(t *testing.T) {
	key := newKey(t)
	remote := serveRemote(t, trustKeys(t, key), true,
		func(cfg *RemoteConfig) { cfg.MaxSessions = 1 })
	conn, err := remote.session(t, key)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.session.Close()
	until := func(full bool) {
		t.Helper()
		testnet.Poll(t, patience, fmt.Sprint("full: ", full), func() bool {
			remote.mu.Lock()
			defer remote.mu.Unlock()
			return remote.isFull() == full
		})
	}
	until(true)
	remote.mu.Lock()
	remote.fullUntil = time.Now().Add(time.Hour)
	for _, a := range remote.sessions {
		a.client.sessions += 2 // so that a look finds one that makes room
		if !remote.isFull() {
			t.Error("it has looked")
		}
		a.client.sessions -= 2
	}
	remote.mu.Unlock()
	conn.session.Close()
	until(false)
}

// TestFullIsAskedLast: a full remote looks for a session that makes room only for a client that may
// begin a handshake: not for a visitor, nor for an address with a penalty, nor beyond the rate.
func TestFullIsAskedLast(t *testing.T) {
	key := newKey(t)
	counts := new(bounds.Counts)
	remote := serveRemote(t, trustKeys(t, key), true, func(cfg *RemoteConfig) {
		cfg.MaxSessions, cfg.Bounds = 1, counts
	})
	conn, err := remote.session(t, key)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.session.Close()
	remote.gate.penalties.add(sourceOf(netip.MustParseAddr("198.51.0.2")), penaltyLimit)
	upgrade := func(from string) (status int, after string) {
		t.Helper()
		_, response, err := remote.tryUpgrade(t, from, nil)
		if response == nil {
			t.Fatal(err)
		}
		return response.StatusCode, response.Header.Get("Retry-After")
	}
	expect := func(what string, status, want int, full uint64) {
		t.Helper()
		if n := counts.Of(bounds.Sessions); status != want || n != full {
			t.Errorf("%s: status %d, want %d; %d found the remote full, want %d", what, status, want,
				n, full)
		}
	}
	visitor := testnet.Dial(t, remote.address, patience)
	defer visitor.Close()
	expect("a visitor", statusOf(t, visitor, getPage), http.StatusUpgradeRequired, 0)
	status, _ := upgrade("127.0.0.2")
	expect("an address with a penalty", status, http.StatusTooManyRequests, 0)
	status, _ = upgrade("127.0.0.3")
	expect("a client", status, http.StatusServiceUnavailable, 1)
	remote.mu.Lock()
	remote.countRoute("", 1) // as a session does whose client names none
	remote.mu.Unlock()
	status, _ = upgrade("127.0.0.3")
	expect("a client without a name", status, http.StatusServiceUnavailable, 2)
	remote.gate.rate.mu.Lock()
	remote.gate.rate.limiter.SetBurst(0)
	remote.gate.rate.mu.Unlock()
	status, after := upgrade("127.0.0.3")
	expect("a client beyond the rate", status, http.StatusServiceUnavailable, 2)
	if after == "" {
		t.Error("it isn't told when to come")
	}
}
