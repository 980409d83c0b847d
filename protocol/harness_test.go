package protocol

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"culvert/certs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testTimeout bounds everything in a test that waits for another end.
const testTimeout = 20 * time.Second

// newKey makes a key pair, the same in each run.
func newKey(tb testing.TB, name string) *certs.KeyPair {
	tb.Helper()
	kp, err := certs.NewKeyPair(sha256.Sum256([]byte(name)))
	if err != nil {
		tb.Fatal(err)
	}
	return kp
}

// authority issues certificates for tests.
type authority struct {
	ca  *certs.CA
	now time.Time
}

func newAuthority(tb testing.TB, name string) authority {
	tb.Helper()
	now := time.Now()
	ca, err := certs.NewCA(rand.Reader, name, now, now.Add(24*time.Hour))
	if err != nil {
		tb.Fatal(err)
	}
	return authority{ca, now}
}

func (a authority) issue(
	tb testing.TB, key *certs.KeyPair, names, ips []string,
) *certs.Certificate {
	tb.Helper()
	cert, err := a.ca.Issue(rand.Reader, a.now, certs.Request{
		PublicKey: key.Public(),
		Names:     names,
		IPs:       ips,
		Expires:   a.now.Add(time.Hour),
	})
	if err != nil {
		tb.Fatal(err)
	}
	return cert
}

// issueFor issues a certificate for one end of connections to remote.example.
func (a authority) issueFor(
	tb testing.TB, key *certs.KeyPair, use certs.Use,
) *certs.Certificate {
	tb.Helper()
	cert, err := a.ca.Issue(rand.Reader, a.now, certs.Request{
		PublicKey: key.Public(),
		Names:     []string{"remote.example"},
		Use:       use,
		Expires:   a.now.Add(time.Hour),
	})
	if err != nil {
		tb.Fatal(err)
	}
	return cert
}

// parties holds matching configurations, for a test to change.
type parties struct {
	authority authority
	client    ClientConfig
	server    ServerConfig
}

func acceptAll(Peer) error { return nil }

// newParties returns configurations with which a handshake succeeds in the version, with
// certificates on both sides in version 2 if requireCert. The extension is off: the handshake is
// exactly the specification's.
func newParties(tb testing.TB, version int, requireCert bool) parties {
	tb.Helper()
	clientKey, serverKey := newKey(tb, "client"), newKey(tb, "server")
	loopback := netip.MustParseAddr("127.0.0.1")
	p := parties{
		authority: newAuthority(tb, "Test CA"),
		client: ClientConfig{
			Version: version, Key: clientKey, VerifyServer: acceptAll,
			ServerName: "remote.example", ServerAddr: loopback, Extension: ExtensionOff,
		},
		server: ServerConfig{
			Key: serverKey, Admit: acceptAll, Replay: NewReplayCache(0), PeerAddr: loopback,
			Extension: ExtensionOff,
		},
	}
	if version == Version2 {
		p.client.CA = p.authority.ca.Certificate()
		p.server.Cert = p.authority.issue(tb, serverKey, []string{"remote.example"}, nil)
	}
	if requireCert {
		p.client.Cert = p.authority.issue(tb, clientKey, nil, nil)
		p.server.CA = p.authority.ca.Certificate()
		p.server.RequireCert = true
	}
	return p
}

// variants are the specification's kinds of handshake.
var variants = []struct {
	name        string
	version     int
	requireCert bool
}{
	{"version1", Version1, false},
	{"version2", Version2, false},
	{"version2-client-certificate", Version2, true},
}

// result is what one end's handshake returned.
type result struct {
	conn *Conn
	err  error
}

// listen starts a server that hands each WebSocket to serve, and returns its ws:// address. The
// cleanup waits for every serve to return.
func listen(tb testing.TB, serve func(*websocket.Conn)) string {
	tb.Helper()
	return listenWith(tb, Upgrade, serve)
}

// listenWith is listen with another way to upgrade.
func listenWith(tb testing.TB, upgrade upgradeFunc, serve func(*websocket.Conn)) string {
	tb.Helper()
	return wsAddress(startServer(tb, httptest.NewServer, upgrade, serve))
}

type upgradeFunc func(http.ResponseWriter, *http.Request) (*websocket.Conn, error)

