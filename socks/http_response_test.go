package socks

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
)

// lenientTests are responses that browsers take and no standard allows, as the target sends them
// and as the client gets them. Neither connection serves another request then.
var lenientTests = []struct{ name, said, want string }{
	{
		"a line without a colon",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\ncharset=utf-8\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\ncharset=utf-8\r\n\r\nok",
	}, {
		"a list of one length",
		"HTTP/1.1 200 OK\r\nContent-Length: 2, \r\n\r\nok",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
	}, {
		"a list of one coding",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: , chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	}, {
		"spaces in a name, and ahead of a colon",
		"HTTP/1.1 200 OK\r\nSecured by x : y\r\nContent-Length : 2\r\nConnection : X-Hop\r\n" +
			"X-Hop : 1\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nSecured by x : y\r\nContent-Length : 2\r\n\r\nok",
	}, {
		"an empty name",
		"HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nConnection: close\r\n: x\r\nContent-Length: 2\r\n\r\nok",
	}, {
		"bytes that are not ASCII in a name",
		"HTTP/1.1 200 OK\r\nX-\xe9: 1\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nX-\xe9: 1\r\nContent-Length: 2\r\n\r\nok",
	}, {
		"controls in values",
		"HTTP/1.1 200 OK\r\nX-A: a\x01b\x7f\r\nX-B: a\rb\r\nX-C: a\x00b\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nX-A: a\x01b\x7f\r\nX-B: a b\r\nX-C: a b\r\n" +
			"Content-Length: 2\r\n\r\nok",
	}, {
		"fields of HTTP/1.0 that Python sees behind carriage returns, and that overrule Connection",
		"HTTP/1.0 200 OK\r\nX: a\rKeep-Alive: 1\rContent-Length: 0\r\n\r\nok\x00",
		"HTTP/1.0 200 OK\r\nConnection: close\r\nX: a Keep-Alive: 1 Content-Length: 0\r\n\r\nok",
	}, {
		"fields behind a line that is none, which Python doesn't see",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\njunk\r\nTransfer-Encoding: x\r\n\r\n0\r\n" +
			"\r\n\x00",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\njunk\r\n" +
			"Transfer-Encoding: x\r\n\r\n0\r\n\r\n",
	}, {
		"folded fields, of which one goes with its lines",
		"HTTP/1.1 200 OK\r\n X-A: a\r\nX-B: b\r\n\tc\r\nKeep-Alive: a,\r\n b\r\nContent-Length:\r\n" +
			" 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nX-B: b\r\n\tc\r\nContent-Length:\r\n 2\r\n\r\nok",
	}, {
		"nothing but a fold",
		"HTTP/1.1 204 No Content\r\n \r\n\tX: y\r\n\r\n",
		"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
	}, {
		"line feeds alone",
		"HTTP/1.1 200 OK\nContent-Length: 2\nKeep-Alive: 5\n\nok",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\n\nok",
	}, {
		"no reason",
		"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
	}, {
		"no status",
		"HTTP/1.1 \r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
	}, {
		"a status that is interim for some clients",
		"HTTP/1.1 0100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n\x00",
		"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
	}, {
		"a status behind another one that some clients find",
		"HTTP/1.1\x0b100 404 x\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
	}, {
		"a status with more behind it",
		"HTTP/1.1 200OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
	}, {
		"carriage returns in the status line",
		"HTTP/1.1 200 OK\rContent-Length: 0\r\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK Content-Length: 0 \r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
	}, {
		"other versions",
		"http/1.2  200 OK\r\nContent-Length: 2\r\n\r\nok",
		"http/1.2  200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
	}, {
		"a radio station",
		"ICY 200 OK\r\nicy-name:x\r\n\r\nok\x00",
		"ICY 200 OK\r\nConnection: close\r\nicy-name:x\r\n\r\nok",
	}, {
		"line ends ahead of the status line, which are no part of the response",
		"\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
	}, {
		"an interim response that is odd",
		"HTTP/1.1 103\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
	}, {
		"a 100 that is odd, which all read in its place",
		"HTTP/1.1 100x\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close\r\n" +
			"Content-Length: 2\r\n\r\nok",
	}, {
		"bytes ahead of the status line",
		"\n\xef\xbb\xbfHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
	}, {
		"identity is no coding, with a length",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
	}, {
		"identity without a length",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nX-A: 1\r\n\r\nok\x00",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nX-A: 1\r\n\r\nok",
	}, {
		"chunked twice, which is once",
		"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n" +
			"ok\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nConnection: close\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n" +
			"0\r\n\r\n",
	}, {
		"chunked twice in a field",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n" +
			"0\r\n\r\n",
	}, {
		"another coding inside of chunked",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\n" +
			"ok\r\n0\r\n\r\n",
	}, {
		"chunked inside of another coding",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n" +
			"Content-Length: 1\r\n\r\nok\x00",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n" +
			"Transfer-Encoding: gzip\r\n\r\nok",
	}, {
		"a coding overrides a length",
		"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n" +
			"0\r\n\r\n",
	}, {
		"a coding overrides lengths that differ",
		"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n" +
			"\r\n2\r\nok\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n" +
			"0\r\n\r\n",
	}, {
		"chunked in HTTP/1.0",
		"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"HTTP/1.0 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n" +
			"0\r\n\r\n",
	}, {
		"a length twice",
		"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nX-A: 1\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nConnection: close\r\ncontent-length: 2\r\nX-A: 1\r\n\r\nok",
	}, {
		"a length twice in a field",
		"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
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
		"HTTP/1.1 204 No Content\r\nConnection: close\r\nContent-Length: 2\r\n\r\n",
	}, {
		"205 with a length, whose body browsers don't read",
		"HTTP/1.1 205 Reset Content\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 205 Reset Content\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
	}, {
		"205 with chunks",
		"HTTP/1.1 205 Reset Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 205 Reset Content\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n" +
			"0\r\n\r\n",
	}, {
		"chunks that are padded, and a trailer that is no field",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2 \t \r\nok\r\n00000\r\nX-T\xe9 1\n\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2 \t \r\nok\r\n00000\r\nX-T\xe9 1\n\n",
	}, {
		"chunks that end in line feeds alone, of which Python takes the second for the last",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\n10\r\n\r\n23456789abcdef\n0;x\n\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n10\r\n\r\n23456789abcdef\r\n" +
			"0;x\r\n\n",
	}, {
		"a chunk whose size ends at a carriage return for some clients, with another one in it",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5 ;a\nhello\r\n9\r\n\r\n0\r\n\r\n\r\n\r\n" +
			"0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5 ;a\r\nhello\r\n9\r\n\r\n0\r\n\r\n" +
			"\r\n\r\n0\r\n\r\n",
	}, {
		"what is no chunk goes to a client that can judge it",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: , chunked\r\n\r\n2\nok\r\nzz\r\nmore\x00",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\r\nzz\r\n" +
			"more",
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
				conn, far := ask(t, getA)
				go say(far, said, step, ends)
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

// ask sends a request for a.test, and returns the client's connection and the target's.
func ask(t *testing.T, request string) (conn, far *net.TCPConn) {
	t.Helper()
	near, far := tcpPair(t)
	conn = connect(t, startServer(t, Config{Dial: dialTo(near)}))
	mustWrite(t, conn, request)
	mustRead(t, far, askedA)
	return conn, far
}

// askOverPipes is ask with pipes, whose writes wait to be read, for a test in a bubble.
func askOverPipes(t *testing.T) (client, far net.Conn) {
	t.Helper()
	client, far = overPipes(t)
	mustWrite(t, client, getA)
	mustRead(t, far, askedA)
	return client, far
}

// say sends a response in pieces of step bytes. The target then ends it, or waits.
func say(far *net.TCPConn, said string, step int, ends bool) {
	for b := said; len(b) > 0; b = b[min(step, len(b)):] {
		if _, err := io.WriteString(far, b[:min(step, len(b))]); err != nil {
			return // the proxy has cut it
		}
	}
	if ends {
		far.CloseWrite()
	}
}

// earlyEnds are chunked bodies whose end some clients find where others don't, or find that there
// is no chunk, and how much of each gets to a client whose connection was to go on.
var earlyEnds = []struct{ body, passed string }{
	{"5\r\nhello0\r\n\r\n", "5\r\nhello"},   // Firefox
	{"5\r\nhelloXX0\r\n\r\n", "5\r\nhello"}, // Python
	{"5_0\r\nhello\r\n99999\r\n", "5"},      // Python
	{"5 _0\r\n", "5 "},
	{"\n0\r\n\r\n", ""},
	{"5;\x00\r\nhello", "5;"},
	{"0x5\r\nhello\r\n0\r\n\r\n", "0"},                     // Firefox, Python
	{"5\r\nhello\r\n0\r\n\x00\r\n", "5\r\nhello\r\n0\r\n"}, // Firefox
	{"0\r\nX: y\r\n\x00\r\n", "0\r\nX: y\r\n"},             // Firefox
	{"0\r\nX: \x00\r\n", "0\r\nX: "},
	{"0\r\nX\x7f\r\n", "0\r\nX"},
	{"0\r\nX: a\rb\r\n", "0\r\nX: a\r"},
	{"0\r\n\rX\r\n", "0\r\n\r"}, // Chromium, Firefox
	{"zz\r\n", ""},
	{"\r\n0\r\n\r\n", ""},
	{"0\r\nX: " + strings.Repeat("x", maxChunkLine), "0\r\nX: " +
		strings.Repeat("x", maxChunkLine-len("X: "))},
}

// TestEarlyEnd: where a client may take a response to be over, nothing more of its target follows
// on a connection that was to go on: it would be the response to the client's next request, even
// one for another server. The target waits for that. The client sees that the response was cut.
func TestEarlyEnd(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, tt := range earlyEnds {
		for _, step := range []int{1, 7, len(head) + len(tt.body)} {
			if step == 1 && len(tt.body) > maxChunkLine {
				continue // slow
			}
			conn, far := ask(t, getA)
			go say(far, head+tt.body, step, false)
			got, err := io.ReadAll(conn)
			if string(got) != head+tt.passed || err != nil {
				t.Errorf("%.60q: the client gets %.120q, %v", tt.body, got, err)
			}
			resp := mustGetResponse(t, bufio.NewReader(bytes.NewReader(got)), "GET")
			if _, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("%.60q: the response looks complete", tt.body)
			}
			conn.Close()
			if rest, err := io.ReadAll(far); len(rest) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%.60q: the target gets %q, %v", tt.body, rest, err)
			}
		}
	}
}

// TestEarlyEndOfLast: a client that has no other request judges by itself.
func TestEarlyEndOfLast(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\n"
	const request = "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"
	for _, tt := range earlyEnds {
		body := "Transfer-Encoding: chunked\r\n\r\n" + tt.body
		conn, far := ask(t, request)
		go say(far, head+body, len(head)+len(body), true)
		got, _ := io.ReadAll(conn) // fails where there is no end that all see
		if string(got) != head+"Connection: close\r\n"+body {
			t.Errorf("%.60q: the client gets %.120q", tt.body, got)
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
	{"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", "POST", framedByLength, 0, false, ""},
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
