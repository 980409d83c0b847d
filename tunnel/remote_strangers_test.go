package tunnel

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"culvert/protocol"

	"github.com/gorilla/websocket"
)

// pipeListener is a listener of connections that live in a synctest bubble.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	close  func()
}

func newPipeListener() *pipeListener {
	l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	l.close = sync.OnceFunc(func() { close(l.closed) })
	return l
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func (l *pipeListener) Close() error {
	l.close()
	return nil
}

// pipeConn is a connection from an address.
type pipeConn struct {
	net.Conn
	from netip.Addr
}

func (c pipeConn) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.from, 1024))
}

// dial connects from an address.
func (l *pipeListener) dial(from string) net.Conn {
	near, far := net.Pipe()
	l.conns <- pipeConn{far, netip.MustParseAddr(from)}
	return near
}

// bubbleSite is the fallback site of a remote in a bubble.
func bubbleSite(t *testing.T, remote *Remote, handler http.Handler) {
	ln := newPipeListener()
	remote.fallback.transport.DialContext = func(
		context.Context, string, string,
	) (net.Conn, error) {
		return ln.dial("127.0.0.1"), nil
	}
	var serving sync.WaitGroup
	server := &http.Server{Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			serving.Add(1)
			defer serving.Done()
			handler.ServeHTTP(w, r)
		})}
	serving.Go(func() { server.Serve(ln) })
	t.Cleanup(func() {
		server.Close()
		serving.Wait()
	})
}

// bubbleProxy is the address of a proxy that remotes in a bubble trust.
const bubbleProxy = "203.0.113.1"

// inBubble runs test on a remote that serves in a bubble, with a fallback site if that isn't nil.
func inBubble(
	t *testing.T, site http.Handler, test func(t *testing.T, remote *Remote, ln *pipeListener),
) {
	synctest.Test(t, func(t *testing.T) {
		cfg := RemoteConfig{
			Identity: RemoteIdentity{Key: newKey(t)},
			Trust:    RemoteTrust{Anyone: true},
			Path:     "/tunnel",
			Proxies:  mustProxies(t, bubbleProxy),
		}
		if site != nil {
			cfg.Fallback = &url.URL{Scheme: "http", Host: "site", Path: "/"}
		}
		remote, err := NewRemote(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if site != nil {
			bubbleSite(t, remote, site)
		}
		ln := newPipeListener()
		ctx, cancel := context.WithCancel(t.Context())
		var serving sync.WaitGroup
		serving.Go(func() { remote.Serve(ctx, ln) })
		defer serving.Wait()
		defer cancel()
		test(t, remote, ln)
	})
}

// readers discards what arrives at each connection, and counts those that have not ended.
type readers struct {
	mu    sync.Mutex
	alive int
}

func (r *readers) watch(conn net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.alive++
	go func() {
		io.Copy(io.Discard, conn)
		conn.Close()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.alive--
	}()
}

func (r *readers) count() int {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.alive
}

const (
	slowUpload = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n"
	getUpgrade = "GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	getPage = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
)

// statusOf sends a request and returns the status of the answer.
func statusOf(t *testing.T, conn net.Conn, request string) int {
	t.Helper()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}

// echoSite answers with the body of the request.
var echoSite = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		w.Write(body)
	}
})

// A connection counts as long as it is open: also after an upgrade that was refused.
func TestRefusedUpgradeKeepsItsPlace(t *testing.T) {
	for name, request := range map[string]string{
		"no key":  strings.Replace(getUpgrade, "Sec-WebSocket-Key", "X-Key", 1),
		"version": strings.Replace(getUpgrade, ": 13", ": 12", 1),
		"method":  strings.Replace(getUpgrade, "GET", "POST", 1),
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, remote *Remote, ln *pipeListener) {
				var held readers
				for range sourceStrangers + 20 {
					conn := ln.dial("192.0.2.1")
					io.WriteString(conn, request)
					held.watch(conn)
					time.Sleep(2 * penaltyDelay) // synctest
					io.WriteString(conn, getPage)
				}
				synctest.Wait()
				if n := held.count(); n > sourceStrangers {
					t.Errorf("%d connections of one address are open", n)
				}
				if open, counted := held.count(), remote.gate.conns.taken(); open != counted {
					t.Errorf("%d connections are open, %d counted", open, counted)
				}
			})
		})
	}
}

// Requests whose body never comes: with a fallback site and without, their number is bounded, and
// all end within stallTimeout and a moment. Meanwhile others are served.
func TestSlowBodies(t *testing.T) {
	for name, test := range map[string]struct {
		site   http.Handler
		from   string
		most   int
		status int // for others
	}{
		"a client":               {nil, "192.0.2.1", sourceStrangers, http.StatusNotFound},
		"clients on the machine": {nil, "127.0.0.1", maxStrangers, http.StatusNotFound},
		"a visitor":              {echoSite, "192.0.2.1", sourceStrangers, http.StatusOK},
		"visitors on the machine": {
			echoSite, "127.0.0.1", maxStrangers, http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, test.site, func(t *testing.T, remote *Remote, ln *pipeListener) {
				var held readers
				for range 1500 {
					conn := ln.dial(test.from)
					io.WriteString(conn, slowUpload)
					held.watch(conn)
				}
				if n := held.count(); n > test.most || n == 0 {
					t.Errorf("%d of 1500 are held, want at most %d", n, test.most)
				}
				for _, from := range []string{test.from, "198.51.100.1"} {
					conn := ln.dial(from)
					if got := statusOf(t, conn, getPage); got != test.status {
						t.Errorf("status %d for another client of %s", got, from)
					}
					conn.Close()
				}
				time.Sleep(stallTimeout + time.Second) // synctest
				if n := held.count(); n != 0 {
					t.Errorf("%d are still held", n)
				}
				if n := remote.gate.conns.taken(); n != 0 {
					t.Errorf("%d places are still taken", n)
				}
				if f := remote.fallback; f != nil && f.places.taken() != 0 {
					t.Errorf("%d places at the site are still taken", f.places.taken())
				}
			})
		})
	}
}

