package socks

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

const (
	askedA = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
	okA    = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	postA  = "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\n"
	gotA   = "POST / HTTP/1.1\r\nHost: a.test\r\n"
)

// syncBuffer is a buffer for several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// targets dials connections of a test's, one after the other, and counts.
func targets(conns ...*net.TCPConn) (Dialer, *atomic.Int32) {
	var n atomic.Int32
	return func(context.Context, string, string) (net.Conn, error) {
		i := int(n.Add(1)) - 1
		if i >= len(conns) {
			return nil, io.ErrUnexpectedEOF
		}
		return conns[i], nil
	}, &n
}

// mustEnd checks that a connection ends with an end of file, and nothing ahead of it.
func mustEnd(t *testing.T, conn net.Conn) {
	t.Helper()
	if b, err := io.ReadAll(conn); len(b) > 0 || err != nil {
		t.Fatalf("at the end: %q, %v", b, err)
	}
}

// TestInterim: interim responses go through, as many as a browser takes, but not to clients of
// HTTP/1.0, which know none.
func TestInterim(t *testing.T) {
	const n = maxInterim
	const last = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
	for _, tt := range []struct{ interim, request, passed, then string }{
		{"100 Continue", "HTTP/1.1\r\n", "100 Continue", okA},
		{"100 Continue", "HTTP/1.0\r\n", "", last},
		{"102 Processing", "HTTP/1.1\r\n", "102 Processing", okA},
		{"102 Processing", "HTTP/1.1\r\nConnection: close\r\n", "102 Processing", last},
		{"103 Early Hints", "HTTP/1.1\r\nProxy-Connection: close\r\n", "103 Early Hints", last},
		{"102 Processing", "HTTP/1.0\r\n", "", last},
	} {
		conn, far := ask(t, "GET http://a.test/ "+tt.request+"Host: a.test\r\n\r\n")
		mustWrite(t, far, strings.Repeat("HTTP/1.1 "+tt.interim+"\r\nX: 1\r\nKeep-Alive: 1\r\n\r\n", n)+
			okA)
		want := tt.then
		if tt.passed != "" {
			want = strings.Repeat("HTTP/1.1 "+tt.passed+"\r\nX: 1\r\n\r\n", n) + want
		}
		mustRead(t, conn, want)
	}
}

// TestInterimTakenForFinal: a client that sends another request behind an interim response, which
// it may have taken for the final one, doesn't get the final one, which it would take for the
// response to that request. One that had sent it before doesn't get the interim response.
func TestInterimTakenForFinal(t *testing.T) {
	const request = "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"
	const hints = "HTTP/1.1 103 Early Hints\r\nX: 1\r\n\r\n"
	conn, far := ask(t, request)
	mustWrite(t, far, hints)
	mustRead(t, conn, hints)
	mustWrite(t, conn, strings.ReplaceAll(request, "a.test", "b.test"))
	mustEnd(t, far) // the proxy has left the target
	mustEnd(t, conn)

	near, far := tcpPair(t)
	conn = connect(t, startServer(t, Config{Dial: dialTo(near)}))
	mustWrite(t, conn, request+request)
	mustRead(t, far, askedA)
	mustWrite(t, far, hints+okA)
	mustRead(t, conn, okA)
}

// TestMisledAtOnce is TestInterimTakenForFinal for a client that sends its next request at once,
// and for a target whose final response is there already.
func TestMisledAtOnce(t *testing.T) {
	const hints = "HTTP/1.1 103 Early Hints\r\nX: 1\r\n\r\n"
	for name, test := range map[string]struct {
		pause          time.Duration
		before, behind string
	}{
		"at once":  {0, hints, okA},
		"buffered": {2 * watchDelay, hints + hints + okA, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, far := askOverPipes(t)
				time.Sleep(test.pause) // synctest
				mustWrite(t, far, test.before)
				mustRead(t, client, hints)
				go io.WriteString(client, strings.ReplaceAll(getA, "a.test", "b.test"))
				synctest.Wait()
				go io.WriteString(far, test.behind) // or the proxy has left
				if got, _ := io.ReadAll(client); strings.Contains(string(got), "200 OK") {
					t.Errorf("the client got %q", got)
				}
			})
		})
	}
}