// startServer starts a server that hands each WebSocket to serve. The cleanup waits for every serve
// to return.
func startServer(
	tb testing.TB, start func(http.Handler) *httptest.Server, upgrade upgradeFunc,
	serve func(*websocket.Conn),
) *httptest.Server {
	tb.Helper()
	served := make(chan struct{}, 64)
	started := make(chan struct{}, 64)
	s := start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started <- struct{}{}
		defer func() { served <- struct{}{} }()
		ws, err := upgrade(w, r)
		if err != nil {
			tb.Errorf("upgrade: %v", err)
			return
		}
		defer ws.Close()
		serve(ws)
	}))
	tb.Cleanup(func() {
		s.Close()
		for range len(started) {
			select {
			case <-served:
			case <-time.After(testTimeout):
				tb.Error("a server's handler did not return")
			}
		}
	})
	return s
}

// wsAddress is the server's address as a ws:// or wss:// URL.
func wsAddress(s *httptest.Server) string { return "ws" + strings.TrimPrefix(s.URL, "http") }

// listenToFail starts a server whose handshakes are to fail, and returns their errors.
func listenToFail(tb testing.TB, cfg ServerConfig) (address string, served <-chan error) {
	tb.Helper()
	errs := make(chan error, 1)
	address = listen(tb, func(ws *websocket.Conn) {
		_, err := Server(context.Background(), ws, cfg)
		errs <- err
	})
	return address, errs
}

func dialWS(tb testing.TB, address string) *websocket.Conn {
	tb.Helper()
	d := NewDialer(nil, nil)
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	ws, resp, err := d.DialContext(ctx, address, nil)
	if err != nil {
		tb.Fatalf("dial %s: %v", address, err)
	}
	resp.Body.Close()
	tb.Cleanup(func() { ws.Close() })
	return ws
}

// shakeTCP runs both ends over loopback TCP and a real HTTP server.
func shakeTCP(tb testing.TB, p parties) (client, server result) {
	tb.Helper()
	serverDone := make(chan result, 1)
	released := make(chan struct{})
	address := listen(tb, func(ws *websocket.Conn) {
		c, err := Server(context.Background(), ws, p.server)
		serverDone <- result{c, err}
		<-released
	})
	tb.Cleanup(func() { close(released) }) // before the cleanup of listen
	client.conn, client.err = Client(context.Background(), dialWS(tb, address), p.client)
	return client, <-serverDone
}

// connectTCP is shakeTCP for handshakes that must succeed, with a first record each way.
func connectTCP(tb testing.TB, p parties) (client, server *Conn) {
	tb.Helper()
	c, s := shakeTCP(tb, p)
	if c.err != nil || s.err != nil {
		tb.Fatalf("handshake: client %v, server %v", c.err, s.err)
	}
	greet(tb, c.conn, s.conn)
	return c.conn, s.conn
}

// connectTLS is connectTCP over TLS.
func connectTLS(tb testing.TB, p parties) (client, server *Conn) {
	tb.Helper()
	done, released := make(chan result, 1), make(chan struct{})
	ws := dialTLSWS(tb, func(ws *websocket.Conn) {
		c, err := Server(context.Background(), ws, p.server)
		done <- result{c, err}
		<-released
	})
	tb.Cleanup(func() { close(released) })
	client, err := Client(context.Background(), ws, p.client)
	r := <-done
	if err != nil || r.err != nil {
		tb.Fatalf("handshake: client %v, server %v", err, r.err)
	}
	greet(tb, client, r.conn)
	return client, r.conn
}

// greet sends one record each way.
func greet(tb testing.TB, client, server *Conn) {
	tb.Helper()
	for _, way := range []struct{ from, to *Conn }{{client, server}, {server, client}} {
		if err := way.from.WriteRecords([]byte("greeting")); err != nil {
			tb.Fatal(err)
		}
		got, err := way.to.ReadRecord(nil)
		if err != nil || string(got) != "greeting" {
			tb.Fatalf("got %q, %v", got, err)
		}
	}
}

// upgradeOver makes a WebSocket of a connection after its HTTP request.
func upgradeOver(tb testing.TB, conn net.Conn) *websocket.Conn {
	tb.Helper()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	for k, v := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket",
		"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
	} {
		r.Header.Set(k, v)
	}
	u := websocket.Upgrader{ReadBufferSize: bulkReadBuffer, WriteBufferSize: upgradeBufferSize}
	ws, err := u.Upgrade(newPipeResponse(conn), r, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return ws
}