// Connections on which nothing is sent, or requests whose answers are never read.
func TestSilentClients(t *testing.T) {
	large := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// With a length, the proxy flushes under no mutex, on which a bubble's time stops.
		w.Header().Set("Content-Length", "1000000")
		w.Write(make([]byte, 1_000_000))
	})
	for name, test := range map[string]struct {
		site http.Handler
		send string
	}{
		"nothing sent":                  {nil, ""},
		"half a request":                {nil, getPage[:20]},
		"an answer unread":              {nil, getPage},
		"answers unread":                {nil, strings.Repeat(getPage, 50)},
		"a page unread":                 {large, getPage},
		"an answer to an upload unread": {large, slowUpload},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, test.site, func(t *testing.T, remote *Remote, ln *pipeListener) {
				var conns []net.Conn
				for i := range 2 * maxStrangers {
					conn := ln.dial(fmt.Sprintf("192.0.2.%d", i%20))
					conn.SetDeadline(time.Now().Add(time.Second))
					io.WriteString(conn, test.send)
					conns = append(conns, conn)
				}
				synctest.Wait()
				if n := remote.gate.conns.taken(); n > maxStrangers {
					t.Errorf("%d places are taken", n)
				}
				time.Sleep(2*stallTimeout + 2*time.Second) // synctest
				synctest.Wait()
				if n := remote.gate.conns.taken(); n != 0 {
					t.Errorf("%d places are still taken", n)
				}
				for _, conn := range conns {
					conn.Close()
				}
			})
		})
	}
}

// A client that reads nothing after its request for a WebSocket is waited for no longer than for
// any handshake.
func TestUnreadUpgrade(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, _ *Remote, ln *pipeListener) {
		conn := ln.dial("192.0.2.1")
		defer conn.Close()
		io.WriteString(conn, getUpgrade)
		time.Sleep(protocol.DefaultHandshakeTimeout + time.Second) // synctest
		if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("the response still waits: read %d bytes, %v", n, err)
		}
	})
}

// A slow visitor who makes progress is served to the end: an upload and a download that take
// longer than stallTimeout, at a site that takes its time too.
func TestSlowVisitor(t *testing.T) {
	const size = 100 << 10
	site := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err != nil || len(body) != 100 {
			t.Errorf("the site got %d bytes, %v", len(body), err)
		}
		time.Sleep(fallbackHeaderTimeout - time.Second) // synctest
		w.Header().Set("Content-Length", fmt.Sprint(size))
		w.Write(make([]byte, size))
	})
	inBubble(t, site, func(t *testing.T, remote *Remote, ln *pipeListener) {
		conn := ln.dial("192.0.2.1")
		defer conn.Close()
		answer := bufio.NewReader(conn)
		for range 2 { // the second one on the same connection
			io.WriteString(conn, slowUpload)
			for range 10 {
				time.Sleep(5 * time.Second) // synctest
				conn.Write([]byte("0123456789"))
			}
			response, err := http.ReadResponse(answer, nil)
			if err != nil {
				t.Fatal(err)
			}
			for n := 0; n < size; n += 4 << 10 {
				time.Sleep(2 * time.Second) // synctest
				if _, err := io.ReadFull(response.Body, make([]byte, 4<<10)); err != nil {
					t.Fatalf("after %d bytes: %v", n, err)
				}
			}
		}
	})
}

// socketSite upgrades, and then serves the WebSocket's connection.
func socketSite(serve func(*websocket.Conn)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := new(websocket.Upgrader).Upgrade(w, r, nil)
		if err == nil {
			serve(ws)
			ws.Close()
		}
	})
}

// A WebSocket of the fallback site's ends when it is idle, when the visitor doesn't read, and when
// its time is over, however much passes.
func TestFallbackSocketEnds(t *testing.T) {
	for name, test := range map[string]struct {
		serve func(*websocket.Conn)
		read  bool // the visitor does
		after time.Duration
	}{
		"idle": {func(ws *websocket.Conn) { ws.ReadMessage() }, true, fallbackSocketIdle},
		"unread": {func(ws *websocket.Conn) {
			for ws.WriteMessage(websocket.BinaryMessage, make([]byte, 4096)) == nil {
			}
		}, false, stallTimeout},
		"busy": {func(ws *websocket.Conn) {
			for ws.WriteMessage(websocket.BinaryMessage, []byte("x")) == nil {
				time.Sleep(time.Minute) // synctest
			}
		}, true, fallbackTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, socketSite(test.serve), func(t *testing.T, remote *Remote, ln *pipeListener) {
				conn := ln.dial("192.0.2.1")
				defer conn.Close()
				io.WriteString(conn, "GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"+
					"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
					"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
				answer := bufio.NewReader(conn)
				if response, err := http.ReadResponse(answer, nil); err != nil ||
					response.StatusCode != http.StatusSwitchingProtocols {
					t.Fatal(response, err)
				}
				if test.read {
					go io.Copy(io.Discard, answer)
				}
				time.Sleep(test.after - time.Second) // synctest
				synctest.Wait()
				if n := remote.gate.conns.taken(); n != 1 {
					t.Errorf("%d places are taken before its time", n)
				}
				time.Sleep(2 * time.Second) // synctest
				synctest.Wait()
				if n := remote.gate.conns.taken() + remote.fallback.places.taken(); n != 0 {
					t.Errorf("%d places are still taken", n)
				}
			})
		})
	}
}