// TestDecodedForOldClient: a client of HTTP/1.0 gets the data of chunks alone, however they come.
func TestDecodedForOldClient(t *testing.T) {
	body := counted(0, 100_000)
	var chunks strings.Builder
	for b := body; len(b) > 0; {
		n := min(len(b), 1+len(b)%9999)
		fmt.Fprintf(&chunks, "%X;x=y\r\n%s\r\n", n, b[:n])
		b = b[n:]
	}
	chunks.WriteString("0\r\nX: y\r\n\r\n")
	near, far := tcpPair(t)
	conn := connect(t, startServer(t, Config{Dial: dialTo(near)}))
	mustWrite(t, conn, "GET http://a.test/ HTTP/1.0\r\nHost: a.test\r\n\r\n")
	mustRead(t, far, askedA)
	go io.WriteString(far,
		"HTTP/1.1 200 OK\r\nTrailer: X\r\nTransfer-Encoding: chunked\r\n\r\n"+chunks.String())
	mustRead(t, conn, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"+body)
	mustEnd(t, conn)
}

// cutTests are what targets send of a response, and end. All of it arrives, and the end after it.
var cutTests = []string{
	"Content-Length: 2000100\r\n\r\n%",
	"Transfer-Encoding: chunked\r\n\r\n1E8480\r\n%",
	"Transfer-Encoding: chunked\r\n\r\n1E8480\r\n%\r\n",
	"Transfer-Encoding: chunked\r\n\r\n1E8480\r\n%\r\n0\r\n",
	"Transfer-Encoding: chunked\r\n\r\n1E8480\r\n%\r\n0\r\nX: y\r\n",
	"Transfer-Encoding: chunked\r\n\r\n1E8490\r\n%",
	"Transfer-Encoding: chunked\r\n\r\n1E8480\r\n%\r\n2",
	"Transfer-Encoding: chunked\r\n\r\n1E8480\r\n%\r\nzz\r\n",
}

// TestCutResponseDelivers: what came of a response that is cut short is not lost, also when the
// client reads late, and it is seen to be cut short.
func TestCutResponseDelivers(t *testing.T) {
	data := counted(0, 2_000_000)
	for _, said := range cutTests {
		near, far := tcpPair(t)
		conn := connect(t, startServer(t, Config{Dial: dialTo(near)}))
		mustWrite(t, conn, getA)
		mustRead(t, far, askedA)
		said = "HTTP/1.1 200 OK\r\n" + strings.ReplaceAll(said, "%", data)
		go func() {
			io.WriteString(far, said)
			far.CloseWrite()
		}()
		got, err := io.ReadAll(conn)
		if string(got) != strings.TrimSuffix(said, "zz\r\n") || err != nil { // which is no chunk
			t.Errorf("%.60q: got %d bytes of %d, %v", said, len(got), len(said), err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(got)), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("%.60q: the response looks complete", said)
		}
	}
}

// brokenTarget answers, and then fails.
type brokenTarget struct {
	net.Conn
	answer io.Reader
}

func (c brokenTarget) Read(p []byte) (int, error) {
	if n, _ := c.answer.Read(p); n > 0 {
		return n, nil
	}
	return 0, syscall.ECONNRESET
}

// TestResetAfterData: a response that its client can't know the length of, and that is cut short,
// is ended by a reset for the client too. That overtakes nothing: the client's receive buffer is
// small, so that most of the data is still on its way then.
func TestResetAfterData(t *testing.T) {
	data := counted(0, 500_000)
	for _, tt := range []struct{ version, head, body string }{
		{"1.1", "HTTP/1.1 200 OK\r\n\r\n", data},
		{"1.0", "HTTP/1.1 200 OK\r\n\r\n", data},
		{"1.0", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "7A120\r\n" + data + "\r\n"},
	} {
		near, _ := tcpPair(t)
		addr := startServer(t, Config{Dial: func(context.Context, string, string) (net.Conn, error) {
			return brokenTarget{near, strings.NewReader(tt.head + tt.body)}, nil
		}})
		conn := connect(t, addr)
		conn.SetReadBuffer(32 << 10)
		mustWrite(t, conn, "GET http://a.test/ HTTP/"+tt.version+"\r\nHost: a.test\r\n\r\n")
		got, err := io.ReadAll(conn)
		if want := "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + data; string(got) != want ||
			!isReset(err) {
			t.Errorf("HTTP/%s, %q: got %d bytes of %d, %v", tt.version, tt.head, len(got), len(want), err)
		}
	}
}

// TestEarlyResponse: an answer that comes while the client still sends reaches a client that reads
// it only when it has sent all, whether its target reads on, reads nothing more, or is gone.
func TestEarlyResponse(t *testing.T) {
	const size = 24 << 20
	for _, close := range []string{"", "Connection: close\r\n"} {
		for _, mode := range []string{"reads on", "stops", "is gone", "closes its half"} {
			if mode == "stops" && close == "" {
				continue // the target may want it yet
			}
			t.Run(mode+" "+close, func(t *testing.T) {
				near, far := tcpPair(t)
				conn := connect(t, startServer(t, Config{Dial: dialTo(near)}))
				head := "Content-Length: " + strconv.Itoa(size) + "\r\n\r\n"
				mustWrite(t, conn, postA+head)
				mustRead(t, far, gotA+head)
				mustWrite(t, far, "HTTP/1.1 413 Too Large\r\n"+close+"Content-Length: 2\r\n\r\nno")
				got := make(chan int64, 1)
				switch mode {
				case "closes its half":
					far.CloseWrite()
					fallthrough
				case "reads on":
					go func() {
						n, _ := io.CopyN(io.Discard, far, size)
						got <- n
					}()
				case "is gone":
					far.Close()
				}
				mustWrite(t, conn, strings.Repeat("x", size))
				mustRead(t, conn, "HTTP/1.1 413 Too Large\r\n"+close+"Content-Length: 2\r\n\r\nno")
				if mode == "reads on" || mode == "closes its half" {
					if n := <-got; n != size {
						t.Errorf("the target gets %d bytes", n)
					}
				}
				if close != "" {
					mustEnd(t, conn)
				}
			})
		}
	}
}

// TestOwnAnswerWhileUploading: so does an answer of this proxy's own.
func TestOwnAnswerWhileUploading(t *testing.T) {
	const size = 10 << 20
	body := "Content-Length: " + strconv.Itoa(size) + "\r\n\r\n" + strings.Repeat("x", size)
	for sent, status := range map[string]string{
		postA + body: "502",
		"POST http://a.test:0/ HTTP/1.1\r\nHost: a\r\n" + body:                              "400",
		"POST / HTTP/1.1\r\nHost: a\r\n" + body:                                             "400",
		"POST http://a.test/ HTTP/1.1\r\nHost: a\r\nX : y\r\n" + body:                       "400",
		"POST http://a.test/ HTTP/4.1\r\nHost: a\r\nX : y\r\n" + body:                       "505",
		"POST http://a.test/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n" + body:                     "400",
		"POST http://a.test/ HTTP/1.1\r\n" + strings.Repeat("A: b\r\n", maxFields+1) + body: "431",
	} {
		conn := connect(t, startServer(t, Config{Dial: dialFails(io.EOF)}))
		mustWrite(t, conn, sent)
		got, err := io.ReadAll(conn)
		if !strings.HasPrefix(string(got), "HTTP/1.1 "+status+" ") || err != nil {
			t.Errorf("%.60q: got %q, %v", sent, got, err)
		}
	}
}

// TestErrorHonoursClose: after an answer of this proxy's own the connection ends at once when
// that was the client's last request, and else serves another one.
func TestErrorHonoursClose(t *testing.T) {
	for request, ends := range map[string]bool{
		"GET http://a.test/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n":            true,
		"GET http://a.test/ HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n":         true,
		"GET http://a.test/ HTTP/1.1\r\nHost: a\r\nProxy-Connection: close\r\n\r\n":      true,
		"GET http://a.test/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n":                  true,
		"GET http://a.test/ HTTP/1.1\r\nHost: a\r\nProxy-Connection: keep-alive\r\n\r\n": false,
		"GET http://a.test/ HTTP/1.1\r\nHost: a\r\n\r\n":                                 false,
		"GET https://a.test/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n":           true,
	} {
		conn := connect(t, startServer(t, Config{Dial: dialFails(io.EOF)}))
		in := bufio.NewReader(conn)
		for range 2 {
			mustWrite(t, conn, request)
			resp := mustGetResponse(t, in, "GET")
			io.Copy(io.Discard, resp.Body)
			if resp.Close != ends {
				t.Errorf("%q: close %v", request, resp.Close)
			}
			if ends {
				if n, err := in.Read(make([]byte, 1)); n != 0 || err != io.EOF {
					t.Errorf("%q: then %d bytes, %v", request, n, err)
				}
				break
			}
		}
	}
}

// TestStaleTarget: a target's connection that has served before, and ends as the next request
// comes, is replaced for what does no harm when it is asked twice. Any other request ends the
// client's connection without an answer, so that the client decides.
func TestStaleTarget(t *testing.T) {
	for request, repeats := range map[string]bool{
		getA: true,
		"DELETE http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n": true,
		postA + "\r\n":                          false,
		postA + "Content-Length: 4\r\n\r\nbody": false,
		postA + "Content-Length: 9\r\n\r\nbody": false,
		"PUT http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody": false,
	} {
		for _, how := range []string{"ends", "resets"} {
			near, far := tcpPair(t)
			near2, far2 := tcpPair(t)
			dial, dials := targets(near, near2)
			conn := connect(t, startServer(t, Config{Dial: dial}))
			mustWrite(t, conn, getA)
			mustRead(t, far, askedA)
			mustWrite(t, far, okA)
			mustRead(t, conn, okA)
			mustWrite(t, conn, request)
			method, _, _ := strings.Cut(request, " ")
			mustRead(t, far, method+" / HTTP/1.1\r\n")
			if how == "resets" {
				reset(far)
			} else {
				far.Close()
			}
			if !repeats {
				mustEnd(t, conn)
				if n := dials.Load(); n != 1 {
					t.Errorf("%.20q: %d dials", request, n)
				}
				continue
			}
			mustRead(t, far2, method+" / HTTP/1.1\r\nHost: a.test\r\n\r\n")
			mustWrite(t, far2, okA)
			mustRead(t, conn, okA)
		}
	}
}

// TestFreshTargetEnds: one that ends without an answer, and has not served before, is told of.
func TestFreshTargetEnds(t *testing.T) {
	near, far := tcpPair(t)
	dial, dials := targets(near)
	conn := connect(t, startServer(t, Config{Dial: dial}))
	mustWrite(t, conn, getA)
	mustRead(t, far, askedA)
	far.Close()
	mustRead(t, conn, "HTTP/1.1 502 Bad Gateway\r\n")
	if n := dials.Load(); n != 1 {
		t.Errorf("%d dials", n)
	}
}

// TestUnsolicited: what a target sends that nobody asked for ends its connection, not the
// client's, and is not in the log.
func TestUnsolicited(t *testing.T) {
	const secret = "SECRET-EXTRA"
	for _, when := range []string{"with the response", "later"} {
		near, far := tcpPair(t)
		near2, far2 := tcpPair(t)
		dial, _ := targets(near, near2)
		var log syncBuffer
		logger := zerolog.New(&log)
		conn := connect(t, startServer(t, Config{Dial: dial, Log: &logger}))
		mustWrite(t, conn, getA)
		mustRead(t, far, askedA)
		if when == "later" {
			mustWrite(t, far, okA)
			mustRead(t, conn, okA)
			mustWrite(t, far, "HTTP/1.1 408 Request Timeout\r\nX: "+secret+"\r\n\r\n")
		} else {
			mustWrite(t, far, okA+secret)
			mustRead(t, conn, okA)
		}
		if b, err := io.ReadAll(far); len(b) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the target gets %q, %v", when, b, err)
		}
		mustWrite(t, conn, getA)
		mustRead(t, far2, askedA)
		mustWrite(t, far2, okA)
		mustRead(t, conn, okA)
		conn.Close()
		mustEnd(t, far2)
		if text := log.String(); strings.Contains(text, secret) {
			t.Errorf("%s: the log has %q", when, text)
		}
	}
}

