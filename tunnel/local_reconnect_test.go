package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"culvert/internal/testnet"
	"culvert/protocol"
	"culvert/tunnel/policy"

	"github.com/gorilla/websocket"
)

// front is what stands where a local expects its remote. It hands each connection to the present
// handler.
type front struct {
	address  string
	accepted atomic.Int64
	handler  atomic.Pointer[func(*net.TCPConn)]

	mu   sync.Mutex
	open map[net.Conn]bool
}

func startFront(t testing.TB, handler func(*net.TCPConn)) *front {
	f := &front{open: map[net.Conn]bool{}}
	f.handler.Store(&handler)
	f.address = testnet.ServeTCP(t, func(conn *net.TCPConn) {
		f.mu.Lock()
		f.accepted.Add(1)
		f.open[conn] = true
		f.mu.Unlock()
		(*f.handler.Load())(conn)
		f.mu.Lock()
		delete(f.open, conn)
		f.mu.Unlock()
	})
	t.Cleanup(f.cut) // before ServeTCP's
	return f
}

// become gives the front another handler and cuts the connections that the one before has. It
// returns how many connections there were.
func (f *front) become(handler func(*net.TCPConn)) (accepted int64) {
	f.handler.Store(&handler)
	f.cut()
	return f.accepted.Load()
}

func (f *front) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for conn := range f.open {
		conn.Close()
	}
}

// awaitMore waits until the front has accepted more than n connections.
func (f *front) awaitMore(t testing.TB, n int64) {
	t.Helper()
	until(t, "another connection was made", func() bool { return f.accepted.Load() > n })
}

// passTo is a handler that relays to an address.
func passTo(address string) func(*net.TCPConn) {
	return func(near *net.TCPConn) { testnet.Pass(near, address, nil) }
}

// hold is a handler that never answers.
func hold(conn *net.TCPConn) { io.Copy(io.Discard, conn) }

// serveHTTP is a handler that serves HTTP.
func serveHTTP(handle http.HandlerFunc) func(*net.TCPConn) {
	return func(conn *net.TCPConn) {
		done := make(chan struct{})
		end := sync.OnceFunc(func() { close(done) })
		var hijacked atomic.Bool
		server := &http.Server{
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Connection", "close")
				handle(w, r)
				if hijacked.Load() {
					end()
				}
			}),
			ConnState: func(_ net.Conn, state http.ConnState) {
				hijacked.Store(state == http.StateHijacked)
				if state == http.StateClosed {
					end()
				}
			},
		}
		server.Serve(&oneListener{conns: []net.Conn{conn}})
		<-done
	}
}

// oneListener has the connections that it is given.
type oneListener struct{ conns []net.Conn }

func (l *oneListener) Accept() (net.Conn, error) {
	if len(l.conns) == 0 {
		return nil, net.ErrClosed
	}
	conn := l.conns[0]
	l.conns = l.conns[1:]
	return conn, nil
}
func (l *oneListener) Close() error   { return nil }
func (l *oneListener) Addr() net.Addr { return &net.TCPAddr{} }

// startThroughFront starts a tunnel whose WebSockets go through a front, and a stream in it.
func startThroughFront(
	t *testing.T, configure ...func(*LocalConfig),
) (*Local, *testRemote, *front, net.Conn) {
	t.Helper()
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), nil)
	f := startFront(t, passTo(remote.server.Listener.Addr().String()))
	cfg := remote.localConfig(t, key)
	cfg.Address.url = &url.URL{Scheme: "ws", Host: f.address, Path: "/"}
	for _, change := range configure {
		change(&cfg)
	}
	local, _ := startLocal(t, cfg)
	if _, err := local.WaitSession(testnet.Within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	conn := dial(t, local, testnet.EchoServer(t))
	echoes(t, conn)
	return local, remote, f, conn
}

