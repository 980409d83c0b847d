package socks

import (
	"io"
	"strings"
	"testing"
)

// lenientTests are responses that browsers take and no standard allows, as the target sends them
// and as the client gets them. Neither connection serves another request then.
var lenientTests = []struct{ name, said, want string }{
	{
		"a line without a colon",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\ncharset=utf-8\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\ncharset=utf-8\r\nConnection: close\r\n\r\nok",
	}, {
		"a list of one length",
		"HTTP/1.1 200 OK\r\nContent-Length: 2, \r\n\r\nok",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
	}, {
		"a list of one coding",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: , chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n",
	}, {
		"spaces in a name, and ahead of a colon",
		"HTTP/1.1 200 OK\r\nSecured by x : y\r\nContent-Length : 2\r\nConnection : X-Hop\r\n" +
			"X-Hop : 1\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nSecured by x : y\r\nContent-Length : 2\r\nConnection: close\r\n\r\nok",
	}, {
		"an empty name",
		"HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
	}, {
		"bytes that are not ASCII in a name",
		"HTTP/1.1 200 OK\r\nX-\xe9: 1\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nX-\xe9: 1\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
	}, {
		"controls in values",
		"HTTP/1.1 200 OK\r\nX-A: a\x01b\x7f\r\nX-B: a\rb\r\nX-C: a\x00b\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nX-A: a\x01b\x7f\r\nX-B: a\rb\r\nX-C: a\x00b\r\nContent-Length: 2\r\n" +
			"Connection: close\r\n\r\nok",
	}, {
		"folded fields, of which one goes with its lines",
		"HTTP/1.1 200 OK\r\n X-A: a\r\nX-B: b\r\n\tc\r\nKeep-Alive: a,\r\n b\r\nContent-Length:\r\n" +
			" 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\n X-A: a\r\nX-B: b\r\n\tc\r\nContent-Length:\r\n 2\r\nConnection: close\r\n" +
			"\r\nok",
	}, {
		"line feeds alone",
		"HTTP/1.1 200 OK\nContent-Length: 2\nKeep-Alive: 5\n\nok",
		"HTTP/1.1 200 OK\nContent-Length: 2\nConnection: close\r\n\nok",
	}, {
		"no reason",
		"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
	}, {
		"no status",
		"HTTP/1.1 \r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 \r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
	}, {
		"other versions",
		"http/1.2  200 OK\r\nContent-Length: 2\r\n\r\nok",
		"http/1.2  200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
	}, {
		"a radio station",
		"ICY 200 OK\r\nicy-name:x\r\n\r\nok\x00",
		"ICY 200 OK\r\nicy-name:x\r\nConnection: close\r\n\r\nok",
	}, {
		"line ends ahead of the status line, which are no part of the response",
		"\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
	}, {
		"an interim response that is odd",
		"HTTP/1.1 103\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 103\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n" +
			"\r\nok",
	}, {
		"bytes ahead of the status line",
		"\n\xef\xbb\xbfHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
	}, {
		"identity is no coding, with a length",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
	}, {
		"identity without a length",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nX-A: 1\r\n\r\nok\x00",
		"HTTP/1.1 200 OK\r\nX-A: 1\r\nConnection: close\r\n\r\nok",
	}, {
		"chunked twice, which is once",
		"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n" +
			"ok\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nConnection: close\r\n\r\n2\r\nok\r\n0\r\n\r\n",
	}, {
		"chunked twice in a field",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nok\r\n0\r\n\r\n",
	}, {
		"another coding inside of chunked",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\nConnection: close\r\n\r\n2\r\nok\r\n" +
			"0\r\n\r\n",
	}, {
		"chunked inside of another coding",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n" +
			"Content-Length: 1\r\n\r\nok\x00",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n" +
			"Connection: close\r\n\r\nok",
	}, {
		"a coding overrides a length",
		"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nok\r\n0\r\n\r\n",
	}, {
		"a coding overrides lengths that differ",
		"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n" +
			"\r\n2\r\nok\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nok\r\n0\r\n\r\n",
	}, {
		"chunked in HTTP/1.0",
		"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nok\r\n0\r\n\r\n",
	}, {
		"a length twice",
		"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nX-A: 1\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nX-A: 1\r\nConnection: close\r\n\r\nok",
	}, {
		"a length twice in a field",
		"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
	}, {
		"an empty length",
		"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\nok\x00",
		"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok",
	}, {
		"lengths that are none",
		"HTTP/1.1 200 OK\r\nContent-Length: -1\r\nContent-Length: +2\r\n" +
			"Content-Length: 99999999999999999999\r\n\r\nok\x00",
		"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok",
	}, {
		"204 with a length",
		"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n",
		"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\nConnection: close\r\n\r\n",
	}, {
		"chunks that are padded, and end in line feeds alone",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2   \nok\n00000\nX-T\xe9 1\n\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2   \nok\n00000\nX-T\xe9 1\n\n",
	}, {
		"what is no chunk goes to a client that can judge it",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\nmore\x00",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\nmore",
	},
}