// TestUnsolicitedSwitch: a target that switches protocols when nobody asked for it has given no
// valid response.
func TestUnsolicitedSwitch(t *testing.T) {
	for _, fields := range []string{"", "Upgrade: websocket\r\n",
		"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n"} {
		near, far := tcpPair(t)
		conn := connect(t, startServer(t, Config{Dial: dialTo(near)}))
		mustWrite(t, conn, "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n"+fields+"\r\n")
		mustRead(t, far, askedA)
		mustWrite(t, far,
			"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
		mustRead(t, conn, "HTTP/1.1 502 Bad Gateway\r\n")
		mustEnd(t, far)
	}
}

// TestUpgradeWithBody is what docker exec does: the body of the request goes first, and then the
// connection is the other protocol's, in both directions and half by half.
func TestUpgradeWithBody(t *testing.T) {
	for _, body := range []string{
		"Content-Length: 16\r\n\r\n{\"Detach\":false}",
		"Transfer-Encoding: chunked\r\n\r\n10\r\n{\"Detach\":false}\r\n0\r\n\r\n",
	} {
		near, far := tcpPair(t)
		conn := connect(t, startServer(t, Config{Dial: dialTo(near)}))
		fields := "Connection: Upgrade\r\nUpgrade: tcp\r\n"
		mustWrite(t, conn, postA+fields+body[:len(body)-8])
		mustRead(t, far, gotA+fields+body[:len(body)-8])
		switched := "HTTP/1.1 101 UPGRADED\r\n" +
			"Content-Type: application/vnd.docker.raw-stream\r\nUpgrade: tcp\r\n"
		mustWrite(t, far, switched+"Connection: Upgrade\r\n\r\nhello")
		mustWrite(t, conn, body[len(body)-8:]+"early")
		mustRead(t, far, body[len(body)-8:]+"early")
		mustRead(t, conn, strings.Replace(switched, "\r\n", "\r\nConnection: Upgrade\r\n", 1)+"\r\nhello")
		conn.CloseWrite()
		mustEnd(t, far)
		mustWrite(t, far, "bye")
		far.Close()
		mustRead(t, conn, "bye")
		mustEnd(t, conn)
	}
}

// TestHalfClosedClient: a client may close its half when it has sent its requests, and gets its
// answers. The target is told. At dialing, the end of file is there before the target is.
func TestHalfClosedClient(t *testing.T) {
	for _, dialing := range []bool{false, true} {
		for _, request := range []string{getA, postA + "Content-Length: 4\r\n\r\nbody", getA + getA} {
			near, far := tcpPair(t)
			tcp, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ln := spyListener{tcp, make(chan error, 1)}
			serve(t, newServer(t, Config{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				if dialing {
					select {
					case <-ln.ends:
					case <-ctx.Done():
						t.Error("the end of file was not seen during the dial, or ended it")
					}
				}
				return near, ctx.Err()
			}}), ln)
			conn := connect(t, tcp.Addr().String())
			mustWrite(t, conn, request)
			conn.CloseWrite()
			asked := strings.ReplaceAll(strings.ReplaceAll(request, getA, askedA), postA, gotA)
			for asked != "" {
				first := asked[:min(len(asked), len(askedA))]
				if strings.HasPrefix(asked, gotA) {
					first = asked
				}
				mustRead(t, far, first)
				if asked = asked[len(first):]; asked == "" {
					mustEnd(t, far)
				}
				mustWrite(t, far, okA)
				mustRead(t, conn, okA)
			}
			mustEnd(t, conn)
		}
	}
}

