package tunnel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"culvert/internal/testnet"
	"culvert/protocol"
)

func TestParseProxy(t *testing.T) {
	for text, want := range map[string]Proxy{
		"http://proxy.example:3128":          {"http", "proxy.example:3128", "", ""},
		"http://proxy.example/":              {"http", "proxy.example:80", "", ""},
		"http://alice:s%3Ae%40cret@[::1]:1":  {"http", "[::1]:1", "alice", "s:e@cret"},
		"socks5://alice@proxy.example":       {"socks5", "proxy.example:1080", "alice", ""},
		"socks5h://a%3Ab:secret@192.0.2.1:9": {"socks5", "192.0.2.1:9", "a:b", "secret"},
	} {
		p, err := ParseProxy(text)
		if err != nil || *p != want {
			t.Errorf("%s: %v, %v", text, p, err)
		}
	}
	long := strings.Repeat("secret", 50)
	for _, text := range []string{
		"", "alice:secret@proxy.example:1", "proxy.example:3128",
		"https://alice:secret@proxy.example", "http://alice:secret@",
		"http://alice:secret@proxy.example:port", "http://alice:secret@proxy.example/path",
		"http://alice:sec%ret@proxy.example",
		"http://alice:secret@proxy.example?q", "http://alice:secret@proxy.example#f",
		"http://:secret@proxy.example",
		"http://a%3Ab:secret@proxy.example", "socks5://alice:" + long + "@proxy.example",
		"socks4://alice:secret@proxy.example",
		"http://alice:sec ret@proxy.example\x7f",
	} {
		p, err := ParseProxy(text)
		if err == nil {
			t.Errorf("%q was taken for %s", text, p)
		} else if strings.Contains(err.Error(), "sec") || strings.Contains(err.Error(), "alice") {
			t.Errorf("%q: the error discloses it: %v", text, err)
		}
	}
}

// No way of printing a proxy discloses its password.
func TestProxyHidesPassword(t *testing.T) {
	p, err := ParseProxy("http://alice:secret@proxy.example:3128")
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if text := fmt.Sprintf(format, p); strings.Contains(text, "secret") ||
			strings.Contains(text, "alice") {
			t.Errorf("%s: %s", format, text)
		}
	}
}

// httpProxy is a proxy that serves one CONNECT request after the other by calling handle with the
// request and its connection.
func httpProxy(t *testing.T, handle func(*http.Request, *net.TCPConn)) *Proxy {
	address := testnet.ServeTCP(t, func(conn *net.TCPConn) {
		request, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			t.Errorf("the request: %v", err)
			return
		}
		handle(request, conn)
	})
	p, err := ParseProxy("http://alice:s%3Aecret@" + address)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// join connects conn to a target and copies in both directions.
func join(conn *net.TCPConn, target string) {
	other, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer other.Close()
	go func() {
		io.Copy(other, conn)
		other.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(conn, other)
}

// A remote is reached through a proxy that alone knows its name, and the steps show that.
func TestViaHTTP(t *testing.T) {
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), nil)
	cfg := remote.localConfig(t, key)
	var asked, user, password string
	cfg.Via = httpProxy(t, func(r *http.Request, conn *net.TCPConn) {
		authorized := &http.Request{
			Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]},
		}
		user, password, _ = authorized.BasicAuth()
		asked = r.Method + " " + r.RequestURI + " " + r.Host
		io.WriteString(conn, "HTTP/1.1 200 Connection established\r\nVia: nobody\r\n\r\n")
		join(conn, remote.server.Listener.Addr().String())
	})
	address, err := ParseAddress("ws://remote.invalid:8080/")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Address = address
	var steps []Step
	var detail string
	cfg.OnProgress = func(p Progress) {
		steps = append(steps, p.Step)
		if p.Step == StepProxy {
			detail = p.Detail
		}
	}
	var seen protocol.Peer
	cfg.VerifyRemote = func(peer protocol.Peer) error {
		seen = peer
		return remote.pin(peer)
	}
	if _, _, err := Connect(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if asked != "CONNECT remote.invalid:8080 remote.invalid:8080" || user != "alice" ||
		password != "s:ecret" {
		t.Errorf("the proxy got %q, %q and %q", asked, user, password)
	}
	if got := fmt.Sprint(steps); got != "[tcp proxy upgrade handshake session]" {
		t.Errorf("steps: %s", got)
	}
	if want := "remote.invalid:8080 through " + cfg.Via.String(); detail != want {
		t.Errorf("detail %q, want %q", detail, want)
	}
	if seen.Addr.IsValid() {
		t.Errorf("the proxy's address %s was taken for the remote's", seen.Addr)
	}
}