// TestElsewhereAfterSession leads a local that had a session to somebody else, as another network
// may: it accepts nobody, goes on trying, and resumes its session when the remote is back.
func TestElsewhereAfterSession(t *testing.T) {
	local, remote, f, conn := startThroughFront(t)
	genuine := passTo(remote.server.Listener.Addr().String())
	other := startRemote(t, RemoteTrust{Anyone: true}, nil)
	answer := func(code int, header, value string) func(*net.TCPConn) {
		return serveHTTP(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set(header, value)
			w.WriteHeader(code)
			io.WriteString(w, "<html>log in to use this network</html>")
		})
	}
	refuse := func(code protocol.CloseCode, reason string, after int) func(*net.TCPConn) {
		return serveHTTP(func(w http.ResponseWriter, r *http.Request) {
			ws, err := protocol.Upgrade(w, r)
			if err != nil {
				return
			}
			defer ws.Close()
			for range after {
				ws.ReadMessage()
			}
			message := websocket.FormatCloseMessage(int(code), reason)
			ws.WriteControl(websocket.CloseMessage, message, time.Now().Add(time.Second))
			ws.ReadMessage()
		})
	}
	for _, elsewhere := range []struct {
		name    string
		handler func(*net.TCPConn)
	}{
		{"another remote", passTo(other.server.Listener.Addr().String())},
		{"a page", answer(http.StatusOK, "Content-Type", "text/html")},
		{"a redirect", answer(http.StatusFound, "Location", "http://portal.example/")},
		{"a login", answer(http.StatusNetworkAuthenticationRequired, "Content-Type", "text/html")},
		{"a refusal", refuse(protocol.CloseNotAdmitted, "not admitted", 0)},
		{"a late refusal", refuse(protocol.CloseNotAdmitted, "not admitted", 1)},
		{"another version", refuse(protocol.CloseVersion, "version not supported", 1)},
		{"a certificate refused", refuse(protocol.CloseCertificate, "", 1)},
		{"nobody", func(conn *net.TCPConn) {}},
	} {
		n := f.become(elsewhere.handler)
		f.awaitMore(t, n+1) // it was tried to the end
		if other.count() != 0 {
			t.Errorf("%s: accepted", elsewhere.name)
		}
		f.become(genuine)
		local.Retry()
		echoes(t, conn)
		if t.Failed() {
			t.Fatalf("%s: the local has ended, or the session has", elsewhere.name)
		}
	}
}

// TestForgedRefusalOfSession has somebody in between close a session's WebSocket with a refusal,
// both one with the remote's code and one of the reference's: the session goes on.
func TestForgedRefusalOfSession(t *testing.T) {
	_, remote, f, conn := startThroughFront(t)
	address := remote.server.Listener.Addr().String()
	for range 3 {
		injected := make(chan struct{})
		f.become(func(near *net.TCPConn) {
			far, err := net.Dial("tcp", address)
			if err != nil {
				return
			}
			defer far.Close()
			go io.Copy(far, near)
			buf := make([]byte, 64<<10)
			for range 5 { // the upgrade, the handshake, the hello and some more
				far.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
				n, err := far.Read(buf)
				near.Write(buf[:n])
				if err != nil {
					break
				}
			}
			message := websocket.FormatCloseMessage(int(protocol.CloseNotAdmitted), "not admitted")
			near.Write(append([]byte{0x88, byte(len(message))}, message...))
			near.CloseWrite()
			close(injected)
		})
		receive(t, injected)
		f.become(passTo(address))
		echoes(t, conn)
	}
}

// TestRemotesOwnRefusal: a client that is listed no more, and is refused by the remote itself, has
// nothing to try again for.
func TestRemotesOwnRefusal(t *testing.T) {
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), nil)
	local, ended := startLocal(t, remote.localConfig(t, key))
	if _, err := local.WaitSession(testnet.Within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	until(t, "the remote knows of the session", func() bool { return remote.count() == 1 })
	access := remote.currentAccess()
	if err := remote.Reload(access.identity, trustKeys(t, newKey(t)), policy.Rights{}); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, ended); !IsAdmissionError(err) || !isRemotesWord(err) {
		t.Errorf("got %v", err)
	}
}