// TestHalfClosedIsBounded: a client that has closed its half may have gone, so that its target may
// not be silent for ever. One that sends may go on.
func TestHalfClosedIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		target := newTargetConn(t.Context(), halfPipe{near}, "")
		defer target.Close()
		go func() {
			for range 3 {
				time.Sleep(halfClosedTimeout - time.Second) // virtual time
				far.Write([]byte("x"))
			}
		}()
		began := time.Now()
		if !target.closeWrite() {
			t.Fatal("not half-closed")
		}
		n, err := io.Copy(io.Discard, target)
		want := 3*(halfClosedTimeout-time.Second) + halfClosedTimeout
		if d := time.Since(began); n != 3 || !errors.Is(err, os.ErrDeadlineExceeded) || d != want {
			t.Errorf("%d bytes, %v after %v, want %v", n, err, d, want)
		}
	})
}

// TestSlowUpload: an upload may pause for as long as a program may need for its next line.
func TestSlowUpload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, far := overPipes(t)
		head := "Transfer-Encoding: chunked\r\n\r\n"
		go io.WriteString(conn, postA+head)
		mustRead(t, far, gotA+head)
		for _, piece := range []string{"5\r\nhello\r\n", "1\r\n", "x\r\n", "0\r\n\r\n"} {
			time.Sleep(bodyTimeout - time.Second) // virtual time
			go io.WriteString(conn, piece)
			mustRead(t, far, piece)
		}
		go io.WriteString(far, okA)
		mustRead(t, conn, okA)
	})
}