// TestLenientResponse compares what the client gets byte for byte, however its pieces come. The
// target closes its half where its response is marked with a NUL.
func TestLenientResponse(t *testing.T) {
	for _, tt := range lenientTests {
		said, ends := tt.said, strings.HasSuffix(tt.said, "\x00")
		said = strings.TrimSuffix(said, "\x00")
		for _, step := range []int{1, 7, len(said)} {
			t.Run(tt.name, func(t *testing.T) {
				near, far := tcpPair(t)
				near.SetNoDelay(true)
				conn := connect(t, startServer(t, Config{Dial: dialTo(near)}))
				mustWrite(t, conn, getA)
				mustRead(t, far, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
				for b := said; len(b) > 0; b = b[min(step, len(b)):] {
					mustWrite(t, far, b[:min(step, len(b))])
				}
				if ends {
					far.CloseWrite()
				}
				got, err := io.ReadAll(conn)
				if err != nil || string(got) != tt.want {
					t.Errorf("the client gets\n%q, %v, want\n%q", got, err, tt.want)
				}
				conn.Close()
				if rest, err := io.ReadAll(far); len(rest) > 0 || err != nil {
					t.Errorf("the target gets %q, %v", rest, err)
				}
			})
		}
	}
}

// strictTests are heads and what is read of them: all read them in the same way.
var strictTests = []struct {
	head    string
	method  string
	kind    framingKind
	left    int64
	close   bool
	decoded string // the head for a client of HTTP/1.0
}{
	{"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", "GET", framedByLength, 7, false, ""},
	{"HTTP/1.1 200 \r\ncontent-length:7\t \r\n\r\n", "GET", framedByLength, 7, false, ""},
	{"HTTP/1.1 200 Tr\xe8s bien\r\nX: caf\xe9\r\nContent-Length: 007\r\n\r\n", "GET", framedByLength,
		7, false, ""},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nTrailer: X\r\n\r\n", "GET", framedByChunks, 0,
		false, "HTTP/1.1 200 OK\r\n\r\n"},
	{"HTTP/1.1 200 OK\r\n\r\n", "GET", framedByClose, 0, false, ""},
	{"HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\n", "GET", framedByLength, 7, true, ""},
	{"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", "HEAD", noBody, 0, false, ""},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HEAD", noBody, 0, false,
		"HTTP/1.1 200 OK\r\n\r\n"},
	{"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", "GET", noBody, 0, false, ""},
	{"HTTP/1.1 204 No Content\r\n\r\n", "GET", noBody, 0, false, ""},
	{"HTTP/1.1 205 Reset Content\r\nContent-Length: 7\r\n\r\n", "POST", framedByLength, 7, false, ""},
	{"HTTP/1.1 600 Odd\r\nContent-Length: 7\r\n\r\n", "GET", framedByLength, 7, false, ""},
	{"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", "GET", noBody, 0, false, ""},
	{"HTTP/1.1 200 OK\r\nConnection: close, content-length\r\nContent-Length: 7\r\n\r\n", "GET",
		framedByLength, 7, true,
		"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"},
}

func TestStrictResponse(t *testing.T) {
	for _, tt := range strictTests {
		r, err := parseResponse([]byte(tt.head), tt.method)
		if err != nil || r.lenient {
			t.Errorf("%q: %+v, %v", tt.head, r, err)
			continue
		}
		if r.body.kind != tt.kind || r.body.left != tt.left || r.close != tt.close {
			t.Errorf("%q to %s: framing %d, %d left, close %v", tt.head, tt.method, r.body.kind, r.body.left,
				r.close)
		}
		want := tt.decoded
		if want == "" {
			want = tt.head
		}
		if got := string(r.appendHead(nil, "", true)); got != want {
			t.Errorf("%q becomes %q, want %q", tt.head, got, want)
		}
	}
}