// pipeResponse is a ResponseWriter for Upgrade over one side of a net.Pipe.
type pipeResponse struct {
	conn   net.Conn
	rw     *bufio.ReadWriter
	header http.Header
}

func (r *pipeResponse) Header() http.Header         { return r.header }
func (r *pipeResponse) Write(p []byte) (int, error) { return r.conn.Write(p) }
func (r *pipeResponse) WriteHeader(int)             {}

func (r *pipeResponse) Hijack() (net.Conn, *bufio.ReadWriter, error) { return r.conn, r.rw, nil }

func newPipeResponse(conn net.Conn) *pipeResponse {
	rw := bufio.NewReadWriter(bufio.NewReader(conn), bufio.NewWriter(conn))
	return &pipeResponse{conn, rw, http.Header{}}
}

// upgradeConn answers the HTTP request that arrives on conn.
func upgradeConn(conn net.Conn) (*websocket.Conn, error) {
	br := bufio.NewReader(conn)
	r, err := http.ReadRequest(br)
	if err != nil {
		return nil, err
	}
	return Upgrade(newPipeResponse(conn), r)
}

// pipeWS joins two WebSocket ends by net.Pipe, without sockets.
func pipeWS(tb testing.TB) (client, server *websocket.Conn) {
	tb.Helper()
	c, s := net.Pipe()
	type upgraded struct {
		ws  *websocket.Conn
		err error
	}
	done := make(chan upgraded, 1)
	go func() {
		ws, err := upgradeConn(s)
		done <- upgraded{ws, err}
	}()
	d := NewDialer(func(context.Context, string, string) (net.Conn, error) { return c, nil }, nil)
	client, resp, err := d.DialContext(context.Background(), "ws://remote.example", nil)
	if err != nil {
		tb.Fatal(err)
	}
	resp.Body.Close()
	u := <-done
	if u.err != nil {
		tb.Fatal(u.err)
	}
	return client, u.ws
}

// connectPipe runs both ends over net.Pipe.
func connectPipe(tb testing.TB, p parties) (client, server *Conn) {
	tb.Helper()
	cws, sws := pipeWS(tb)
	return connectOver(tb, p, cws, sws)
}

// connectOver runs both ends over the given WebSockets.
func connectOver(tb testing.TB, p parties, cws, sws *websocket.Conn) (client, server *Conn) {
	tb.Helper()
	done := make(chan result, 1)
	go func() {
		c, err := Server(context.Background(), sws, p.server)
		done <- result{c, err}
	}()
	client, err := Client(context.Background(), cws, p.client)
	r := <-done
	if err != nil || r.err != nil {
		tb.Fatalf("handshake: client %v, server %v", err, r.err)
	}
	return client, r.conn
}

// wantHandshakeError checks a handshake's error and returns it.
func wantHandshakeError(tb testing.TB, err error, step string, code CloseCode) *HandshakeError {
	tb.Helper()
	var he *HandshakeError
	if !errors.As(err, &he) {
		tb.Fatalf("got %v, want a HandshakeError", err)
	}
	if he.Step != step || he.Code != code {
		tb.Fatalf("got step %s, code %d (%v), want step %s, code %d", he.Step, int(he.Code), err,
			step, int(code))
	}
	return he
}

// wantRefused checks that an error is the peer's refusal.
func wantRefused(tb testing.TB, err error, code CloseCode) {
	tb.Helper()
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Code != code {
		tb.Fatalf("got %v, want a RefusedError with code %d", err, int(code))
	}
}

// readUntilError reads records until the connection ends, in a bounded time.
func readUntilError(tb testing.TB, c *Conn) error {
	tb.Helper()
	if err := c.SetReadDeadline(time.Now().Add(testTimeout)); err != nil {
		_, err := c.ReadRecord(nil)
		return err
	}
	for {
		if _, err := c.ReadRecord(nil); err != nil {
			return err
		}
	}
}

// fixedRand is a source of randomness that ends.
func fixedRand(b ...byte) io.Reader { return strings.NewReader(string(b)) }