// TestTLSChangesAfterSession leads a local that had a session over TLS to a server with another
// certificate, which it never accepts, and back.
func TestTLSChangesAfterSession(t *testing.T) {
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), nil)
	right, wrong := httptest.NewTLSServer(remote), httptest.NewUnstartedServer(remote)
	defer right.Close()
	wrong.TLS = &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}}
	wrong.StartTLS()
	defer wrong.Close()
	f := startFront(t, passTo(right.Listener.Addr().String()))
	cfg := remote.localConfig(t, key)
	cfg.Address.url = &url.URL{Scheme: "wss", Host: f.address, Path: "/"}
	cfg.TLS = right.Client().Transport.(*http.Transport).TLSClientConfig
	local, _ := startLocal(t, cfg)
	if _, err := local.WaitSession(testnet.Within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	conn := dial(t, local, testnet.EchoServer(t))
	echoes(t, conn)
	n := f.become(passTo(wrong.Listener.Addr().String()))
	f.awaitMore(t, n+1)
	f.become(passTo(right.Listener.Addr().String()))
	local.Retry()
	echoes(t, conn)
}

// selfSigned returns a certificate that nobody vouches for.
func selfSigned(t testing.TB) tls.Certificate {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS()
	defer server.Close()
	cert := server.TLS.Certificates[0]
	cert.Certificate = [][]byte{append([]byte(nil), cert.Certificate[0]...)}
	last := len(cert.Certificate[0]) - 1
	cert.Certificate[0][last] ^= 1 // of the signature
	return cert
}

// TestHangingAttempt makes an attempt to reconnect hang, and then the way to the remote work once
// that attempt was abandoned: a call of Retry does that, and so does a change of the network.
func TestHangingAttempt(t *testing.T) {
	for name, act := range map[string]func(*Local){
		"retry":   (*Local).Retry,
		"network": (*Local).networkChanged,
	} {
		t.Run(name, func(t *testing.T) {
			local, remote, f, conn := startThroughFront(t, func(cfg *LocalConfig) {
				cfg.ConnectTimeout = 10 * patience // doesn't end the attempt
			})
			gone := make(chan struct{})
			end := sync.OnceFunc(func() { close(gone) })
			n := f.become(func(conn *net.TCPConn) { hold(conn); end() })
			f.awaitMore(t, n)
			pass := passTo(remote.server.Listener.Addr().String())
			handler := func(conn *net.TCPConn) { // a connection of the same attempt waits
				<-gone
				pass(conn)
			}
			f.handler.Store(&handler)
			act(local)
			echoes(t, conn)
		})
	}
}

// A proxy on this machine, or whatever else leads to the remote from here, stalls when the network
// has changed: the carrier is replaced, although its own path is there.
func TestNetworkChangesBehindProxy(t *testing.T) {
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), nil)
	proxy := httpProxy(t, func(_ *http.Request, conn *net.TCPConn) {
		io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		join(conn, remote.server.Listener.Addr().String())
	})
	relay := testnet.RelayTo(t, proxy.address, testnet.RelayConfig{})
	cfg := remote.localConfig(t, key)
	proxy.address = relay.Address()
	cfg.Via = proxy
	local, _ := startLocal(t, cfg)
	conn := dial(t, local, testnet.EchoServer(t))
	echoes(t, conn)
	first := local.connection()
	until(t, "nothing is on the way", func() bool { // the lack of an ack would tell
		stats := first.session.Stats()
		return stats.Acknowledged == stats.Sent
	})
	relay.Silence()
	local.networkChanged()
	testnet.Poll(t, 3*time.Second, "another carrier", func() bool {
		return local.connection() != first
	})
	echoes(t, conn)
}

