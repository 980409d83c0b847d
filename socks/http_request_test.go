package socks

import (
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// requestTests are heads as a client sends them and as the target gets them.
var requestTests = []struct{ name, sent, want string }{
	{
		"names, order and spaces stay",
		"GET http://a.test/ HTTP/1.1\r\nuser-agent:u\r\nHOST:  A.test:80\r\nX_b: \t1 \r\n" +
			"Accept-encoding: x\r\nx-a: \xe9\r\nX_b: 2\r\n\r\n",
		"GET / HTTP/1.1\r\nuser-agent:u\r\nHOST:  A.test:80\r\nX_b: \t1 \r\nAccept-encoding: x\r\n" +
			"x-a: \xe9\r\nX_b: 2\r\n\r\n",
	}, {
		"a percent sign alone",
		"GET http://a.test/100%?50%off HTTP/1.1\r\nHost: a.test\r\n\r\n",
		"GET /100%?50%off HTTP/1.1\r\nHost: a.test\r\n\r\n",
	}, {
		"any byte of a path",
		"GET http://a.test/../%00|\\{}^`\"<>[]\xc3\xa9\xe9;#f?@: HTTP/1.1\r\nHost: a.test\r\n\r\n",
		"GET /../%00|\\{}^`\"<>[]\xc3\xa9\xe9;#f?@: HTTP/1.1\r\nHost: a.test\r\n\r\n",
	}, {
		"a fragment, a query and nothing in place of a path",
		"GET http://a.test#f?x HTTP/1.1\r\nHost: a.test\r\n\r\n",
		"GET /#f?x HTTP/1.1\r\nHost: a.test\r\n\r\n",
	}, {
		"a Host that is another one, in its place",
		"GET http://a.test:81/ HTTP/1.1\r\nA: 1\r\nhost: a.test\r\nB: 2\r\n\r\n",
		"GET / HTTP/1.1\r\nA: 1\r\nhost: a.test:81\r\nB: 2\r\n\r\n",
	}, {
		"a user name in the URL and in Host",
		"GET http://u:p%40@a.test/@ HTTP/1.1\r\nHost: u:p%40@a.test\r\nAuthorization: Basic x\r\n\r\n",
		"GET /@ HTTP/1.1\r\nHost: a.test\r\nAuthorization: Basic x\r\n\r\n",
	}, {
		"a user name in the URL, and no Host",
		"GET http://u@a.test:81 HTTP/1.0\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a.test:81\r\n\r\n",
	}, {
		"no Host in HTTP/1.0",
		"GET http://a.test:81/ HTTP/1.0\r\nA: 1\r\nExpect: 100-continue\r\n" +
			"Connection: keep-alive, TE\r\nTE: x\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a.test:81\r\nA: 1\r\n\r\n",
	}, {
		"line feeds alone become line ends that all see",
		"GET http://a.test/ HTTP/1.1\nHost: a.test\nX: y\r\nContent-Length: 0\n\n",
		"GET / HTTP/1.1\r\nHost: a.test\r\nX: y\r\nContent-Length: 0\r\n\r\n",
	}, {
		"fields for this hop and for proxies",
		"GET http://a.test/ HTTP/1.1\r\nProxy-Connection: close\r\nProxy-X: 1\r\nProxy: 2\r\n" +
			"Host: a.test\r\n" +
			"Connection: X-a, close\r\nX-A: 1\r\nKeep-Alive: 5\r\nTE: gzip\r\nUpgrade: x\r\n\r\n",
		"GET / HTTP/1.1\r\nProxy: 2\r\nHost: a.test\r\n\r\n",
	}, {
		"what Connection can't take out",
		"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\n" +
			"Connection: Host, Content-Length, Transfer-Encoding\r\nContent-Length: 3\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\n",
	}, {
		"the same length twice",
		"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\n",
	}, {
		"codings and trailers that the client takes",
		"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nconnection: te, keep-alive\r\n" +
			"TE: gzip, trailers\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a.test\r\nconnection: TE\r\nTE: gzip, trailers\r\n\r\n",
	}, {
		"an upgrade, with a body too",
		"POST http://a.test/attach HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive, Upgrade\r\n" +
			"Upgrade: tcp\r\nContent-Length: 2\r\n\r\n",
		"POST /attach HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n" +
			"Content-Length: 2\r\n\r\n",
	}, {
		"an upgrade to HTTP/2 goes no further",
		"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade, HTTP2-Settings\r\n" +
			"Upgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
	}, {
		"an IPv6 address, with its zone",
		"GET http://[fe80::1%25eth0]:81/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: [fe80::1%25eth0]:81\r\n\r\n",
	},
}

func TestRequestHead(t *testing.T) {
	for _, tt := range requestTests {
		req, err := parseRequest([]byte(tt.sent))
		if err != nil || req.refused != nil || string(req.head) != tt.want {
			t.Errorf("%s: %v, got\n%q, want\n%q", tt.name, err, req.head, tt.want)
		}
	}
}

// smuggling are requests that some read in another way than others, so that a part of one can be
// another request for them.
var smuggling = []string{
	"Content-Length: 5\r\nTransfer-Encoding: chunked",
	"Transfer-Encoding: chunked\r\nContent-Length: 5",
	"Transfer-Encoding: chunked\r\nContent-Length: 0",
	"Content-Length: 5\r\nTransfer-Encoding: identity",
	"Content-Length: 5\r\nTransfer-Encoding:",
	"Transfer-Encoding: xchunked",
	"Transfer-Encoding: chunkedx",
	"Transfer-Encoding: \"chunked\"",
	"Transfer-Encoding: chunked;a=b",
	"Transfer-Encoding: chunked, identity",
	"Transfer-Encoding: identity, chunked",
	"Transfer-Encoding: chunked, chunked",
	"Transfer-Encoding: chunked,",
	"Transfer-Encoding: gzip, chunked",
	"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
	"Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
	"Transfer-Encoding : chunked",
	"Transfer-Encoding\t: chunked",
	"Transfer-Encoding:\x0bchunked",
	"Transfer-Encoding: chunked\x00",
	"Transfer-Encoding:\r\n chunked",
	"Transfer\xe2\x80\x90Encoding\xff: chunked\x01",
	"X: y\rTransfer-Encoding: chunked",
	"X: y\x00\r\nTransfer-Encoding: chunked",
	" Transfer-Encoding: chunked",
	"X: y\r\n\tTransfer-Encoding: chunked",
	"Transfer-Encoding",
	": chunked",
	"Content-Length: 5\r\nContent-Length: 6",
	"Content-Length: 5\r\nContent-Length:",
	"Content-Length: 5, 5",
	"Content-Length: +5",
	"Content-Length: -5",
	"Content-Length: 0x5",
	"Content-Length: 5_0",
	"Content-Length: 5 0",
	"Content-Length: 5.0",
	"Content-Length: 5e0",
	"Content-Length:",
	"Content-Length: \xd9\xa5",
	"Content-Length: 99999999999999999999",
	"Content-Length : 5",
	"Host: b.test",
	"Host : b.test",
}

// TestSmuggling: none of these gets to a target, and the client's connection ends.
func TestSmuggling(t *testing.T) {
	for _, fields := range smuggling {
		for _, first := range []string{"Host: a.test\r\n" + fields, fields + "\r\nHost: a.test"} {
			sent := "POST http://a.test/ HTTP/1.1\r\n" + first +
				"\r\n\r\n0\r\n\r\nGET http://b.test/ HTTP/1.1\r\nHost: b.test\r\n\r\n"
			synctest.Test(t, func(t *testing.T) {
				ln, dialed := wireServer(t, false)
				conn := ln.dial()
				defer conn.Close()
				go io.WriteString(conn, sent)
				got, err := io.ReadAll(conn)
				if !strings.HasPrefix(string(got), "HTTP/1.1 400 ") ||
					strings.Count(string(got), "HTTP/1.1") != 1 || err != nil {
					t.Errorf("%q: got %q, %v", fields, got, err)
				}
				if *dialed != "" {
					t.Errorf("%q: dialed %q", fields, *dialed)
				}
			})
		}
	}
}

// chunkAttacks are chunked bodies that some read in another way than others.
var chunkAttacks = []string{
	"2\nab\r\n0\r\n\r\n", "2\r\nab\n0\r\n\r\n", "2\r\nab\r\n0\n\r\n", "2\r\nab\r\n0\r\n\n",
	"2 \r\nab\r\n0\r\n\r\n", "2\t\r\nab\r\n0\r\n\r\n", " 2\r\nab\r\n0\r\n\r\n",
	"0x2\r\nab\r\n0\r\n\r\n", "+2\r\nab\r\n0\r\n\r\n",
	"2\rX\nab\r\n0\r\n\r\n", "2;a\nab\r\n0\r\n\r\n", "2;a\rb\r\nab\r\n0\r\n\r\n",
	"2;\x00\r\nab\r\n0\r\n\r\n",
	"\r\n2\r\nab\r\n0\r\n\r\n", ";a\r\nab\r\n0\r\n\r\n", "2\r\nabc\r\n0\r\n\r\n", "2\r\nab0\r\n\r\n",
	"00000000000000002\r\nab\r\n0\r\n\r\n",
	"10000000000000002\r\nab\r\n0\r\n\r\n", "ffffffffffffffff\r\nab\r\n0\r\n\r\n",
	"0\r\nContent-Length: 5\r\n\r\n", "0\r\nTransfer-Encoding: chunked\r\n\r\n",
	"0\r\nHost: b\r\n\r\n", "0\r\nproxy-x: b\r\n\r\n",
	"0\r\nConnection: b\r\n\r\n", "0\r\nX : b\r\n\r\n", "0\r\nX\r\n\r\n", "0\r\n X: b\r\n\r\n",
	"0\r\nX: a\r b\r\n\r\n",
	"0\r\nX: a\n\r\n", "0\r\n: a\r\n\r\n", "0\r\nX: \x00\r\n\r\n", "0;" + strings.Repeat("x",
		maxChunkLine) + "\r\n\r\n",
	"0\r\n" + strings.Repeat("X: "+strings.Repeat("x", 1000)+"\r\n", maxTrailer/1000+1) + "\r\n",
}

// TestChunkAttacks: a body of these is cut short for the target, and refused.
func TestChunkAttacks(t *testing.T) {
	for _, body := range chunkAttacks {
		near, far := tcpPair(t)
		conn := connect(t, startServer(t, Config{Dial: dialTo(near)}))
		mustWrite(t, conn,
			"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n"+body)
		conn.SetReadDeadline(time.Now().Add(testTimeout))
		got := make(chan string, 1)
		go func() {
			b, _ := io.ReadAll(far)
			got <- string(b)
		}()
		b := make([]byte, 12)
		if _, err := io.ReadFull(conn, b); err != nil || string(b) != "HTTP/1.1 400" {
			t.Errorf("%.30q: got %q, %v", body, b, err)
		}
		conn.Close()
		_, passed, _ := strings.Cut(<-got, "\r\n\r\n")
		if len(passed) >= len(body) || !strings.HasPrefix(body, passed) {
			t.Errorf("%.30q: the target gets %q", body, passed)
		}
	}
}

// TestRepeatable: only what does no harm when done twice, and has no body, is asked again.
func TestRepeatable(t *testing.T) {
	for _, tt := range []struct {
		method, fields string
		want           bool
	}{
		{"GET", "", true}, {"HEAD", "", true}, {"OPTIONS", "", true}, {"DELETE", "", true}, {"PUT", "",
			true},
		{"POST", "", false}, {"PATCH", "", false}, {"REPORT", "", false},
		{"GET", "Content-Length: 1\r\n", false}, {"PUT", "Transfer-Encoding: chunked\r\n", false},
		{"GET", "Connection: Upgrade\r\nUpgrade: websocket\r\n", false},
	} {
		req, err := parseRequest([]byte(tt.method + " http://a.test/ HTTP/1.1\r\nHost: a.test\r\n" +
			tt.fields + "\r\n"))
		if err != nil || req.repeatable() != tt.want {
			t.Errorf("%s %q: %v", tt.method, tt.fields, err)
		}
	}
}