// Whatever a proxy answers, the attempt ends in time, with the step and without the password.
func TestViaBadProxies(t *testing.T) {
	const established = "HTTP/1.1 200 OK\r\n\r\n"
	for name, test := range map[string]struct {
		answer string
		hang   bool
		want   string
	}{
		"refused": {"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", false,
			`the proxy answered "407 Proxy Authentication Required"`},
		"forbidden, a body": {"HTTP/1.1 403 Filtered\r\nContent-Length: 5\r\n\r\nsorry", false,
			`the proxy answered "403 Filtered"`},
		"a redirect": {"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", false,
			`the proxy answered "302 Found"`},
		"closed":         {"", false, "closed the connection"},
		"half an answer": {"HTTP/1.1 200 OK\r\nA: b", false, "closed the connection"},
		"garbage":        {"\x05\x00 something else\r\n\r\n", false, "not an HTTP proxy"},
		"endless header": {"HTTP/1.1 200 OK\r\nA: " + strings.Repeat("a", 2*maxHeaderBytes), true,
			"the proxy's answer has more than"},
		"silence":         {"", true, "deadline"},
		"data of its own": {established + "surprise", true, "data of its own"},
		"no WebSocket":    {established, false, "closed"},
	} {
		t.Run(name, func(t *testing.T) {
			via := httpProxy(t, func(_ *http.Request, conn *net.TCPConn) {
				io.WriteString(conn, test.answer)
				switch {
				case test.hang:
					io.Copy(io.Discard, conn)
				case test.answer == established: // unread bytes would make a reset of the close
					http.ReadRequest(bufio.NewReader(conn))
				}
			})
			address, err := ParseAddress("ws://remote.invalid/")
			if err != nil {
				t.Fatal(err)
			}
			cfg := LocalConfig{
				Address:      address,
				Key:          newKey(t),
				Via:          via,
				VerifyRemote: func(protocol.Peer) error { return nil },
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			_, _, err = Connect(ctx, cfg)
			var connect *ConnectError
			if !errors.As(err, &connect) || !strings.Contains(err.Error(), test.want) ||
				strings.Contains(err.Error(), "ecret") {
				t.Fatalf("%v, want %q", err, test.want)
			}
			want := StepProxy
			if name == "no WebSocket" {
				want = StepUpgrade
			}
			if connect.Step != want {
				t.Errorf("step %s, want %s", connect.Step, want)
			}
			var refused *ProxyError
			if errors.As(err, &refused) != strings.HasPrefix(test.want, "the proxy answered") {
				t.Errorf("%T", connect.Err)
			}
		})
	}
}

// The error has the reason that a SOCKS5 proxy gives. scripts/e2e tests a real one.
func TestViaBadSOCKS(t *testing.T) {
	for name, test := range map[string]struct{ answer, want string }{
		"unreachable": {"\x05\x00\x05\x04\x00\x01\x00\x00\x00\x00\x00\x00",
			"the proxy says: host unreachable"},
		"not allowed": {"\x05\x00\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00",
			"the proxy says: connection not allowed by ruleset"},
		"no method": {"\x05\xff", "the proxy says: no acceptable authentication methods"},
		"wrong password": {"\x05\x02\x01\x01",
			"the proxy says: username/password authentication failed"},
		"another protocol": {"HTTP/1.1 400 Bad Request\r\n\r\n",
			"the proxy says: unexpected protocol version 72"},
		"closed": {"", "the proxy closed the connection"},
	} {
		t.Run(name, func(t *testing.T) {
			address := testnet.ServeTCP(t, func(conn *net.TCPConn) {
				io.WriteString(conn, test.answer)
				conn.CloseWrite()
				io.Copy(io.Discard, conn)
			})
			via, err := ParseProxy("socks5://alice:secret@" + address)
			if err != nil {
				t.Fatal(err)
			}
			remote, err := ParseAddress("ws://remote.invalid/")
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = Connect(
				testnet.Within(t, 10*time.Second),
				LocalConfig{Address: remote, Key: newKey(t), Via: via},
			)
			var connect *ConnectError
			if !errors.As(err, &connect) || connect.Step != StepProxy ||
				!strings.Contains(err.Error(), test.want) ||
				strings.Contains(err.Error(), "unknown error") ||
				strings.Contains(err.Error(), "secret") {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

// TestViaReset: a connection to a proxy that is reset says so, and nothing of the proxy.
func TestViaReset(t *testing.T) {
	address := testnet.ServeTCP(t, func(conn *net.TCPConn) {
		conn.Read(make([]byte, 1))
		conn.SetLinger(0)
		conn.Close()
	})
	for _, scheme := range []string{"socks5", "http"} {
		via, err := ParseProxy(scheme + "://" + address)
		if err != nil {
			t.Fatal(err)
		}
		remote, err := ParseAddress("ws://remote.invalid/")
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = Connect(testnet.Within(t, patience),
			LocalConfig{Address: remote, Key: newKey(t), Via: via})
		if !errors.Is(err, syscall.ECONNRESET) || strings.Contains(err.Error(), "says") ||
			strings.Contains(err.Error(), "not an HTTP proxy") {
			t.Errorf("%s: %v", scheme, err)
		}
	}
}

// TestViaOddSuccess has a proxy connect and say so in ways that RFC 9110, section 9.3.6, has a
// client understand: what describes content is ignored, well-formed or not, and interim responses
// may come first.
func TestViaOddSuccess(t *testing.T) {
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), nil)
	for name, answer := range map[string]string{
		"HTTP/1.0":             "HTTP/1.0 200 OK\r\nProxy-Agent: x\r\n\r\n",
		"no reason":            "HTTP/1.1 200\r\n\r\n",
		"another code":         "HTTP/1.1 204 No Content\r\n\r\n",
		"no content":           "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		"content":              "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
		"malformed length":     "HTTP/1.1 200 OK\r\nContent-Length: x\r\nContent-Length: 7\r\n\r\n",
		"chunked":              "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"unknown coding":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: br, x\r\n\r\n",
		"close":                "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
		"lines without return": "HTTP/1.1 200 OK\nA: b\n\n",
		"lines that are none":  "HTTP/1.1 200 OK\r\nProxy-agent\r\n: x\r\n a\x01\r\n\r\n",
		"interim": "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" +
			"HTTP/1.1 200 OK\r\n\r\n",
	} {
		for _, size := range []int{1, len(answer)} {
			via := httpProxy(t, func(_ *http.Request, conn *net.TCPConn) {
				for rest := answer; rest != ""; rest = rest[min(size, len(rest)):] {
					io.WriteString(conn, rest[:min(size, len(rest))])
				}
				passTo(remote.server.Listener.Addr().String())(conn)
			})
			cfg := remote.localConfig(t, key)
			cfg.Via = via
			if _, _, err := Connect(testnet.Within(t, 20*time.Second), cfg); err != nil {
				t.Errorf("%s, in pieces of %d: %v", name, size, err)
			}
		}
	}
}

// TestViaRefusal: the error of an HTTP proxy has what it points to and asks for.
func TestViaRefusal(t *testing.T) {
	via := httpProxy(t, func(_ *http.Request, conn *net.TCPConn) {
		io.WriteString(conn, "HTTP/1.1 302 Found\r\n"+
			"Location: http://login.example/\r\nRetry-After: 3\r\n\r\n")
	})
	cfg := LocalConfig{
		Address: Address{url: &url.URL{Scheme: "ws", Host: "remote.invalid", Path: "/"}},
		Key:     newKey(t), VerifyRemote: func(protocol.Peer) error { return nil }, Via: via,
	}
	_, _, err := Connect(testnet.Within(t, 20*time.Second), cfg)
	refused, ok := errors.AsType[*ProxyError](err)
	if !ok || refused.Location != "http://login.example/" || refused.RetryAfter != 3*time.Second ||
		!strings.Contains(err.Error(), refused.Location) {
		t.Errorf("got %v", err)
	}
}