// TestNoticesWithoutEnd: where the network changes all the time, attempts that hang end in time,
// and those that only take long come to their end.
func TestNoticesWithoutEnd(t *testing.T) {
	errSlow := errors.New("slow")
	for name, test := range map[string]struct {
		takes time.Duration // each dial; 0 for all time
		most  time.Duration
		want  error
	}{
		"hangs": {0, 2 * DefaultConnectTimeout, os.ErrDeadlineExceeded},
		"slow":  {5 * time.Second, 10 * time.Second, errSlow},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				address, err := ParseAddress("ws://192.0.2.1/")
				if err != nil {
					t.Fatal(err)
				}
				l := NewLocal(LocalConfig{Address: address, Key: newKey(t)})
				l.remotes[0].dialAddress = func(ctx context.Context, _, _ string) (net.Conn, error) {
					slow := make(<-chan time.Time)
					if test.takes > 0 {
						slow = time.After(test.takes)
					}
					select {
					case <-ctx.Done():
						return nil, context.Cause(ctx)
					case <-slow:
						return nil, errSlow
					}
				}
				a := l.attempts(l.remotes[0])
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go func() {
					for sleep(ctx, time.Second) {
						notify(a.moved)
					}
				}()
				began := time.Now()
				_, err = a.connect(ctx, nil)
				if took := time.Since(began); !errors.Is(err, test.want) || took > test.most {
					t.Errorf("%v after %v", err, took)
				}
			})
		})
	}
}

// TestRetryRenewsCarrier: asked to reconnect while the connection works, a local makes another
// before it gives up the first; when it can't, it keeps what it has.
func TestRetryRenewsCarrier(t *testing.T) {
	local, remote, f, conn := startThroughFront(t)
	current := func() *localConnection {
		local.mu.Lock()
		defer local.mu.Unlock()
		return local.current
	}
	first, n := current(), f.accepted.Load()
	local.Retry()
	f.awaitMore(t, n)
	until(t, "there is another connection", func() bool { return current() != first })
	echoes(t, conn)

	refuse := func(*net.TCPConn) {}
	f.handler.Store(&refuse)
	n = f.accepted.Load()
	local.Retry()
	f.awaitMore(t, n)
	echoes(t, conn)
	if remote.count() != 1 {
		t.Errorf("%d sessions", remote.count())
	}
}

// An attempt to renew a carrier that fails says nothing about the one that there is: when that is
// lost after a long time, the next attempt still starts at once.
func TestFailedRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startMoveWorld(t, 0, func(*RemoteConfig) {})
		defer w.stop()
		address, err := ParseAddress("ws://" + simRemoteAddress + "/")
		if err != nil {
			t.Fatal(err)
		}
		local := NewLocal(LocalConfig{
			Address: address, Key: w.key, VerifyRemote: func(protocol.Peer) error { return nil },
		})
		local.noticeNetwork = func(ctx context.Context, _ chan<- struct{}) { <-ctx.Done() }
		var down atomic.Bool
		var refused atomic.Int64
		local.remotes[0].dialAddress = func(
			ctx context.Context, network, address string,
		) (net.Conn, error) {
			if down.Load() {
				refused.Add(1)
				return nil, syscall.ECONNREFUSED
			}
			return w.dialRemote(ctx, network, address)
		}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { local.Run(ctx) })
		defer running.Wait()
		defer stop()
		if _, err := local.WaitSession(testnet.Within(t, patience)); err != nil {
			t.Fatal(err)
		}

		down.Store(true)
		w.carriers.cut(0, 1)
		time.Sleep(10 * backoffMax) // synctest
		if n := refused.Load(); n == 0 || n > 30 {
			t.Fatalf("%d attempts, whose pauses are to grow", n)
		}
		down.Store(false)
		time.Sleep(time.Hour) // synctest
		down.Store(true)
		n := refused.Load()
		local.Retry()
		synctest.Wait()
		if refused.Load() == n {
			t.Fatal("the carrier is not renewed")
		}
		down.Store(false)
		lost := local.connection()
		w.carriers.cut(0, 1)
		began := time.Now()
		until(t, "there is another carrier", func() bool { return local.connection() != lost })
		if took := time.Since(began); took > time.Second {
			t.Errorf("after %v", took)
		}
	})
}