// TestExpectIsPassedOn: the client hears the target's own word, whenever it comes, and one that
// doesn't wait for it is not held up.
func TestExpectIsPassedOn(t *testing.T) {
	near, far := tcpPair(t)
	conn := connect(t, startServer(t, Config{Dial: dialTo(near)}))
	head := "Expect: 100-continue\r\nContent-Length: 4\r\n\r\n"
	mustWrite(t, conn, postA+head+"body")
	mustRead(t, far, gotA+head+"body")
	mustWrite(t, far, "HTTP/1.1 100 Go on\r\nX: y\r\n\r\n"+okA)
	mustRead(t, conn, "HTTP/1.1 100 Go on\r\nX: y\r\n\r\n"+okA)
	mustWrite(t, conn, getA)
	mustRead(t, far, askedA)
}

// TestTargetOfOldVersion: a target of HTTP/1.0 ends its connection after its response, and so
// does the client's, whose version is told as it is.
func TestTargetOfOldVersion(t *testing.T) {
	near, far := tcpPair(t)
	conn := connect(t, startServer(t, Config{Dial: dialTo(near)}))
	mustWrite(t, conn, getA)
	mustRead(t, far, askedA)
	mustWrite(t, far, "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")
	mustRead(t, conn, "HTTP/1.0 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
	mustEnd(t, conn)
	mustEnd(t, far)
}

// TestReuse: which responses let the target's connection serve another request.
func TestReuse(t *testing.T) {
	for said, reuses := range map[string]bool{
		okA:                               true,
		"HTTP/1.1 204 No Content\r\n\r\n": true,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n":         true,
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok":    false,
		"HTTP/1.1 200 OK\r\nConnection: x, CLOSE\r\nContent-Length: 2\r\n\r\nok": false,
	} {
		near, far := tcpPair(t)
		near2, far2 := tcpPair(t)
		dial, _ := targets(near, near2)
		conn := connect(t, startServer(t, Config{Dial: dial}))
		mustWrite(t, conn, getA)
		mustRead(t, far, askedA)
		mustWrite(t, far, said)
		io.Copy(io.Discard, mustGetResponse(t, bufio.NewReader(conn), "GET").Body)
		mustWrite(t, conn, getA)
		if reuses {
			mustRead(t, far, askedA)
		} else {
			mustEnd(t, far)
			mustRead(t, far2, askedA)
		}
	}
}

// TestIdleTargets: connections that wait are bounded in number and time, and end with the client's.
func TestIdleTargets(t *testing.T) {
	var fars []*net.TCPConn
	var nears []*net.TCPConn
	for range maxIdleTargets + 1 {
		near, far := tcpPair(t)
		nears, fars = append(nears, near), append(fars, far)
	}
	dial, _ := targets(nears...)
	conn := connect(t, startServer(t, Config{Dial: dial}))
	for i, far := range fars {
		host := "a" + strconv.Itoa(i) + ".test"
		mustWrite(t, conn, "GET http://"+host+"/ HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
		mustRead(t, far, "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
		mustWrite(t, far, okA)
		mustRead(t, conn, okA)
	}
	mustEnd(t, fars[0])
	began := time.Now()
	mustEnd(t, fars[1]) // by its time
	if d := time.Since(began); d > targetIdleTimeout+time.Second {
		t.Errorf("after %v", d)
	}
	conn.Close()
	for _, far := range fars[2:] {
		mustEnd(t, far)
	}
}

// TestLargeBufferIsGivenBack: an idle exchange holds no large buffer.
func TestLargeBufferIsGivenBack(t *testing.T) {
	r, w := io.Pipe()
	var out bytes.Buffer
	c := bodyCopy{dst: &out, in: bufio.NewReaderSize(r, readBufferSize),
		body: &framing{kind: framedByClose}}
	go func() {
		for range 4 {
			w.Write(make([]byte, readBufferSize))
		}
		w.Write(make([]byte, 10))
		w.Write(make([]byte, 10))
		w.CloseWithError(errors.New("end"))
	}()
	var large, small bool
	for {
		if err := c.step(); err != nil {
			break
		}
		large = large || c.large != nil
		small = large && c.large == nil
	}
	if !large || !small || out.Len() != 4*readBufferSize+20 {
		t.Errorf("large %v, small %v, %d bytes", large, small, out.Len())
	}
}

// TestBodyBeforeReset: what a client has sent of its request's body before it is reset arrives,
// whether or not the body is complete.
func TestBodyBeforeReset(t *testing.T) {
	for _, size := range []int{1, readBufferSize / 2, 5 * readBufferSize} {
		for _, missing := range []int{0, 1} {
			d := startSlowDial(t, size < readBufferSize) // else the watch ends before the reset
			rest := fmt.Sprintf("Content-Length: %d\r\n\r\n%s", size+missing, counted(0, size))
			mustWrite(t, d.client, postA+rest)
			<-d.dialing
			d.reset()
			if got, err := io.ReadAll(d.target); string(got) != gotA+rest || err != nil && !isReset(err) {
				t.Errorf("%d bytes, %d missing: got %d of %d, %v", size, missing, len(got),
					len(gotA+rest), err)
			}
		}
	}
}
