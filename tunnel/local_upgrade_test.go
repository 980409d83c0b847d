package tunnel

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"culvert/internal/testnet"
	"culvert/protocol"
)

// connectTo connects to whatever is at an address.
func connectTo(t *testing.T, scheme, address string) error {
	t.Helper()
	_, _, err := Connect(testnet.Within(t, 20*time.Second), LocalConfig{
		Address: Address{url: &url.URL{Scheme: scheme, Host: address, Path: "/"}},
		Key:     newKey(t), VerifyRemote: func(protocol.Peer) error { return nil },
	})
	return err
}

// TestRefusedUpgrade has a server answer the upgrade with other responses. The error has what
// matters of each.
func TestRefusedUpgrade(t *testing.T) {
	for _, test := range []struct {
		head      string
		want      httpRefusal
		noUpgrade bool
		text      string
	}{
		{
			"HTTP/1.1 302 Found\r\nLocation: http://portal.example/login\r\n",
			httpRefusal{302, "302 Found", "http://portal.example/login", 0}, false,
			`the server answered "302 Found", which points to "http://portal.example/login"`,
		},
		{
			"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 17\r\n",
			httpRefusal{503, "503 Service Unavailable", "", 17 * time.Second}, false,
			`the server answered "503 Service Unavailable"`,
		},
		{"HTTP/1.1 511 Log In\r\n", httpRefusal{511, "511 Log In", "", 0}, false, `"511 Log In"`},
		{"HTTP/1.1 200 OK\r\n", httpRefusal{200, "200 OK", "", 0}, false, `"200 OK"`},
		{
			"HTTP/1.1 426 Upgrade Required\r\n",
			httpRefusal{426, "426 Upgrade Required", "", 0}, true, "removes the Upgrade header",
		},
		{
			"HTTP/1.1 400 Bad Request\r\nSec-WebSocket-Version: 13\r\n",
			httpRefusal{400, "400 Bad Request", "", 0}, true, "removes the Upgrade header",
		},
		{
			"HTTP/1.1 101 Switching Protocols\r\n", // and no more: the response was stripped
			httpRefusal{101, "101 Switching Protocols", "", 0}, true, "removes the Upgrade header",
		},
		{"HTTP/1.1 400 Bad Request\r\n", httpRefusal{400, "400 Bad Request", "", 0}, false, `"400`},
	} {
		for _, body := range []string{"", "<html>a page</html>"} {
			address := testnet.ServeTCP(t, func(conn *net.TCPConn) {
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					io.WriteString(conn, test.head+"\r\n"+body)
				}
			})
			err := connectTo(t, "ws", address)
			refused, ok := errors.AsType[*StatusError](err)
			if !ok || refused.httpRefusal != test.want || refused.NoUpgrade != test.noUpgrade ||
				!strings.Contains(err.Error(), test.text) {
				t.Errorf("%q: %v", test.head, err)
			}
		}
	}
}

// TestUpgradeRemoved puts a proxy that knows no WebSockets in front of a remote.
func TestUpgradeRemoved(t *testing.T) {
	remote := startRemote(t, RemoteTrust{Anyone: true}, nil)
	site, err := url.Parse(remote.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		target := site.JoinPath(r.URL.Path).String()
		request, err := http.NewRequestWithContext(r.Context(), r.Method, target, nil)
		if err != nil {
			t.Error(err)
			return
		}
		for name, values := range r.Header {
			if name != "Upgrade" && name != "Connection" {
				request.Header[name] = values
			}
		}
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.Error(err)
			return
		}
		defer response.Body.Close()
		w.WriteHeader(response.StatusCode)
		io.Copy(w, response.Body)
	}))
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	defer proxy.Close()
	err = connectTo(t, "ws", proxy.Listener.Addr().String())
	if refused, ok := errors.AsType[*StatusError](err); !ok || !refused.NoUpgrade {
		t.Errorf("got %v", err)
	}
}

// TestNeedsTLS asks servers by plain HTTP that speak TLS: Go's, which answers in HTTP; one that
// answers with an alert; one that closes; and one that wants a certificate. Others are not taken
// for one.
func TestNeedsTLS(t *testing.T) {
	site := httptest.NewUnstartedServer(http.NotFoundHandler())
	site.Config.ErrorLog = nil
	site.TLS = &tls.Config{}
	site.StartTLS()
	defer site.Close()
	strict := httptest.NewUnstartedServer(http.NotFoundHandler())
	strict.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}
	strict.StartTLS()
	defer strict.Close()
	secured := site.Listener.Addr().String()
	instead := func(answer string) string { // of what a TLS server says to plain HTTP
		return testnet.ServeTCP(t, func(conn *net.TCPConn) {
			first := make([]byte, 1)
			if _, err := io.ReadFull(conn, first); err != nil {
				return
			}
			if first[0] == 'G' {
				io.WriteString(conn, answer)
				return
			}
			far, err := net.Dial("tcp", secured)
			if err != nil {
				return
			}
			defer far.Close()
			far.Write(first)
			go io.Copy(conn, far)
			io.Copy(far, conn)
		})
	}
	for name, address := range map[string]string{
		"HTTP": secured, "certificate": strict.Listener.Addr().String(),
		"alert": instead("\x15\x03\x01\x00\x02\x02\x0a"), "close": instead(""),
	} {
		if err := connectTo(t, "ws", address); !errors.Is(err, ErrNeedsTLS) {
			t.Errorf("%s: %v", name, err)
		}
	}
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
	}))
	defer plain.Close()
	for name, address := range map[string]string{
		"HTTP": plain.Listener.Addr().String(), "close": testnet.ServeTCP(t, func(*net.TCPConn) {}),
		"mail": testnet.ServeTCP(t, func(conn *net.TCPConn) {
			io.WriteString(conn, "220 mail.example ESMTP\r\n")
			io.Copy(io.Discard, conn)
		}),
	} {
		if err := connectTo(t, "ws", address); err == nil || errors.Is(err, ErrNeedsTLS) {
			t.Errorf("without TLS, %s: %v", name, err)
		}
	}
}