// TestConnectTimeout has each step hang: the attempt ends when its time is over, whatever the step,
// and tells which it was.
func TestConnectTimeout(t *testing.T) {
	const timeout = 300 * time.Millisecond
	upgraded := serveHTTP(func(w http.ResponseWriter, r *http.Request) {
		ws, err := protocol.Upgrade(w, r)
		if err != nil {
			return
		}
		defer ws.Close()
		for err == nil {
			_, _, err = ws.ReadMessage()
		}
	})
	for _, test := range []struct {
		scheme  string
		via     string
		handler func(*net.TCPConn)
		step    Step
	}{
		{"ws", "", hold, StepUpgrade},
		{"wss", "", hold, StepTLS},
		{"ws", "http", hold, StepProxy},
		{"ws", "socks5", hold, StepProxy},
		{"ws", "", upgraded, StepHandshake},
	} {
		f := startFront(t, test.handler)
		cfg := LocalConfig{
			Address: Address{url: &url.URL{Scheme: test.scheme, Host: f.address, Path: "/"}},
			Key:     newKey(t), VerifyRemote: func(protocol.Peer) error { return nil },
			ConnectTimeout: timeout,
		}
		if test.via != "" {
			cfg.Via = &Proxy{scheme: test.via, address: f.address}
		}
		began := time.Now()
		_, _, err := Connect(t.Context(), cfg)
		took := time.Since(began)
		connect, ok := errors.AsType[*ConnectError](err)
		if !ok || connect.Step != test.step || !errors.Is(err, os.ErrDeadlineExceeded) ||
			took < timeout || took > timeout+5*time.Second {
			t.Errorf("%s, via %q: after %v: %v", test.scheme, test.via, took, err)
		}
		if !strings.Contains(err.Error(), "timed out after 300ms") {
			t.Errorf("%v", err)
		}
	}
}

// TestWait starts a local before its remote: with Wait it gets its session once the remote is
// there, or gives up when its time is over.
func TestWait(t *testing.T) {
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), nil)
	f := startFront(t, func(*net.TCPConn) {})
	cfg := remote.localConfig(t, key)
	cfg.Address.url = &url.URL{Scheme: "ws", Host: f.address, Path: "/"}

	cfg.Wait = time.Second
	began := time.Now()
	err := NewLocal(cfg).Run(testnet.Within(t, patience))
	if _, ok := errors.AsType[*ConnectError](err); !ok || time.Since(began) < cfg.Wait {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
	if n := f.accepted.Load(); n < 2 {
		t.Errorf("%d attempts within %v", n, cfg.Wait)
	}

	for _, wait := range []time.Duration{-1, time.Minute} {
		cfg.Wait = wait
		n := f.become(func(*net.TCPConn) {})
		local, _ := startLocal(t, cfg)
		f.awaitMore(t, n+1)
		f.become(passTo(remote.server.Listener.Addr().String()))
		if _, err := local.WaitSession(testnet.Within(t, 20*time.Second)); err != nil {
			t.Errorf("wait %v: %v", wait, err)
		}
	}

	wrong := cfg
	wrong.VerifyRemote = func(protocol.Peer) error { return errors.New("not this one") }
	if err := NewLocal(wrong).Run(testnet.Within(t, patience)); !IsIdentityError(err) {
		t.Errorf("a wrong remote at the start: %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	f.become(hold)
	local := NewLocal(cfg)
	ended := make(chan error, 1)
	n := f.accepted.Load()
	go func() { ended <- local.Run(ctx) }()
	f.awaitMore(t, n)
	cancel()
	if err := receive(t, ended); err != nil {
		t.Errorf("stopped while it waits: %v", err)
	}
}

// count returns how many sessions a remote has.
func (r *testRemote) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sessions)
}
